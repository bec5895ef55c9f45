"""A site: a place that runs things. Facts are declared by its owner; conclusions ("sovereign") follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SiteKind(StrEnum):
    """What sort of place it is."""

    ON_PREM = "on-prem"
    PRIVATE = "private"
    SOVEREIGN = "sovereign"
    PUBLIC = "public"
    EDGE = "edge"


class SiteState(StrEnum):
    """Whether a site is given work: it is, or it gives away what it has, or it belongs to the installation no more."""

    ACTIVE = "active"
    DRAINING = "draining"
    REMOVED = "removed"


OPEN, CLOSABLE, ENFORCED = "open", "closable", "enforced"

FIRST_SITE = "local"
"""The site of the machine that an installation began on: its country is the installation's own, where the law names no
other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What keeps replicas apart at a site, measured there and never assumed.

    `mechanisms` are in force for every replica (`landlock`, `seccomp`, `no-new-privileges`, `rlimits`
    ...); `missing` are those this machine cannot give, each with the reason; `egress` is `enforced` where what a
    service's replicas may call is kept to, `closable` where they can be kept from calling anything but not from calling
    all but some, and `open` where they may call out freely whatever its file says.
    """

    mechanisms: tuple[str, ...]
    missing: tuple[tuple[str, str], ...] = ()
    egress: str = OPEN
