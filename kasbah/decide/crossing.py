"""Which sites serve a class of requests, and which may take them from callers and send them on?

A site where a service was placed serves it, if the law allows the data there. Any other site may take requests for it
only if the law allows them to pass there: where TLS ends, they are in the clear. Elsewhere the service is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kasbah.domain.crossing import Lane
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who serves the requests of one class (`serving`, in order of choice), and where they may pass (`passing`). `id`
    names what was decided: another outcome, another id."""

    id: str
    label: Label
    serving: tuple[SiteId, ...]
    passing: frozenset[SiteId]


def decide(
    label: Label, chosen: Sequence[SiteId], *, place: Collection[SiteId], forward: Collection[SiteId]
) -> Decision:
    """`chosen` are the sites it was placed at; the data may be kept at `place` and pass through `forward`. A site that
    serves what comes from others must be both."""
    serving, passing = tuple(site for site in chosen if site in place), frozenset(forward)
    return Decision(id=_name_of(label, serving, passing), label=label, serving=serving, passing=passing)


def _name_of(label: Label, serving: tuple[SiteId, ...], passing: frozenset[SiteId]) -> str:
    said = json.dumps([[int(label.level), sorted(label.categories), sorted(label.regimes)], serving, sorted(passing)])
    return f"dc-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def lane(decision: Decision, site: SiteId, dialled: Collection[SiteId]) -> Lane | None:
    """The requests of that class at this site; None where they may not be. `dialled` are the sites with an address."""
    here = site in decision.serving
    others = tuple(one for one in decision.serving if one != site and one in decision.passing)
    if not here and not (site in decision.passing and decision.serving):
        return None
    entries = decision.passing - {site} if here and site in decision.passing else frozenset()
    return Lane(
        id=decision.id,
        label=decision.label,
        to=tuple(one for one in others if one in dialled) if site in decision.passing else (),
        entries=tuple(sorted(entries)),
    )
