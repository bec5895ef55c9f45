"""Which sandbox a build gets at this site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kasbah.agent.build.environment import passed_on
from kasbah.agent.build.indexes import Indexes
from kasbah.agent.build.sandbox import Sandbox
from kasbah.agent.confine import system
from kasbah.agent.paths import Paths
from kasbah.drivers.process import ProcessDriver


class Sandboxes(Protocol):
    """Answers with the sandbox of one build. `closed`: what is built may not call just anything."""

    async def __call__(self, *, closed: bool) -> Sandbox: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSandboxes:
    """Sandboxes of the mechanisms that keep replicas apart, which see nothing of the site. A closed one reaches package
    indexes only, where the machine can be told so (`closable`)."""

    driver: ProcessDriver
    mechanisms: tuple[str, ...]
    hidden: tuple[Path, ...]
    user: int | None
    closable: bool
    indexes: Indexes

    async def __call__(self, *, closed: bool) -> Sandbox:
        """Raises Unavailable where the runner does not answer."""
        if not closed or not self.closable:
            return Sandbox(mechanisms=self.mechanisms, hidden=self.hidden, user=self.user)
        user, names = await self.driver.supply(await self.indexes.ends())
        return Sandbox(mechanisms=self.mechanisms, hidden=self.hidden, user=user, names=names)


async def sandboxes_of(driver: ProcessDriver, paths: Paths) -> SiteSandboxes:
    """The sandboxes of the site whose runner this is."""
    user, closable = await driver.builder()
    return SiteSandboxes(
        driver=driver,
        mechanisms=(await driver.isolation()).mechanisms,
        hidden=hidden_of(paths),
        user=user,
        closable=closable,
        indexes=Indexes(passed_on()),
    )


def hidden_of(paths: Paths) -> tuple[Path, ...]:
    """What tools do not see but for what they are given: the site's data, and all that lies around it. They look for
    settings in every folder above their own; what is there and may not be read would be an error to them."""
    root, first, *_ = (*reversed(paths.data_dir.parents), paths.data_dir)
    around = () if any(one.is_relative_to(first) for one in (*system.READABLE, system.ETC, root / "dev")) else (first,)
    return (*around, paths.data_dir, paths.sockets)
