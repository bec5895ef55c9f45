"""The public API's shapes for projects and their quotas, and for freeing what is kept and not needed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kasbah.api.shape import Shape


class ProjectRequest(Shape):
    """A project to make."""

    name: Annotated[str, Field(min_length=1, max_length=40)]


class QuotaView(Shape):
    """The most a project may have; null: no limit. `memory` and `disk` in bytes."""

    services: int | None = None
    replicas: int | None = None
    cpu: float | None = None
    memory: int | None = None
    disk: int | None = None


class ProjectUseView(Shape):
    """What a project's services may come to use: `scaling.max` replicas each, with the resources of the revision that
    serves; and the sources and volumes of the revisions that are kept. Services without a limit on CPU or memory are
    listed apart.
    """

    services: int
    replicas: int
    cpu: float
    memory: int
    disk: int
    without_cpu_limit: list[str]
    without_memory_limit: list[str]


class ProjectView(Shape):
    """A project: the most it may have, and what it uses of it."""

    id: str
    name: str
    quota: QuotaView
    use: ProjectUseView


class QuotaRequest(Shape):
    """New limits; what is missing stays, null lifts a limit. One below what is used is refused without `force`; with
    it, what runs goes on and nothing can grow."""

    services: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    replicas: Annotated[int, Field(ge=0, le=100_000_000)] | None = None
    cpu: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    memory: Annotated[int, Field(ge=0, lt=2**60)] | None = None
    disk: Annotated[int, Field(ge=0, lt=2**60)] | None = None
    force: bool = False


class FreeRequest(Shape):
    """Drop what the control plane can do without: revisions of deleted services, and of each service those before the
    last `keep` that have no part in its traffic. With `dry_run` it is only counted."""

    keep: Annotated[int, Field(ge=1, le=10)] = 10
    dry_run: bool = False


class SpaceView(Shape):
    """What is kept of one kind: how many, the bytes they take (null where they are not counted), and how many and how
    much was freed, or would be."""

    kind: str
    count: int
    bytes: int | None
    freed: int
    freed_bytes: int | None
