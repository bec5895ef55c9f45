"""What would open a site: told only where it was tried and is so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.admission import Admissions, admit
from kasbah.decide.opening import openings
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Data, Place, Purpose, Risk
from kasbah.domain.site import SiteKind
from kasbah.packs import law_of, shipped

LAW = Admissions(law=law_of(shipped()))
PUBLIC_CLOUD = Place(kind=SiteKind.PUBLIC, country="FR", exposure=frozenset({"FR", "US"}))


def data(level: Level, *regimes: str, categories: tuple[str, ...] = (), risk: Risk | None = None) -> Data:
    return Data(label=Label(level=level, categories=categories, regimes=regimes), risk=risk)


def told(asked: Data, place: Place) -> list[str]:
    return [one.words for one in openings(LAW, asked, place, Purpose.PLACE)]


@pytest.mark.parametrize(
    ("asked", "place", "words"),
    [
        (
            data(Level.RESTRICTED, "gdpr", categories=("personal",)),
            Place(kind=SiteKind.ON_PREM, country="MA"),
            ["the approval gdpr-safeguards"],
        ),
        (
            data(Level.SENSITIVE),
            PUBLIC_CLOUD,
            ["an operator whom only the site's own country can compel", "a label of level 2 (restricted)"],
        ),
        (
            data(Level.RESTRICTED, "fr-hds", categories=("health",)),
            PUBLIC_CLOUD,
            ["the certificate HDS"],
        ),
        (
            data(Level.PUBLIC),
            replace(PUBLIC_CLOUD, active=False),
            ["taking the site back into service"],
        ),
        (
            data(Level.PUBLIC, risk=Risk.HIGH),
            PUBLIC_CLOUD,
            ["logs that are kept for as long as the law asks"],
        ),
        (data(Level.PUBLIC, risk=Risk.PROHIBITED), PUBLIC_CLOUD, []),
        (data(Level.RESTRICTED, "fr-hds", "ma-0908", categories=("health", "personal")), PUBLIC_CLOUD, []),
        (data(Level.PUBLIC), PUBLIC_CLOUD, []),
        (data(Level.PUBLIC, "hipaa"), PUBLIC_CLOUD, []),
    ],
    ids=["approval", "exposure", "certificate", "active", "logs", "prohibited", "several", "open", "unknown"],
)
def test_what_would_open_a_site(asked: Data, place: Place, words: list[str]) -> None:
    assert told(asked, place) == words


LABELS = st.builds(
    Label,
    level=st.sampled_from(Level),
    categories=st.lists(st.sampled_from(["personal", "health", "financial"]), unique=True).map(tuple),
    regimes=st.lists(st.sampled_from(["gdpr", "ma-0908", "ma-0520", "fr-hds", "eu-sovereign"]), unique=True).map(tuple),
)
PLACES = st.builds(
    Place,
    kind=st.sampled_from(SiteKind),
    active=st.booleans(),
    country=st.none() | st.sampled_from(["MA", "FR", "US"]),
    exposure=st.none() | st.frozensets(st.sampled_from(["MA", "FR", "US"]), max_size=2),
)


@given(LABELS, PLACES)
def test_each_that_is_told_opens_it_and_by_itself(label: Label, place: Place) -> None:
    asked = Data(label=label)
    for one in openings(LAW, asked, place, Purpose.PLACE):
        assert admit(LAW.law, one.data, one.place, Purpose.PLACE, approvals=one.approvals).allowed
        changed = (one.data != asked, one.place != place, bool(one.approvals))
        assert changed.count(True) == 1
