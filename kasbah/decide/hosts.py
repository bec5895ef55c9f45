"""What label had the data that came to a host, and may there be less of it now?

Callers send to a host, not to a service. Whoever captured a control plane could give the host of a sensitive service to
a new one that is labelled public, needs no signature and keeps what callers send. So a site remembers the highest label
of whatever answered at each host; less counts only where a deployer signed that label for the same service, or for one
that has the host as a domain of its own. What nobody had labelled counted as sensitive: its first label is signed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kasbah.decide.signed import FROM, Deployed, Signatures, problem_of
from kasbah.domain.crossing import Forwarded
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ProjectId
from kasbah.domain.label import Label, combine, covers
from kasbah.domain.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Which service answered at a host, and the highest label of its data."""

    project: ProjectId
    service: str
    label: Label


Hosts = Mapping[str, Host]


def seen(told: DesiredState, before: Hosts, known: Signatures) -> dict[str, Host]:
    """What is remembered of hosts, with this desired state."""
    found = dict(before)
    for one, label in _labels(told):
        for host in one.hosts:
            held = before.get(host)
            if held is None or covers(label, held.label) or _signed(one, label, host, held, known):
                found[host] = Host(project=one.project, service=one.name, label=label)
    return found


def at_hosts(one: Service | Forwarded, label: Label, hosts: Hosts, known: Signatures) -> Label:
    """The label of this service's data by the hosts it answers at: no less than what came there before."""
    for host in one.hosts:
        held = hosts.get(host)
        if held is not None and not covers(label, held.label) and not _signed(one, label, host, held, known):
            label = combine(label, held.label)
    return label


def _labels(told: DesiredState) -> Iterator[tuple[Service | Forwarded, Label]]:
    lanes = {lane.id: lane.label for lane in told.lanes}
    yield from ((one, one.label) for one in told.services)
    yield from ((one, lanes[one.lane]) for one in told.forwarded if one.lane in lanes)


def _signed(one: Service | Forwarded, label: Label, host: str, held: Host, known: Signatures) -> bool:
    """Whether a deployer signed that what answers at this host carries no more than this label."""
    same = (held.project, held.service) == (one.project, one.name)
    return any(
        covers(label, said.attestation.label)
        and (same or host in said.attestation.domains)
        and problem_of(
            said,
            Deployed(
                installation=known.installation,
                project=one.project,
                service=one.name,
                contents=said.attestation.contents,
            ),
            max(FROM, held.label.level),
            known.deployers,
        )
        is None
        for said in known.all_signed(one.id)
    )
