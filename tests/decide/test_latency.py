"""How far callers are: by where their requests enter, and never nearer than was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.latency import both_ways, callers_of, expected
from kasbah.decide.needs import NOWHERE, Callers, Current, Needs, SiteFacts
from kasbah.decide.placement import place
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, Objective, Placement
from kasbah.domain.revision import Runtime

RABAT, PARIS, LYON = SiteId("rabat"), SiteId("paris"), SiteId("lyon")
FAR = {RABAT: {PARIS: 30.0, LYON: 36.0}, PARIS: {LYON: 6.0, RABAT: 33.0}}
LATENCY = ((Objective.LATENCY, 1.0),)


def site(name: SiteId, **more: object) -> SiteFacts:
    plain = SiteFacts(site=name, name=name, seen=True, connected=True, near=both_ways(FAR)[name])
    return replace(plain, **more)  # type: ignore[arg-type]


SITES = (site(LYON), site(PARIS), site(RABAT))


def placed(callers: Callers, now: Current = NOWHERE, *, weights: tuple[tuple[Objective, float], ...] = LATENCY,
           sites: tuple[SiteFacts, ...] = SITES) -> Placement:  # fmt: skip
    needs = Needs(
        label=Label(level=Level.PUBLIC),
        runtime=Runtime.COMMAND,
        constraints=Constraints(weights=weights),
        callers=callers,
    )
    lawful = {one.site: Admission(allowed=True) for one in sites}
    return place(ServiceId("sv-1"), needs, sites, lawful, now)


def test_sites_are_as_far_as_the_least_that_either_measured() -> None:
    assert both_ways(FAR) == {
        RABAT: {PARIS: 30.0, LYON: 36.0},
        PARIS: {LYON: 6.0, RABAT: 30.0},
        LYON: {RABAT: 36.0, PARIS: 6.0},
    }


@pytest.mark.parametrize(
    ("requests", "parts"),
    [
        pytest.param({}, (), id="nobody called"),
        pytest.param({PARIS: 0}, (), id="nothing was counted"),
        pytest.param({PARIS: 3}, ((PARIS, 20.0),), id="all from one"),
        pytest.param({PARIS: 75, RABAT: 25}, ((PARIS, 15.0), (RABAT, 5.0)), id="a quarter from another"),
        pytest.param({PARIS: 760, RABAT: 240}, ((PARIS, 15.0), (RABAT, 5.0)), id="hardly less is the same"),
        pytest.param({PARIS: 990, RABAT: 10}, ((PARIS, 20.0),), id="hardly any are left out"),
    ],
)
def test_callers_are_told_apart_coarsely(requests: dict[SiteId, int], parts: Callers) -> None:
    assert callers_of(requests) == parts


def test_what_is_expected_is_the_average_over_callers() -> None:
    assert expected(((PARIS, 15.0), (RABAT, 5.0)), site(LYON)) == (15 * 6.0 + 5 * 36.0) / 20
    assert expected(((LYON, 1.0),), site(LYON)) == 0.0
    assert expected((), site(LYON)) is None, "of nobody nothing is expected"
    assert expected(((PARIS, 1.0), (SiteId("oslo"), 1.0)), site(LYON)) is None, "what is not known is not near"


@pytest.mark.parametrize(
    ("callers", "where"),
    [
        pytest.param(((PARIS, 1.0),), PARIS, id="where they are"),
        pytest.param(((LYON, 1.0), (PARIS, 3.0)), PARIS, id="where most are"),
        pytest.param(((RABAT, 1.0),), RABAT, id="elsewhere"),
        pytest.param((), LYON, id="nobody knows: by name"),
        pytest.param(((SiteId("oslo"), 1.0),), LYON, id="nobody measured: by name"),
    ],
)
def test_the_nearest_to_the_callers_is_chosen(callers: Callers, where: SiteId) -> None:
    assert placed(callers).chosen == (where,)


def test_verdicts_say_how_far_it_is() -> None:
    reasons = {one.site: one.reason for one in placed(((PARIS, 3.0), (RABAT, 1.0))).verdicts}
    assert reasons == {
        PARIS: "the best that may and can run it, 7.5 ms from its callers",
        LYON: "others are preferred, 13.5 ms from its callers",
        RABAT: "others are preferred, 22.5 ms from its callers",
    }
    assert "where its callers are is not known" in placed(()).verdicts[0].reason
    new = replace(site(LYON), site=SiteId("new"), name="new", near={})
    unmeasured = placed(((PARIS, 1.0),), sites=(*SITES, new))
    assert unmeasured.verdicts[-1].reason == "others are preferred, how far its callers are was not measured"
    assert "callers" not in placed(((PARIS, 1.0),), weights=()).verdicts[0].reason, (
        "where it does not count, not a word"
    )


def test_it_counts_with_what_else_counts() -> None:
    priced = tuple(site(name, cpu_hour=price, gib_hour=0.0) for name, price in ((LYON, 0.01), (PARIS, 0.1)))
    callers = ((PARIS, 1.0),)
    assert placed(callers, sites=priced, weights=((Objective.PRICE, 3.0), (Objective.LATENCY, 1.0))).chosen == (LYON,)
    assert placed(callers, sites=priced, weights=((Objective.PRICE, 1.0), (Objective.LATENCY, 3.0))).chosen == (PARIS,)


def test_it_moves_only_for_enough() -> None:
    halfway = ((LYON, 1.0), (PARIS, 1.0))
    assert placed(halfway, Current(at=(LYON,))).chosen == (LYON,), "as near"
    assert placed(((LYON, 9.0), (PARIS, 10.0)), Current(at=(LYON,))).chosen == (LYON,), "hardly farther"
    found = placed(((LYON, 1.0), (PARIS, 19.0)), Current(at=(LYON,)))
    assert (found.chosen, found.moving) == ((LYON, PARIS), True), "much farther: it leaves once the other serves"


@given(requests=st.dictionaries(st.sampled_from((RABAT, PARIS, LYON)), st.integers(0, 2**53)))
def test_no_counts_make_more_callers_than_there_are(requests: dict[SiteId, int]) -> None:
    parts = [part for _, part in callers_of(requests)]
    assert all(0 < part <= 20 for part in parts)
    assert sum(parts) <= 21
