"""Which facts hold at a moment, and when that changes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from kasbah.decide.standing import standing
from kasbah.domain.charter import Charter, Fact, Facts
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.site import SiteKind

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def charter(facts: Facts) -> Charter:
    return Charter(
        installation=InstallationId("in-1"),
        site=SiteId("st-1"),
        name="paris",
        version=1,
        kind=SiteKind.SOVEREIGN,
        facts=facts,
    )


def said(value: str, *, since: date = date(2026, 1, 1), until: date | None = None) -> Fact[str]:
    return Fact(value=value, source="the operator's contract", since=since, until=until)


def test_what_nobody_said_is_not_known() -> None:
    found = standing(charter(Facts()), "FR", NOON)
    assert (found.place.country, found.place.domestic, found.place.exposure) == (None, None, None)
    assert found.until is None


def test_what_was_said_is_known() -> None:
    exposure = Fact(value=frozenset({"FR", "US"}), source="counsel", since=date(2026, 1, 1))
    found = standing(charter(Facts(country=said("FR"), exposure=exposure)), "FR", NOON)
    assert (found.place.country, found.place.domestic) == ("FR", True)
    assert found.place.exposure == {"FR", "US"}


@pytest.mark.parametrize(
    ("until", "known"),
    [
        pytest.param(date(2026, 11, 25), False, id="it ran out yesterday"),
        pytest.param(date(2026, 11, 26), True, id="today is its last day"),
        pytest.param(date(2026, 11, 27), True, id="it holds tomorrow too"),
    ],
)
def test_a_fact_holds_through_its_last_day(until: date, known: bool) -> None:
    found = standing(charter(Facts(country=said("FR", until=until))), "FR", NOON)
    assert (found.place.country == "FR") is known


def test_a_fact_does_not_hold_before_its_first_day() -> None:
    found = standing(charter(Facts(country=said("FR", since=date(2026, 11, 27)))), "FR", NOON)
    assert found.place.country is None
    assert found.until == datetime(2026, 11, 27, tzinfo=UTC)


def test_certificates_end_one_by_one_and_the_next_end_is_told() -> None:
    gone, held = said("HDS", until=date(2026, 11, 1)), said("SecNumCloud", until=date(2026, 12, 31))
    found = standing(charter(Facts(country=said("FR"), certificates=(gone, held))), "FR", NOON)
    assert found.place.certificates == {"SecNumCloud"}
    assert found.until == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_drained_site_is_not_active() -> None:
    assert not standing(charter(Facts()), "FR", NOON, active=False).place.active
