"""A site: a place that runs things. Facts are declared by its owner; conclusions ("sovereign") follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kasbah.domain.ids import SiteId


class SiteKind(StrEnum):
    """What sort of place it is."""

    ON_PREM = "on-prem"
    PRIVATE = "private"
    SOVEREIGN = "sovereign"
    PUBLIC = "public"
    EDGE = "edge"


OPEN, ENFORCED = "open", "enforced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site as the control plane knows it. `country` is ISO 3166-1 alpha-2, None where nobody declared it."""

    id: SiteId
    name: str
    kind: SiteKind = SiteKind.ON_PREM
    country: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What keeps replicas apart at a site, measured there and never assumed.

    `mechanisms` are in force for every replica (`landlock`, `seccomp`, `no-new-privileges`, `rlimits`
    ...); `missing` are those this machine cannot give, each with the reason; `egress` is `enforced` where what a
    service's replicas may call is kept to, and `open` where they may call out freely whatever its file says.
    """

    mechanisms: tuple[str, ...]
    missing: tuple[tuple[str, str], ...] = ()
    egress: str = OPEN
