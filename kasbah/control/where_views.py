"""Where a service is, as the API shows it."""

from __future__ import annotations

from kasbah.api.where import WhereAnswer, WherePlace
from kasbah.control.site_views import in_words
from kasbah.control.usecases.where import Held, Whereabouts
from kasbah.control.views import data
from kasbah.domain.charter import value_of


def where(found: Whereabouts) -> WhereAnswer:
    """Where a service is."""
    return WhereAnswer(
        service=found.service.name, data=data(found.service.label), places=[_place(one) for one in found.places]
    )


def _place(held: Held) -> WherePlace:
    facts, report = held.facts, held.site.report
    exposure, administered = value_of(facts.exposure), value_of(facts.administered_from)
    return WherePlace(
        site=held.site.name,
        kind=held.site.kind,
        what=list(held.what),
        country=value_of(facts.country),
        operator=value_of(facts.operator),
        operator_home=value_of(facts.operator_home),
        owners=None if facts.owners is None else in_words(facts.owners.value),
        exposure=None if exposure is None else sorted(exposure),
        administered_from=None if administered is None else sorted(administered),
        certificates=[one.value for one in facts.certificates],
        customer_keys=value_of(facts.customer_keys),
        confidential=value_of(facts.confidential),
        isolation=list(report.isolation.mechanisms) if report else [],
        isolation_missing=[name for name, _ in report.isolation.missing] if report else [],
        egress=report.isolation.egress if report else "unknown",
        signed=held.site.signed is not None,
    )
