"""A project: the tenant that names of services and keys belong to, and how much it may have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The most a project may have; None: no limit. `memory` and `disk` in bytes.

    Replicas, CPUs and memory are what its services may come to use (`scaling.max` each), not what they use now: a
    service that sleeps keeps its place.
    """

    services: int | None = None
    replicas: int | None = None
    cpu: float | None = None
    memory: int | None = None
    disk: int | None = None


UNLIMITED = Quota()
"""No limit on anything."""
