"""Which sources a site lacks and whom it asks, and what the site that is asked makes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from kasbah.decide.admission import Admissions
from kasbah.decide.last_word import Word, refuses_to_hand
from kasbah.decide.sources import Lacking, lacking
from kasbah.domain.charter import Charter, Fact, Facts
from kasbah.domain.crossing import Forwarded, Lane
from kasbah.domain.desired import DesiredState, Standby
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Access, Service, Share
from kasbah.domain.site import SiteKind
from kasbah.packs import shipped_law

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
INSTALLATION, PROJECT = InstallationId("in-1"), ProjectId("pr-1")
HERE, PARIS, LYON, VIRGINIA = SiteId("st-here"), SiteId("st-paris"), SiteId("st-lyon"), SiteId("st-us")
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))
PUBLIC = Label(level=Level.PUBLIC)
LANE = Lane(id="dc-1", label=PERSONAL, to=(LYON,), entries=(PARIS,))


def digest(letter: str) -> Digest:
    return Digest("sha256:" + letter * 64)


def revision(number: int, source: str) -> Revision:
    return Revision(
        id=RevisionId(f"rv-{number}"),
        source=digest(source),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("run",),
    )


def service(name: str, *revisions: Revision, label: Label = PERSONAL) -> Service:
    serving = (Share(revision=revisions[-1].id, percent=100),) if revisions else ()
    return Service(
        id=ServiceId(f"sv-{name}"),
        project=PROJECT,
        name=name,
        hosts=(f"{name}.x",),
        label=label,
        lane=LANE.id,
        revisions=revisions,
        shares=serving,
    )


def standby(name: str, source: str, label: Label = PERSONAL) -> Standby:
    return Standby(id=ServiceId(f"sv-{name}"), project=PROJECT, name=name, source=digest(source), label=label)


def forwarded(name: str) -> Forwarded:
    host = (f"{name}.x",)
    return Forwarded(
        id=ServiceId(f"sv-{name}"),
        project=PROJECT,
        name=name,
        hosts=host,
        access=Access.PUBLIC,
        revisions=(),
        lane=LANE.id,
    )


def told(**more: object) -> DesiredState:
    plain = DesiredState(
        installation=INSTALLATION, epoch=1, generation=1, site=HERE, issued_at=NOW, base_domain="x", lanes=(LANE,)
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def lacks(desired: DesiredState, here: str = "", built: str = "") -> tuple[Lacking, ...]:
    return lacking(desired, here={digest(one) for one in here}, built=lambda one: one == built)


def test_what_is_to_run_is_asked_of_those_that_run_it_and_then_of_those_that_may_have_it() -> None:
    desired = told(services=(service("web", revision(1, "a")),))
    assert lacks(desired) == (Lacking(source=digest("a"), services=("web",), sites=(LYON, PARIS), needed=True),)


@pytest.mark.parametrize(("here", "built"), [("a", ""), ("", "rv-1")])
def test_what_is_here_or_built_is_not_asked_for(here: str, built: str) -> None:
    assert lacks(told(services=(service("web", revision(1, "a")),)), here, built) == ()


def test_what_serves_no_more_is_not_asked_for() -> None:
    desired = told(services=(service("web", revision(1, "a"), revision(2, "b")),))
    assert [one.source for one in lacks(desired)] == [digest("b")]


def test_what_may_have_to_be_taken_over_comes_after_what_is_to_run() -> None:
    desired = told(
        standby=(standby("claims", "c"),),
        forwarded=(forwarded("claims"),),
        services=(service("web", revision(1, "a")),),
    )
    assert [(one.source, one.sites, one.needed) for one in lacks(desired)] == [
        (digest("a"), (LYON, PARIS), True),
        (digest("c"), (LYON, PARIS), False),
    ]


def test_a_source_of_several_is_asked_for_once() -> None:
    desired = told(services=(service("web", revision(1, "a")), service("shop", revision(2, "a"))))
    assert lacks(desired) == (Lacking(source=digest("a"), services=("web", "shop"), sites=(LYON, PARIS), needed=True),)


def test_where_requests_may_not_pass_nobody_is_asked() -> None:
    assert lacks(told(standby=(standby("claims", "c"),)))[0].sites == ()


# --- the site that is asked -------------------------------------------------------------------------------------------


def charter(site: SiteId, country: str, kind: SiteKind, until: date | None = None) -> Charter:
    said = Fact(value=country, source="a contract", since=date(2026, 1, 1), until=until)
    facts = Facts(country=said, exposure=replace(said, value=frozenset({country})))
    return Charter(installation=INSTALLATION, site=site, name=site, version=1, kind=kind, facts=facts)


CHARTERS = {
    HERE: charter(HERE, "FR", SiteKind.ON_PREM),
    LYON: charter(LYON, "FR", SiteKind.SOVEREIGN),
    VIRGINIA: charter(VIRGINIA, "US", SiteKind.PUBLIC),
}
WORD = Word(charters=CHARTERS, law=Admissions(law=shipped_law()), home="FR", heard_at=NOW)
RUNS = told(services=(service("claims", revision(1, "a")),))


def hands(to: SiteId, desired: DesiredState = RUNS, word: Word = WORD, source: str = "a") -> str | None:
    return refuses_to_hand(digest(source), to, desired, word, NOW)


def test_a_source_goes_where_what_is_made_of_it_may_be_built() -> None:
    assert hands(LYON) is None
    why = hands(VIRGINIA)
    assert why is not None
    assert why.startswith("the law that the owner signed refuses it there: ")
    assert "gdpr.transfer" in why


def test_a_site_that_only_waits_hands_it_too() -> None:
    waits = told(standby=(standby("claims", "a"),))
    assert hands(LYON, waits) is None
    assert hands(VIRGINIA, waits) is not None


def test_the_strictest_of_what_is_made_of_it_counts() -> None:
    both = told(services=(service("site", revision(1, "a"), label=PUBLIC), service("claims", revision(2, "a"))))
    alone = told(services=(service("site", revision(1, "a"), label=PUBLIC),))
    assert hands(VIRGINIA, alone) is None
    assert hands(VIRGINIA, both) is not None


def test_what_nobody_knows_here_goes_nowhere() -> None:
    assert hands(LYON, source="b") == "nothing here is made of it"


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(replace(WORD, law=None), id="no law"),
        pytest.param(replace(WORD, charters={HERE: CHARTERS[HERE]}), id="no charter of the site that asks"),
        pytest.param(
            replace(WORD, charters={**CHARTERS, LYON: charter(LYON, "FR", SiteKind.SOVEREIGN, date(2026, 11, 1))}),
            id="a fact that ran out",
        ),
        pytest.param(
            replace(WORD, stale_after={2: timedelta(hours=1)}, heard_at=NOW - timedelta(hours=2)), id="not heard"
        ),
    ],
)
def test_no_answer_is_a_no(word: Word) -> None:
    assert hands(LYON, word=word) is not None


def test_a_label_that_was_lowered_by_nobody_is_not_believed() -> None:
    lowered = told(services=(service("claims", revision(1, "a"), label=PUBLIC),))
    floors = {ServiceId("sv-claims"): PERSONAL}
    assert hands(VIRGINIA, lowered) is None
    assert hands(VIRGINIA, lowered, replace(WORD, floors=floors)) is not None
