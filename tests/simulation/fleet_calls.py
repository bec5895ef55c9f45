"""What the replicas at a site could call, as what the site acts on leaves their network open, and whether they may.

A site enforces what revisions name, can only close a network altogether, or can do nothing (`FleetSite.keeps`). That
real networks are so is proved with real ones (`tests/integration/test_egress.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleet_draw import TARGETS
from fleet_site import FleetSite, ways
from lawful_oracle import is_about

from kasbah.agent.starting import may_call
from kasbah.domain.egress import SERVICE
from kasbah.domain.service import Service, own_key
from kasbah.domain.site import CLOSABLE, ENFORCED


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """A service at a site could call a HOST:PORT outside, by the network of one of its revisions' replicas; or another
    service (`service:NAME`), whose requests then come `to` a site."""

    name: str
    site: str
    revision: str
    target: str
    to: str = ""

    @property
    def why(self) -> str:
        """In words."""
        return f"could call {self.target}{' at ' * bool(self.to)}{self.to} from"


@dataclass(frozen=True, slots=True, order=True)
class Runs:
    """A service runs at a site with these revisions, whether or not the site can keep them from calling what they may
    not. It may be there for one of them: the others are the site's to refuse."""

    name: str
    site: str
    revisions: tuple[str, ...]
    why: str = "is not kept from calling what it may not"


def calls(site: FleetSite, by_id: Mapping[str, FleetSite]) -> Iterator[Call]:
    """Every call that could be made from a site."""
    desired = site.desired
    for service in desired.services if desired is not None else ():
        for revision in service.revisions:
            listed = may_call(revision)
            for target in TARGETS:
                if _passes(site.keeps, listed, target):
                    yield Call(service.name, site.id, revision.id, target)
        yield from _services(site, service, by_id)


def _services(site: FleetSite, service: Service, by_id: Mapping[str, FleetSite]) -> Iterator[Call]:
    through = [one.id for one in service.revisions if _meets_gateway(site.keeps, may_call(one))]
    for name in opened(site, service) if through else ():
        for way in ways(site, name, by_id):
            for one in way[1:] or way:
                yield Call(service.name, site.id, through[0], f"{SERVICE}{name}", one.id)


def opened(site: FleetSite, service: Service) -> tuple[str, ...]:
    """The services that the gateway opens for the replicas of this one."""
    gateway = site.gateway
    assert gateway is not None
    inside = gateway.inside
    hosts, key = gateway.hosts if inside is None else inside.hosts, own_key(service.id)
    return tuple(one.name for one in hosts if one.service != service.id and (one.public or key in one.allowed_keys))


def _passes(keeps: str, listed: tuple[str, ...] | None, target: str) -> bool:
    if keeps == ENFORCED:
        return listed is None or any(is_about(entry, target) for entry in listed)
    return keeps != CLOSABLE or listed != ()


def _meets_gateway(keeps: str, listed: tuple[str, ...] | None) -> bool:
    if keeps == ENFORCED:
        return listed is None or any(entry.startswith(SERVICE) for entry in listed)
    return keeps != CLOSABLE or listed != ()
