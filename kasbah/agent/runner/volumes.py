"""Volumes: folders of a service's that outlive its replicas, at VOLUMES/SERVICE/NAME.

Where replicas have users of their own, what one leaves in a volume belongs to its user. So a service with volumes keeps
its user: whoever owns VOLUMES/SERVICE is who its replicas run as. No file that a replica has made is ever handled on
its way, with one exception: where this installation's users have become others (see `claims.py`), all of it is given
to a new one, before any replica runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kasbah.agent.runner.claims import Claim
from kasbah.agent.runner.workdir import give


class Volumes:
    """The volumes of one runner. The users of those that are there are nobody else's."""

    def __init__(self, folder: Path, claim: Claim | None) -> None:
        self._folder = folder
        self._claim = claim
        if claim is None:
            return
        for service in folder.iterdir():
            if (slot := claim.slot(service.stat().st_uid)) is not None:
                claim.keep(slot)

    def owner(self, service: str) -> int | None:
        """The user that replicas of a service with volumes run as; None where they run as the site's. Raises OSError,
        NoClaim among them."""
        folder = self._folder / service
        if self._claim is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            return None
        known = folder.stat().st_uid if folder.exists() else None
        if known is not None and self._claim.slot(known) is not None:
            return known
        user = self._claim.user(self._claim.take())
        folder.mkdir(mode=0o700, exist_ok=True)
        give(folder, user)
        return user

    def make(self, service: str, names: Iterable[str]) -> None:
        """Make these volumes where they are not there. Call `owner` before."""
        for name in names:
            folder = self._folder / service / name
            if not folder.exists():
                folder.mkdir(mode=0o700)
                if self._claim is not None:
                    user = folder.parent.stat().st_uid
                    os.chown(folder, user, user)

    def places(self, service: str, volumes: Mapping[str, str], app: Path) -> dict[Path, Path]:
        """Where each of these volumes comes to lie in `app`, and where it is."""
        return {app / path: self._folder / service / name for name, path in volumes.items()}
