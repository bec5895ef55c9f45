"""What label had the data that came to a host, and may there be less of it now?

Callers send to a host, not to a service. Whoever captured a control plane could give the host of a sensitive service to
a new one that is labelled public, needs no signature and keeps what callers send. So a site remembers the highest label
of whatever answered at each host; less counts only where a deployer signed that label for the same service, or for one
that has the host as a domain of its own, and later than what was signed before: else an old signature would do. What
nobody had labelled counted as sensitive: its first label is signed too.

A host is known however it is written, and by its revisions' hosts too; what could stand for several is none. The same
is remembered of the service itself, whose volumes stay with it wherever it answers, and of what its source is for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kasbah.decide.signed import FROM, Signatures, holds
from kasbah.domain.crossing import Forwarded
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ALPHABET, Digest, ProjectId
from kasbah.domain.label import Label, combine, covers
from kasbah.domain.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Which service answered at a host, the highest label of its data, and when the last of its signatures that was
    seen was made. Another service that is told to answer there with no less changes none of whose it is."""

    project: ProjectId
    service: str
    label: Label
    signed_at: datetime | None = None


Hosts = Mapping[str, Host]

PLAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE | re.ASCII)
OF_A_REVISION = re.compile(rf"^rv-[{ALPHABET}]{{16}}\.(?=.)")


def strange(one: Service | Forwarded) -> str | None:
    """The first of its hosts that is not the name of one host alone; None where all are."""
    return next((host for host in _everywhere(one) if not PLAIN.fullmatch(host)), None)


def seen(told: DesiredState, before: Hosts, known: Signatures) -> dict[str, Host]:
    """What is remembered of hosts, with this desired state."""
    found = dict(before)
    for one, label in _labels(told):
        for host in _hosts(one):
            held = found.get(host)
            if held is None or (not covers(label, held.label) and _signed(one, label, host, held, known)):
                found[host] = Host(project=one.project, service=one.name, label=label, signed_at=_newest(one, known))
            elif covers(label, held.label):
                found[host] = replace(held, label=label, signed_at=_later(held, one, known))
    for service in told.services:
        for revision in service.revisions:
            place = of_source(revision.source)
            held = found.get(place)
            if held is None or not covers(held.label, service.label):
                label = service.label if held is None else combine(held.label, service.label)
                found[place] = Host(project=service.project, service=service.name, label=label, signed_at=None)
    return found


def of_source(source: Digest) -> str:
    """As what is remembered of whose data a source is made for; no host is called so."""
    return f"/{source}"


def at_hosts(one: Service | Forwarded, label: Label, hosts: Hosts, known: Signatures) -> Label:
    """The label of this service's data by the hosts it answers at: no less than what came there before."""
    for host in _hosts(one):
        held = hosts.get(host)
        if held is not None and not covers(label, held.label) and not _signed(one, label, host, held, known):
            label = combine(label, held.label)
    return label


def _everywhere(one: Service | Forwarded) -> Iterator[str]:
    """Each host at which it answers, its revisions' own included."""
    ids = one.revisions if isinstance(one, Forwarded) else tuple(revision.id for revision in one.revisions)
    yield from one.hosts
    yield from (f"{revision}.{host}" for revision in ids for host in one.hosts)


def _hosts(one: Service | Forwarded) -> tuple[str, ...]:
    """The hosts it answers at, as they are remembered, and the service itself, which no host is called like: its
    volumes stay with it wherever it answers."""
    return tuple(dict.fromkeys((*map(_known_as, _everywhere(one)), f"/{one.id}")))


@functools.lru_cache(maxsize=100_000)
def _known_as(host: str) -> str:
    """A host as it is remembered: as gateways compare it, and for a revision's own that of its service."""
    small = host.lower()
    return OF_A_REVISION.sub("", small) if small.startswith("rv-") else small


def _labels(told: DesiredState) -> Iterator[tuple[Service | Forwarded, Label]]:
    lanes = {lane.id: lane.label for lane in told.lanes}
    yield from ((one, one.label) for one in told.services)
    yield from ((one, lanes[one.lane]) for one in told.forwarded if one.lane in lanes)


def _signed(one: Service | Forwarded, label: Label, host: str, held: Host, known: Signatures) -> bool:
    """Whether a deployer signed that what answers at this host carries no more than this label."""
    same = (held.project, held.service) == (one.project, one.name)
    return any(
        covers(label, said.attestation.label)
        and (held.signed_at is None or said.attestation.signed_at > held.signed_at)
        and (same or host in said.attestation.domains)
        and holds(said, one, max(FROM, held.label.level), known)
        for said in known.all_signed(one.id)
    )


def _later(held: Host, one: Service | Forwarded, known: Signatures) -> datetime | None:
    """When the last signature was made that was seen of the service whose host it is."""
    newest = _newest(one, known) if (held.project, held.service) == (one.project, one.name) else None
    return max((at for at in (held.signed_at, newest) if at is not None), default=None)


def _newest(one: Service | Forwarded, known: Signatures) -> datetime | None:
    times = (said.attestation.signed_at for said in known.all_signed(one.id) if holds(said, one, FROM, known))
    return max(times, default=None)
