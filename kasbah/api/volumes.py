"""The public shapes for volumes: what services keep at a site."""

from __future__ import annotations

from kasbah.api.shape import Shape


class VolumeView(Shape):
    """A volume. `service_name` is null where the service was deleted; `size` is what a revision in use declares for it,
    in bytes, null where none does, so that it may be removed; `used` are the bytes that it takes."""

    service: str
    service_name: str | None
    name: str
    size: int | None
    used: int
