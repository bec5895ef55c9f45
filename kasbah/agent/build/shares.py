"""How much of the machine a build may take: what serves goes first.

A build gets the processors when nothing else wants them, and memory up to a limit of its own; where the machine itself
runs out of memory, builds are what ends. The limits need control groups, and so root; giving way does not.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.runner import cgroups
from kasbah.errors import Unavailable

PART = 2
"""Unless it is said otherwise a build may have one part in so many of the machine's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One build's: the control groups that its tools are in, and the bytes of memory that they may have together."""

    groups: tuple[Path, ...] = ()
    memory: int = 0

    @property
    def ended(self) -> int:
        """How many processes were ended for wanting more memory than this."""
        return cgroups.ended_by_limit(self.groups)


NO_LIMIT = Share()


class Shares:
    """The shares of a site's builds. `tag` tells its control groups from other sites'."""

    def __init__(self, tag: str, memory: int | None = None) -> None:
        self._memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // PART
        self._groups = cgroups.Groups(f"builds-{tag}")
        self._given: set[Path] = set()

    @contextmanager
    def one(self) -> Iterator[Share]:
        """A share for as long as a build lasts. Raises Unavailable."""
        self.recover()
        try:
            groups = self._groups.make(secrets.token_hex(4))
            self._groups.limit(groups, cpu=None, memory=self._memory)
            self._groups.give_way(groups)
        except OSError as error:
            raise Unavailable(
                f"the site cannot build: its control groups: {error}", hint="see `kasbah doctor`"
            ) from error
        self._given.update(groups)
        try:
            yield Share(groups=groups, memory=self._memory)
        finally:
            self._given.difference_update(groups)
            self.recover()

    def recover(self) -> None:
        """Remove the groups of builds that have ended, an earlier agent's too, once no process is in them."""
        for group in self._groups.leftovers(frozenset(map(str, self._given))):
            cgroups.remove(group)
