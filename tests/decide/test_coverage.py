"""What is kept stricter than its label needs is shown with what that costs, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kasbah.decide.coverage import Stricter, stricter
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints
from kasbah.domain.revision import Resources, Runtime

SERVICE = ServiceId("sv-1")
PLAIN = SiteFacts(site=SiteId("st-home"), name="home", seen=True, connected=True, cpu_hour=0.10, gib_hour=0.01)
HOME, CLOUD = PLAIN, replace(PLAIN, site=SiteId("st-cloud"), name="cloud", cpu_hour=0.02, gib_hour=0.002)
DEAR = replace(PLAIN, site=SiteId("st-dear"), name="dear", cpu_hour=None, gib_hour=None)
ALLOWED, DENIED = Admission(allowed=True), Admission(allowed=False, problem="no")
EVERYWHERE = {site.site: ALLOWED for site in (HOME, CLOUD, DEAR)}
PUBLIC = Label(level=Level.PUBLIC)


def found(label: Label = PUBLIC, *, lawful: dict[SiteId, Admission] = EVERYWHERE, **asked: object) -> Stricter | None:
    needs = Needs(
        label=label,
        runtime=Runtime.COMMAND,
        resources=Resources(cpu=2, memory=2**31),
        constraints=Constraints(**asked),  # type: ignore[arg-type]
    )
    return stricter(SERVICE, needs, (HOME.site,), (HOME, CLOUD, DEAR), lawful)


def test_what_is_pinned_though_it_may_be_elsewhere_is_shown_with_its_price() -> None:
    seen = found(only=("home",))
    assert seen is not None
    assert (seen.runs_at, seen.could_run_at) == ((HOME.site,), (CLOUD.site, DEAR.site))
    assert seen.why == ("placement.only names home",)
    assert seen.costs == pytest.approx(2 * 0.10 + 2 * 0.01)
    assert seen.could_cost == pytest.approx(2 * 0.02 + 2 * 0.002)


def test_what_nobody_labelled_is_shown() -> None:
    seen = found(UNLABELLED)
    assert seen is not None
    assert "nobody labelled it" in seen.why[0]


def test_what_the_law_keeps_there_is_not_kept_just_in_case() -> None:
    assert found(only=("home",), lawful={HOME.site: ALLOWED, CLOUD.site: DENIED, DEAR.site: DENIED}) is None


def test_what_merely_runs_there_is_not_kept() -> None:
    assert found() is None
