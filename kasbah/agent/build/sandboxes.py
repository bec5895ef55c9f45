"""Which sandbox a build gets at this site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kasbah.agent.build.environment import passed_on
from kasbah.agent.build.indexes import Indexes
from kasbah.agent.build.sandbox import Sandbox
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
        hidden=(paths.data_dir, paths.sockets),
        user=user,
        closable=closable,
        indexes=Indexes(passed_on()),
    )
