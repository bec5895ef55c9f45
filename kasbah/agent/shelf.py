"""The volumes that lie at this site: whose they are, how full, and removing one that nobody uses.

Nothing here is removed but by a person who names it. The runner makes volumes (`runner/volumes.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.paths import Paths
from kasbah.agent.runner.workdir import remove
from kasbah.agent.space import GONE, folders_in, size_of
from kasbah.decide.keeping import AtWork
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ServiceId
from kasbah.domain.revision import Volume
from kasbah.domain.service import Service
from kasbah.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A volume. `service_name` is empty where the service is gone; `size` is what a revision in use declares for it,
    None where none does; `used` are the bytes that it takes."""

    service: ServiceId
    service_name: str
    name: str
    used: int
    size: int | None


class Shelf:
    """See the module. `desired` and `at_work` say what is wanted at the moment they are asked."""

    def __init__(self, paths: Paths, desired: Callable[[], DesiredState | None], at_work: Callable[[], AtWork]) -> None:
        self._folder = paths.volumes
        self._desired = desired
        self._at_work = at_work

    async def look(self) -> tuple[Kept, ...]:
        """All of them, by service and name."""
        found = await asyncio.to_thread(lambda: [(one, size_of([one])) for one in self._volumes()])
        services = self._services()
        return tuple(_kept(folder, used, services.get(ServiceId(folder.parent.name))) for folder, used in found)

    async def remove(self, service: ServiceId, name: str) -> None:
        """Remove one for good. Raises NotFound, and Conflict where it is in use."""
        folder = next((one for one in self._volumes() if (one.parent.name, one.name) == (service, name)), None)
        if folder is None:
            raise NotFound(
                f"there is no volume {name!r} of {service} at this site",
                hint="`kasbah volumes list` lists them",
                code="volume_not_found",
            )
        known = self._services().get(service)
        if known is not None and _declared(known, name) is not None:
            raise Conflict(
                f"volume {name!r} is in use by {known.name}",
                hint="remove it from kasbah.yaml and deploy, or delete the service; then remove the volume",
                code="volume_in_use",
            )
        if known is None and service in self._at_work().services:
            ending = f"replicas of {service} are still ending"
            raise Conflict(ending, hint="try again in a moment", code="volume_in_use")
        folder.rename(folder.with_name(f"{GONE}{name}-{os.urandom(4).hex()}"))
        await asyncio.to_thread(self._clear)

    def _services(self) -> dict[ServiceId, Service]:
        desired = self._desired()
        return {} if desired is None else {service.id: service for service in desired.services}

    def _volumes(self) -> Iterator[Path]:
        for folder in folders_in(self._folder):
            yield from (one for one in folders_in(folder) if not one.name.startswith(GONE))

    def _clear(self) -> None:
        """Remove what was given up, and the folders of services that have nothing left in theirs."""
        for folder in folders_in(self._folder):
            for gone in folder.glob(f"{GONE}*"):
                remove(gone)
            with suppress(OSError):
                folder.rmdir()


def _kept(folder: Path, used: int, service: Service | None) -> Kept:
    declared = _declared(service, folder.name) if service is not None else None
    return Kept(
        service=ServiceId(folder.parent.name),
        service_name=service.name if service is not None else "",
        name=folder.name,
        used=used,
        size=None if declared is None else declared.size,
    )


def _declared(service: Service, name: str) -> Volume | None:
    """The volume as the newest revision in use has it."""
    used = [one for one in service.revisions if one.id in service.in_use]
    return next((one for revision in reversed(used) for one in revision.volumes if one.name == name), None)
