"""Which of a site's facts hold now, and until when does that stay so?

A fact that has run out, or does not hold yet, is not known: rules that need it refuse. The moment at which the next one
begins or ends is told, since an answer that used it must be found again then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time

from kasbah.domain.charter import Capacity, Charter, Fact, Facts, Prices, Value, end_of, value_of
from kasbah.domain.law import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A site as its owner's word makes it at a moment: as policy sees it, and what running there costs.

    `until` is when the first of the facts begins or ends (None: none does).
    """

    place: Place
    capacity: Capacity
    prices: Prices | None
    energy_price: float | None
    carbon: float | None
    until: datetime | None


def standing(charter: Charter, home: str | None, now: datetime, *, active: bool = True) -> Standing:
    """The site at this moment. `home` is the installation's own country; a site that is not `active` is drained."""
    facts = held(charter.facts, now)
    country = value_of(facts.country)
    return Standing(
        place=Place(
            kind=charter.kind,
            active=active,
            country=country,
            domestic=None if country is None or home is None else country == home,
            operator_home=value_of(facts.operator_home),
            exposure=value_of(facts.exposure),
            administered_from=value_of(facts.administered_from),
            certificates=frozenset(one.value for one in facts.certificates),
            customer_keys=value_of(facts.customer_keys),
            confidential=value_of(facts.confidential),
            durable_logs=value_of(facts.durable_logs),
        ),
        capacity=value_of(facts.capacity) or Capacity(),
        prices=value_of(facts.prices),
        energy_price=value_of(facts.energy_price),
        carbon=value_of(facts.carbon),
        until=min((moment for moment in _turns(charter.facts) if moment > now), default=None),
    )


def held(facts: Facts, now: datetime) -> Facts:
    """Those that hold at this moment."""
    kept: dict[str, object] = {}
    for name, fact in facts.said():
        if not holds(fact, now):
            kept[name] = None
    kept["certificates"] = tuple(one for one in facts.certificates if holds(one, now))
    return replace(facts, **kept)  # type: ignore[arg-type] # by name, as they were said


def holds(fact: Fact[Value], now: datetime) -> bool:
    """Whether a fact is in force."""
    return _begins(fact) <= now and (fact.until is None or now < end_of(fact.until))


def _begins(fact: Fact[Value]) -> datetime:
    return datetime.combine(fact.since, time(), tzinfo=UTC)


def _turns(facts: Facts) -> Iterator[datetime]:
    """The moments at which a fact begins or ends."""
    for _, fact in facts.said():
        yield _begins(fact)
        if fact.until is not None:
            yield end_of(fact.until)
