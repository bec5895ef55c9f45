"""The installation's own decisions, in the words of its audit log: where a service may be, and what sites are told.

Each is written in the transaction that makes it so, thus before any site can act on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from kasbah.control.store.records import RolloutRecord, ServiceRecord, SiteRecord
from kasbah.control.usecases.journal import Journal
from kasbah.control.usecases.publish import Publication
from kasbah.domain.audit import Outcome
from kasbah.domain.ids import SiteId
from kasbah.domain.label import label_text
from kasbah.domain.placement import Placement, SiteVerdict, Verdict

MOST_RULES = 6


def tell_placement(journal: Journal, service: ServiceRecord, placement: Placement, sites: Iterable[SiteRecord]) -> None:
    """Where a service was placed, and which rules, or other reasons, refused the sites that were not chosen."""
    names = {site.id: site.name for site in sites}
    chosen = ", ".join(names.get(one, one) for one in placement.chosen)
    refused = _by_reason(placement, names)
    told = {f"refused: {reason}": ", ".join(there) for reason, there in list(refused.items())[:MOST_RULES]}
    journal.say(
        "place",
        object_of(service),
        outcome=Outcome.DONE if placement.chosen else Outcome.REFUSED,
        reason="" if placement.chosen else f"it may be at no site. {placement.told(names)}",
        service=service.name,
        label=label_text(service.label),
        chosen=chosen,
        **told,
    )


def tell_published(journal: Journal, published: Publication) -> None:
    """That a site is told something new; and each service that newly reaches it, leaves it, or has another label."""
    site = published.site
    where = f"sites/{site.name}"
    journal.say(
        "publish",
        where,
        epoch=published.epoch,
        generation=published.generation,
        contents=published.contents,
        services=len(published.labels),
    )
    for service, label in published.labels.items():
        if published.before.get(service) != label:
            journal.say("reach", f"services/{service}", site=site.name, label=label_text(label))
    for service in published.before.keys() - published.labels.keys():
        refused = published.refused.get(service)
        why = ", ".join(one.id for one in (refused.rules or refused.unmet)) or refused.problem if refused else ""
        journal.say(
            "withdraw",
            f"services/{service}",
            reason=f"the law does not allow it there: {why}" if refused else "it is not asked for there any more",
            site=site.name,
            label=label_text(published.before[service]),
        )


def tell_rollout(journal: Journal, service: ServiceRecord, before: RolloutRecord, after: RolloutRecord) -> None:
    """That a rollout took a step which changed its state, or moved traffic."""
    if (before.state, before.percent) == (after.state, after.percent):
        return
    journal.say(
        "roll_out",
        object_of(service),
        service=service.name,
        rollout=after.id,
        revision=after.revision,
        state=after.state.value,
        percent=after.percent,
    )


def object_of(service: ServiceRecord) -> str:
    """A service in the log: by its id, as names come back."""
    return f"services/{service.id}"


def _by_reason(placement: Placement, names: Mapping[SiteId, str]) -> dict[str, list[str]]:
    """The refused sites, by the rules that refuse them."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in placement.verdicts:
        if one.verdict is Verdict.REFUSED:
            found[_reason(one)].append(names.get(one.site, one.site))
    return found


def _reason(verdict: SiteVerdict) -> str:
    rules = verdict.rules or verdict.unmet
    return ", ".join(rule.id for rule in rules) or "it cannot run it"
