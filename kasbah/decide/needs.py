"""What placement is asked with: what a service needs, what a site can and costs, and where the service is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kasbah.decide.egress import Reach
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label
from kasbah.domain.placement import ANYWHERE, Constraints
from kasbah.domain.revision import Resources, Runtime
from kasbah.domain.site import OPEN

Callers = tuple[tuple[SiteId, float], ...]
"""The sites where a service's requests enter, by id, each with its part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """A site, as it said of itself and as its owner declares it. `seen` is false until it has reported once; 0 cpus or
    memory: it did not say. `egress`: what it can keep replicas from calling (`domain.site.Isolation`).
    `lost`: it has been silent for so long that others take what it ran. `used_cpus` and `used_memory`: what the
    services that are placed there ask for. `near`: the milliseconds of a round trip to other sites, where it was
    measured.
    """

    site: SiteId
    name: str
    seen: bool
    connected: bool
    draining: bool = False
    lost: bool = False
    runtimes: tuple[str, ...] = ()
    cpus: float = 0.0
    memory: int = 0
    used_cpus: float = 0.0
    used_memory: int = 0
    egress: str = OPEN
    country: str | None = None
    operator: str | None = None
    cpu_hour: float | None = None
    gib_hour: float | None = None
    energy_price: float | None = None
    carbon: float | None = None
    near: Mapping[SiteId, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a service asks of a site. `reach` is how far its calls go; it `insists` where a site that cannot keep to
    that is no place for it. `replicas`: how many it always has; room is kept for those.
    `callers`: where its requests enter, if that counts for it."""

    label: Label
    runtime: Runtime
    resources: Resources = Resources()
    reach: Reach = Reach.ANYWHERE
    insists: bool = False
    constraints: Constraints = ANYWHERE
    replicas: int = 0
    callers: Callers = ()
    room: tuple[float, int] = field(init=False, compare=False)
    """The CPUs and the memory that it always has at each of its sites."""
    takes_room: bool = field(init=False, compare=False)
    """Whether others have less room where it is."""

    def __post_init__(self) -> None:
        room = ((self.resources.cpu or 0.0) * self.replicas, (self.resources.memory or 0) * self.replicas)
        object.__setattr__(self, "room", room)
        object.__setattr__(self, "takes_room", any(room))


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """Where a service is: the sites that were chosen for it, and those of them, or others, that could serve it now."""

    at: tuple[SiteId, ...] = ()
    ready: frozenset[SiteId] = frozenset()


NOWHERE = Current()
