"""The secrets that services at this site use: fetched from the control plane once, kept sealed, so that replicas start
with the control plane away.

A value is never in the desired state, in a log or in an argument list. What no revision names any more is erased.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from kasbah.api.sealing import load_or_make_vault
from kasbah.domain.ids import SecretId
from kasbah.domain.revision import Revision
from kasbah.domain.secret import Delivery, SecretUse
from kasbah.errors import KasbahError

log = structlog.get_logger()

KEY = "key"
PAUSE = 2.0
"""Seconds before a secret that could not be fetched is asked for again."""

Held = tuple[SecretId, int]
Own = Callable[[SecretUse, Revision], str | None]
Fetch = Callable[[SecretId, int], Awaitable[bytes]]


class Keyring:
    """The secrets in `folder`. `fetch` asks the control plane; `arrived` is called once more are here; `own` are those
    that this site makes itself."""

    def __init__(
        self,
        folder: Path,
        fetch: Fetch,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        arrived: Callable[[], None],
        own: Own = lambda _use, _revision: None,
    ) -> None:
        self._own = own
        self._folder = folder
        self._vault = load_or_make_vault(folder / KEY)
        self._fetch = fetch
        self._spawn = spawn
        self._arrived = arrived
        self._fetching: set[Held] = set()
        self.problem = ""

    def has(self, revision: Revision) -> bool:
        """Whether every secret of the revision is here; what is missing is fetched."""
        missing = [use for use in revision.secrets if self._own(use, revision) is None and not self._file(use).exists()]
        for use in missing:
            held = (use.secret, use.version)
            if held not in self._fetching:
                self._fetching.add(held)
                self._spawn(self._bring(use))
        return not missing

    def environment(self, revision: Revision) -> Mapping[str, str]:
        """The variables that bring secrets. Raises KasbahError where one cannot be opened, OSError where it is gone."""
        return {
            use.variable: self._own(use, revision) or self._open(use).decode("utf-8", "surrogateescape")
            for use in revision.secrets
            if use.delivery is Delivery.ENV
        }

    def files(self, revision: Revision) -> Mapping[str, bytes]:
        """The files that bring secrets, by variable."""
        return {use.variable: self._open(use) for use in revision.secrets if use.delivery is Delivery.FILE}

    def keep(self, revisions: Iterable[Revision]) -> None:
        """Erase what none of these names."""
        wanted = {self._file(use).name for one in revisions for use in one.secrets} | {KEY}
        for path in self._folder.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    async def _bring(self, use: SecretUse) -> None:
        try:
            value = await self._fetch(use.secret, use.version)
            fresh = self._file(use).with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(self._vault.seal(value, _context(use)))
            fresh.replace(self._file(use))
            self.problem = ""
        except (KasbahError, OSError) as error:
            self.problem = f"a secret cannot be had: {error}"
            log.warning("a secret cannot be had", secret=use.secret, version=use.version, reason=str(error))
            await asyncio.sleep(PAUSE)
        finally:
            self._fetching.discard((use.secret, use.version))
            self._arrived()

    def _open(self, use: SecretUse) -> bytes:
        return self._vault.open(self._file(use).read_bytes(), _context(use))

    def _file(self, use: SecretUse) -> Path:
        return self._folder / f"{use.secret}-{use.version}"


def _context(use: SecretUse) -> str:
    return f"secret {use.secret} version {use.version}"
