"""Desired state: one document per site, with its place in history. Generations only grow within an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.service import Key, Service

PROTOCOL = 1
"""The version of the documents agent and control exchange; each side understands its own and the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """What a site must be. `valid_until` is the earliest expiry any decision in it used (None: none had one)."""

    protocol: int = PROTOCOL
    installation: InstallationId
    epoch: int
    generation: int
    site: SiteId
    issued_at: datetime
    valid_until: datetime | None = None
    base_domain: str
    services: tuple[Service, ...] = ()
    keys: tuple[Key, ...] = ()

    @property
    def version(self) -> tuple[int, int]:
        """Its place in history: a later one is greater."""
        return (self.epoch, self.generation)
