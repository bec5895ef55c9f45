"""What a change of the law would do: a table, and that what is said is what will be."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.admission import Admissions
from kasbah.decide.blast import Answers, Asked, Blast, Resident, allowance, blast
from kasbah.decide.egress import Exits, Outside, exits
from kasbah.decide.opening import openings
from kasbah.domain.charter import Limit
from kasbah.domain.egress import destination
from kasbah.domain.ids import Digest, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission, Data, Pack, Place, Purpose
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.site import SiteKind
from kasbah.packs import law_of, shipped

PLACES = {
    SiteId("casa"): Place(kind=SiteKind.ON_PREM, country="MA"),
    SiteId("paris"): Place(kind=SiteKind.SOVEREIGN, country="FR", exposure=frozenset({"FR"})),
    SiteId("cloud"): Place(kind=SiteKind.PUBLIC, country="FR", exposure=frozenset({"FR", "US"})),
}
CASA, PARIS, CLOUD = PLACES
PACKS = {one.name: one for one in shipped()}
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))


@cache
def law(*names: str) -> Admissions:
    return Admissions(law=law_of(PACKS[name] for name in ("base", *names)))


OUTSIDE = Outside(
    site=SiteId("st-api"),
    name="supplier",
    place=Place(kind=SiteKind.PUBLIC, country="US"),
    hosts=(destination("api.example.com"),),
)
REVISION = Revision(
    id=RevisionId("rv-1"), source=Digest("sha256:" + "0" * 64), source_size=1, runtime=Runtime.COMMAND, command=("x",)
)


def asked(under: Admissions, purpose: Purpose) -> Asked:
    return lambda one, site: under.admit(Data(label=one.label), PLACES[site], purpose)


def answers(under: Admissions, egress: tuple[str, ...] | None = None) -> Answers:
    def calls(one: Resident) -> Exits:
        def ask(_site: SiteId, place: Place) -> Admission:
            return under.admit(Data(label=one.label), place, Purpose.EGRESS)

        return exits(one.label, replace(REVISION, egress=egress), ask, outside=(OUTSIDE,), called=lambda _: None)

    return Answers(place=asked(under, Purpose.PLACE), forward=asked(under, Purpose.FORWARD), calls=calls)


def between(old: Admissions, new: Admissions, *residents: Resident, egress: tuple[str, ...] | None = None) -> Blast:
    return blast(
        residents,
        PLACES,
        answers(old, egress),
        answers(new, egress),
        lambda one, site: tuple(
            found.words for found in openings(new, Data(label=one.label), PLACES[site], Purpose.PLACE)
        ),
    )


def resident(name: str, label: Label, *sites: SiteId) -> Resident:
    return Resident(service=ServiceId(f"sv-{name}"), name=name, label=label, sites=sites)


def test_a_regime_whose_pack_is_taken_out_ends_everywhere() -> None:
    found = between(law("gdpr"), law(), resident("web", PERSONAL, PARIS))
    (ending,) = found.ends
    assert (ending.service, ending.site, ending.others, ending.reopens) == ("web", PARIS, (), ())
    assert "'gdpr'" in ending.why.problem
    assert found.stranded == ("web",)
    assert found.closes == (("web", CLOUD),)
    assert (found.losing, found.loosens) == (1, False)


FORWARDS = """@id("house.{name}") @title("House") @advice("Ask.") @cite("the board") @verified("2026")
forbid (principal, action == Kasbah::Action::"{action}", resource) when {{ resource has country && {when} }};"""


def house(action: str, when: str) -> Admissions:
    text = FORWARDS.format(name=action.lower(), action=action, when=when)
    return Admissions(law=law_of((PACKS["base"], Pack(name="house", title="Ours", version=1, policies=text))))


def test_where_requests_may_pass_no_more_is_told_of_those_that_run() -> None:
    barred, internal = house("Forward", 'resource.country == "FR"'), Label(level=Level.INTERNAL)
    runs, waits = resident("web", internal, CASA), resident("late", internal)
    found = between(law(), barred, runs, waits)
    assert (found.bars, found.admits) == ((("web", PARIS), ("web", CLOUD)), ())
    assert (found.ends, found.closes, found.losing, found.loosens) == ((), (), 0, False)
    back = between(barred, law(), runs, waits)
    assert (back.bars, back.admits, back.loosens) == ((), (("web", PARIS), ("web", CLOUD)), True)


def test_what_is_called_and_may_be_no_more_counts_as_a_loss() -> None:
    internal = Label(level=Level.INTERNAL)
    found = between(
        law(),
        house("Egress", 'resource.country == "US"'),
        resident("web", internal, CASA),
        egress=("api.example.com:443", "other.example.com"),
    )
    (cut,) = found.cuts
    assert (cut.service, cut.entry, [one.id for one in cut.why.rules]) == (
        "web",
        "api.example.com:443",
        ["house.egress"],
    )
    assert (found.losing, found.loosens) == (1, False)


def test_what_could_be_called_anywhere_and_may_not_be_is_told() -> None:
    nowhere = """@id("house.shut") @title("Shut") @advice("Ask.") @cite("the board") @verified("2026")
    forbid (principal, action == Kasbah::Action::"Egress", resource);"""
    new = Admissions(law=law_of((PACKS["base"], Pack(name="house", title="Ours", version=1, policies=nowhere))))
    found = between(law(), new, resident("web", Label(level=Level.INTERNAL), CASA))
    assert [(cut.service, cut.entry) for cut in found.cuts] == [("web", "")]


def test_what_ends_at_one_site_and_may_go_to_another_is_not_stranded() -> None:
    rule = """@id("house.own") @title("Not in public clouds") @advice("Move it.") @cite("the board") @verified("2026")
    forbid (principal, action, resource) when { resource.kind == "public" };"""
    house = Pack(name="house", title="Ours", version=1, policies=rule)
    new = Admissions(law=law_of((PACKS["base"], house)))
    found = between(law(), new, resident("web", Label(level=Level.INTERNAL), CLOUD))
    (ending,) = found.ends
    assert (ending.site, ending.others, [one.id for one in ending.why.rules]) == (CLOUD, (CASA, PARIS), ["house.own"])
    assert (found.stranded, found.closes, found.opens) == ((), (), ())


def test_a_pack_that_is_turned_on_opens_what_named_it_in_vain() -> None:
    found = between(law(), law("gdpr"), resident("web", PERSONAL))
    assert found.opens == (("web", PARIS), ("web", CLOUD))
    assert (found.ends, found.stranded, found.loosens) == ((), (), True)


SAME_CALLS = Exits(anywhere=True, ways=(), insists=False)


def shifted(found: Blast) -> list[tuple[Level, str, str | None, tuple[SiteId, ...], int, int, int]]:
    return [
        (one.label.level, one.kind.value, one.country, one.sites, one.ends, one.closes, one.opens)
        for one in found.shifts
    ]


def test_what_changes_is_counted_by_label_and_kind_of_site() -> None:
    rule = """@id("house.own") @title("Own premises") @advice("Move it.") @cite("the board") @verified("2026")
    forbid (principal, action, resource) when { resource.kind != "on-prem" && principal.label.level > 0 };"""
    new = Admissions(law=law_of((PACKS["base"], Pack(name="house", title="Ours", version=1, policies=rule))))
    internal = Label(level=Level.INTERNAL)
    there = [resident(f"web{number}", internal, CLOUD) for number in range(3)]
    there += [resident("both", internal, PARIS, CLOUD), resident("home", internal, CASA)]
    there += [resident("page", Label(level=Level.PUBLIC), CLOUD), resident("late", PERSONAL)]
    assert shifted(between(law(), new, *there)) == [
        (Level.INTERNAL, "public", "FR", (CLOUD,), 4, 1, 0),
        (Level.INTERNAL, "sovereign", "FR", (PARIS,), 1, 4, 0),
    ]
    assert shifted(between(new, law(), *(replace(one, sites=()) for one in there))) == [
        (Level.INTERNAL, "public", "FR", (CLOUD,), 0, 0, 5),
        (Level.INTERNAL, "sovereign", "FR", (PARIS,), 0, 0, 5),
    ]


def test_a_service_counts_once_at_sites_of_one_kind_and_labels_are_told_apart() -> None:
    places = {SiteId(f"cloud{number}"): Place(kind=SiteKind.PUBLIC, country="FR") for number in range(3)}
    yes, no = Admission(allowed=True), Admission(allowed=False)

    def all_say(answer: Admission) -> Answers:
        return Answers(place=lambda *_: answer, forward=lambda *_: yes, calls=lambda _: SAME_CALLS)

    there = [resident("one", PERSONAL, *places), resident("two", replace(PERSONAL, regimes=()), *list(places)[:1])]
    found = blast(there, places, all_say(yes), all_say(no), lambda *_: ())
    assert [(one.label.regimes, one.sites, one.ends, one.closes) for one in found.shifts] == [
        ((), tuple(places), 1, 1),
        (("gdpr",), tuple(places), 1, 0),
    ]


@pytest.mark.parametrize(
    ("limit", "services", "most"),
    [
        (Limit(), 100, 0),
        (Limit(services=3), 100, 3),
        (Limit(percent=10), 25, 2),
        (Limit(services=3, percent=1), 100, 1),
        (Limit(percent=50), 1, 0),
    ],
    ids=["none", "number", "part", "both", "down"],
)
def test_how_many_may_lose_a_placement(limit: Limit, services: int, most: int) -> None:
    assert allowance(limit, services) == most


CHOICES = st.sets(st.sampled_from(["gdpr", "ma-0908", "fr-hds", "eu-sovereign", "ma-bank"])).map(
    lambda names: law(*sorted(names))
)
LABELS = st.builds(
    Label,
    level=st.sampled_from(Level),
    categories=st.lists(st.sampled_from(["personal", "health", "financial"]), unique=True).map(tuple),
    regimes=st.lists(st.sampled_from(["gdpr", "ma-0908", "fr-hds", "eu-sovereign"]), unique=True).map(tuple),
)


@given(CHOICES, CHOICES, st.lists(st.tuples(LABELS, st.sets(st.sampled_from(sorted(PLACES)))), max_size=6))
def test_a_placement_is_said_to_end_exactly_where_the_new_law_ends_it(
    old: Admissions, new: Admissions, drawn: list[tuple[Label, set[SiteId]]]
) -> None:
    """Placed as the old law allows; then the new law holds, and each is asked about again, as `publish` does."""
    there = [
        resident(f"s{number}", label, *(site for site in sorted(sites) if allows(old, label, site)))
        for number, (label, sites) in enumerate(drawn)
    ]
    found = between(old, new, *there)
    ended = {(one.name, site) for one in there for site in one.sites if not allows(new, one.label, site)}
    assert {(one.service, one.site) for one in found.ends} == ended
    lost = {one.name for one in there if one.sites and not any(allows(new, one.label, site) for site in PLACES)}
    assert set(found.stranded) == lost
    assert found.losing == len({name for name, _ in ended})
    for ending in found.ends:
        label = next(one.label for one in there if one.name == ending.service)
        assert all(allows(new, label, site) for site in ending.others)
    labels = {one.name: one.label for one in there}
    for shift in found.shifts:
        kept = {name for name, site in ended if labels[name] == shift.label and site in shift.sites}
        assert shift.ends == len(kept), "as the services say, one by one"
    turned = between(new, old, *there)
    assert set(turned.opens) >= ended, "the way back opens what ended"


def allows(under: Admissions, label: Label, site: SiteId) -> bool:
    return under.admit(Data(label=label), PLACES[site], Purpose.PLACE).allowed
