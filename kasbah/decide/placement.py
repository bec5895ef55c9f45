"""Which sites run a service? Every site gets a verdict and its reason, the refused ones too.

First the law: what admission does not allow is never weighed against anything. Then whether the site can: whether it
is there, builds this runtime and has room. Then the objective ranks what is left, and a service stays where it is
unless another site is better by a margin: a placement that flaps costs more than it saves. Nothing fits is an answer,
not an error: the service waits and says why.

A service leaves a site that may and could run it only once another serves it: where another is better, or it is drained
or lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from kasbah.decide.latency import expected
from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.ranking import scores
from kasbah.decide.refusals import cannot, itself, may_not
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import NOBODY_SAID, Admission
from kasbah.domain.placement import Objective, Placement, SiteVerdict, Verdict

MARGIN = 0.2
"""How much better, in parts of its own score, another site must be for a service to move to it."""


def place(
    service: ServiceId,
    needs: Needs,
    sites: tuple[SiteFacts, ...],
    lawful: Mapping[SiteId, Admission],
    now: Current = NOWHERE,
    turned_away: Mapping[SiteId, str] | None = None,
) -> Placement:
    """Where it runs. `lawful` is what admission says of each site; a site that it does not say anything of is
    refused. `turned_away`: the sites that refused it themselves, and why."""
    refused = unlawful(needs.label, sites, lawful)
    known = turned_away or {}
    said = {site.site: itself(site, known[site.site]) for site in sites if site.site in known}
    return place_among(service, needs, sites, said | refused, now)


def unlawful(
    label: Label, sites: tuple[SiteFacts, ...], lawful: Mapping[SiteId, Admission]
) -> dict[SiteId, SiteVerdict]:
    """The sites where data with this label may not be, each with its refusal."""
    answers = ((site.site, may_not(site.site, label, lawful.get(site.site, NOBODY_SAID))) for site in sites)
    return {site: refusal for site, refusal in answers if refusal is not None}


def place_among(
    service: ServiceId,
    needs: Needs,
    sites: tuple[SiteFacts, ...],
    unlawful: Mapping[SiteId, SiteVerdict],
    now: Current = NOWHERE,
) -> Placement:
    """The same, where it is known which sites the law refuses."""
    verdicts = dict(unlawful)
    able = []
    for site in sites:
        if site.site in verdicts:
            continue
        refusal = cannot(needs, site, here=site.site in now.at)
        if refusal is None:
            able.append(site)
        else:
            verdicts[site.site] = refusal
    order = _order(needs, [site for site in able if not (site.draining or site.lost)], now)
    chosen, ranks = order[: needs.constraints.sites], {site: rank for rank, site in enumerate(order, 1)}
    counts = any(objective is Objective.LATENCY for objective, _ in needs.constraints.weights)
    for site in able:
        far = _how_far(needs, site) if counts else ""
        verdicts[site.site] = _verdict(site, chosen, ranks.get(site.site), now, far)
    return Placement(service=service, verdicts=tuple([verdicts[site.site] for site in sites]))


def _order(needs: Needs, able: list[SiteFacts], now: Current) -> tuple[SiteId, ...]:
    """The sites, the best first. Of as many as are asked for, each is the best of those that stand with an operator, or
    else in a country, that none before it does."""
    found = scores(needs, able)
    rest = sorted(able, key=lambda site: (found[site.site] * (1 - MARGIN * (site.site in now.at)), *_before(site, now)))
    best, rest = rest[:1], rest[1:]
    while rest and len(best) < needs.constraints.sites:
        best.append(min(rest, key=lambda site: _shares_with(site, best)))
        rest.remove(best[-1])
    return tuple([site.site for site in (*best, *rest)])


def _before(site: SiteFacts, now: Current) -> tuple[bool, str]:
    """Of two alike, where it is already; then by name."""
    return (site.site not in now.at, site.name)


def _shares_with(site: SiteFacts, chosen: Iterable[SiteFacts]) -> int:
    """How much of what could fail at once a site has in common with those that were chosen."""
    return sum(
        2 * (site.operator is not None and site.operator == one.operator)
        + (site.country is not None and site.country == one.country)
        for one in chosen
    )


def _verdict(site: SiteFacts, chosen: tuple[SiteId, ...], rank: int | None, now: Current, far: str) -> SiteVerdict:
    """`far`: how far its callers are from the site, in words, if that counts for the service."""
    if rank is None:
        return _leaving(site, chosen, now)
    if site.site in chosen:
        return SiteVerdict(site=site.site, verdict=Verdict.CHOSEN, reason=_why(site, chosen, now) + far, rank=rank)
    if site.site in now.at and not now.ready.intersection(chosen):
        reason = f"others are preferred{far}: until one of them serves"
        return SiteVerdict(site=site.site, verdict=Verdict.CHOSEN, reason=reason, until=True, rank=rank)
    return _possible(site.site, rank, far)


@lru_cache(maxsize=100_000)
def _possible(site: SiteId, rank: int, far: str) -> SiteVerdict:
    """Most verdicts are this one."""
    return SiteVerdict(site=site, verdict=Verdict.POSSIBLE, reason=f"others are preferred{far}", rank=rank)


def _how_far(needs: Needs, site: SiteFacts) -> str:
    """How far a service's callers are from a site, in words."""
    if not needs.callers:
        return ", where its callers are is not known"
    took = expected(needs.callers, site)
    return ", how far its callers are was not measured" if took is None else f", {took:.3g} ms from its callers"


def _leaving(site: SiteFacts, chosen: tuple[SiteId, ...], now: Current) -> SiteVerdict:
    """What of a site that is drained or lost, and could otherwise run it."""
    what = "it is drained" if site.draining else "it does not report"
    here = site.site in now.at
    if here and chosen and not now.ready.intersection(chosen):
        return SiteVerdict(site=site.site, verdict=Verdict.CHOSEN, reason=f"{what}: until another serves", until=True)
    if here and not chosen and site.lost and not site.draining:
        reason = "it does not report, and no other site may and can run it"
        return SiteVerdict(site=site.site, verdict=Verdict.CHOSEN, reason=reason)
    hint = f"have it take work again: kasbah sites drain {site.name} --undo" if site.draining else "look at its agent"
    return SiteVerdict(site=site.site, verdict=Verdict.REFUSED, reason=what, hint=hint)


def _why(site: SiteFacts, chosen: tuple[SiteId, ...], now: Current) -> str:
    if site.site in now.at:
        return "it is there, and no other is better by enough to move"
    return "the best that may and can run it" if chosen[0] == site.site else "for where the others might fail"
