"""Would this be more than the project may have? Compares what its services claim now with what they would claim then.

What a service claims is what it may come to use: `scaling.max` replicas, each with the resources of the revision that
serves or is on its way (the larger, while there are two), the sources of the revisions that are kept, each counted
once, and the volumes of those revisions, each at its largest. Replicas without a limit on CPU or memory claim all there
is, so no quota on those admits them.

While a rollout shares traffic between two revisions there may be twice `scaling.max` replicas for a time. That counts
once: a project at its quota could never deploy otherwise.

What always holds: nothing that leaves the use as it is, or makes it less, is refused, whatever the quota says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from kasbah.domain.ids import Digest
from kasbah.domain.project import Quota


class Kind(StrEnum):
    """What is limited."""

    SERVICES = "services"
    REPLICAS = "replicas"
    CPU = "cpu"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one service may come to use. `cpu` and `memory` are per replica; None: without limit."""

    service: str
    replicas: int
    cpu: float | None = 0.0
    memory: int | None = 0
    sources: frozenset[tuple[Digest, int]] = frozenset()
    volumes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Amount:
    """So many replicas that claim all there is, and beside them so much. More of the former is always more."""

    boundless: int = 0
    much: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that would be passed: what was used before, what it would be, and which services would claim how much of
    it, the most first (None: without limit)."""

    kind: Kind
    limit: float
    used: Amount
    asked: Amount
    claimed: tuple[tuple[str, float | None], ...]


def exceeds(quota: Quota, now: Iterable[Claim], then: Iterable[Claim]) -> tuple[Excess, ...]:
    """The limits that `then` would pass and that are not merely passed already. Without `now`: those that are."""
    now, then = tuple(now), tuple(then)
    found = []
    for kind in Kind:
        limit: float | None = getattr(quota, kind)
        used, asked = use(kind, now), use(kind, then)
        if limit is not None and (asked.boundless or asked.much > limit) and asked > used:
            found.append(Excess(kind=kind, limit=limit, used=used, asked=asked, claimed=_claimed(kind, then)))
    return tuple(found)


def use(kind: Kind, claims: Iterable[Claim]) -> Amount:
    """How much of it these claims come to."""
    if kind is Kind.DISK:
        claims = tuple(claims)
        sources = dict(source for claim in claims for source in claim.sources)
        return Amount(much=sum(sources.values()) + sum(claim.volumes for claim in claims))
    boundless, much = 0, 0.0
    for claim in claims:
        each = _EACH[kind](claim)
        if each is None:
            boundless += claim.replicas
        else:
            much += each
    return Amount(boundless=boundless, much=round(much, 6))  # three times 0.1 is 0.3


def boundless(kind: Kind, claims: Iterable[Claim]) -> tuple[str, ...]:
    """The services whose replicas claim all there is of it."""
    return tuple(claim.service for claim in claims if _EACH[kind](claim) is None)


def _claimed(kind: Kind, claims: Iterable[Claim]) -> tuple[tuple[str, float | None], ...]:
    each = ((claim.service, _EACH[kind](claim)) for claim in claims)
    return tuple(sorted(each, key=lambda one: (one[1] is not None, -(one[1] or 0), one[0])))


_EACH: dict[Kind, Callable[[Claim], float | None]] = {
    Kind.SERVICES: lambda claim: 1,
    Kind.REPLICAS: lambda claim: claim.replicas,
    Kind.CPU: lambda claim: None if claim.cpu is None else claim.cpu * claim.replicas,
    Kind.MEMORY: lambda claim: None if claim.memory is None else claim.memory * claim.replicas,
    Kind.DISK: lambda claim: sum(size for _, size in claim.sources) + claim.volumes,
}
