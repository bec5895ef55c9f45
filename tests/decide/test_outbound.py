"""What a service may call: nothing that the law does not let its data be sent to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.admission import Admissions
from kasbah.decide.egress import UNKNOWN, Called, Exits, Outside, Reach, exits, kept, limited
from kasbah.decide.refusals import may_not_call
from kasbah.domain.egress import destination
from kasbah.domain.ids import Digest, RevisionId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.site import CLOSABLE, ENFORCED, OPEN, SiteKind
from kasbah.packs import shipped_law

LAW = Admissions(law=shipped_law())
PLAIN = Revision(
    id=RevisionId("rv-1"), source=Digest("sha256:" + "0" * 64), source_size=1, runtime=Runtime.COMMAND, command=("x",)
)
INTERNAL, RESTRICTED = Label(level=Level.INTERNAL), Label(level=Level.RESTRICTED)
SENSITIVE, PERSONAL = (
    Label(level=Level.SENSITIVE),
    Label(level=Level.INTERNAL, categories=("personal",), regimes=("gdpr",)),
)
FRANCE = Place(kind=SiteKind.PUBLIC, country="FR", domestic=False)
AMERICA = Place(kind=SiteKind.PUBLIC, country="US", domestic=False)
CELLAR = Place(kind=SiteKind.ON_PREM)
HERE = (SiteId("st-here"), CELLAR)


def outside(place: Place, *hosts: str, name: str = "supplier") -> Outside:
    return Outside(site=SiteId(f"st-{name}"), name=name, place=place, hosts=tuple(map(destination, hosts)))


def found(label: Label, revision: Revision, *places: Outside, **services: Called) -> Exits:
    def ask(_site: SiteId, place: Place) -> Admission:
        return LAW.admit(Data(label=label), place, Purpose.EGRESS)

    return exits(label, revision, ask, outside=places, called=services.get)


def allowed(label: Label, entry: str, *places: Outside) -> bool:
    return found(label, replace(PLAIN, egress=(entry,)), *places).allowed == (entry,)


@pytest.mark.parametrize(
    ("label", "anywhere"),
    [
        (Label(level=Level.PUBLIC), True),
        (INTERNAL, True),
        (PERSONAL, False),
        (RESTRICTED, False),
        (SENSITIVE, False),
        (UNLABELLED, False),
        (Label(level=Level.INTERNAL, regimes=("unheard-of",)), False),
    ],
    ids=["public", "internal", "personal", "restricted", "sensitive", "unlabelled", "a regime nobody knows"],
)
def test_what_a_file_does_not_name_is_open_only_where_the_law_lets_data_be_anywhere(
    label: Label, anywhere: bool
) -> None:
    assert found(label, PLAIN).reach is (Reach.ANYWHERE if anywhere else Reach.NOWHERE)


def test_from_level_2_nothing_is_open_whatever_the_law_allows() -> None:
    answer = exits(RESTRICTED, PLAIN, lambda *_: Admission(allowed=True), outside=(), called=lambda _: None)
    assert answer.reach is Reach.NOWHERE


def test_what_a_file_names_and_nobody_declared_is_refused_from_level_2() -> None:
    assert allowed(INTERNAL, "api.example.com:443")
    assert not allowed(RESTRICTED, "api.example.com:443")


@pytest.mark.parametrize(
    ("label", "place", "answer"),
    [
        (SENSITIVE, CELLAR, True),
        (SENSITIVE, FRANCE, False),
        (RESTRICTED, AMERICA, False),
        (Label(level=Level.RESTRICTED, regimes=("gdpr",)), FRANCE, True),
        (Label(level=Level.RESTRICTED, regimes=("gdpr",)), AMERICA, False),
    ],
)
def test_what_was_declared_is_admitted_as_a_site_is(label: Label, place: Place, answer: bool) -> None:
    assert allowed(label, "api.example.com:443", outside(place, "api.example.com:443")) is answer


@pytest.mark.parametrize(
    ("entry", "hosts", "answer"),
    [
        ("api.example.com:443", ["api.example.com"], True),
        ("api.example.com", ["api.example.com:443"], False),
        ("api.example.com:444", ["api.example.com:443"], False),
        ("www.example.com:443", ["example.com"], False),
        ("10.1.0.0/16", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["10.1.0.0/16"], False),
        ("10.1.2.3:5432", ["10.0.0.0/8:5432"], True),
        ("10.1.2.3", ["10.0.0.0/8:5432"], False),
        ("db.example.com", ["10.0.0.0/8"], False),
        ("0.0.0.0/0", ["0.0.0.0/1", "128.0.0.0/1"], False),
    ],
)
def test_all_of_an_entry_must_be_declared(entry: str, hosts: list[str], answer: bool) -> None:
    assert allowed(SENSITIVE, entry, outside(CELLAR, *hosts)) is answer


def test_every_place_that_an_entry_meets_must_be_lawful() -> None:
    ours, theirs = outside(CELLAR, "10.0.0.0/8"), outside(AMERICA, "10.9.0.0/16:443", name="cloud")
    assert allowed(SENSITIVE, "10.1.0.0/16", ours, theirs)
    assert not allowed(SENSITIVE, "10.0.0.0/8", ours, theirs)
    assert not allowed(SENSITIVE, "10.9.1.1", ours, theirs)
    assert allowed(SENSITIVE, "10.9.1.1:80", ours, theirs)


@pytest.mark.parametrize(
    ("caller", "label", "sites", "answer"),
    [
        (SENSITIVE, SENSITIVE, [HERE], True),
        (SENSITIVE, RESTRICTED, [HERE], False),
        (SENSITIVE, Label(level=Level.VITAL), [HERE], True),
        (SENSITIVE, SENSITIVE, [HERE, (SiteId("st-us"), AMERICA)], False),
        (SENSITIVE, SENSITIVE, [(SiteId("st-gone"), UNKNOWN)], False),
        (UNLABELLED, UNLABELLED, [HERE], True),
        (UNLABELLED, SENSITIVE, [HERE], True),
        (PERSONAL, INTERNAL, [HERE], False),
        (INTERNAL, Label(level=Level.PUBLIC), [(SiteId("st-us"), AMERICA)], True),
    ],
)
def test_another_service_is_called_where_its_sites_may_have_the_data_and_its_label_says_no_less(
    caller: Label, label: Label, sites: list[tuple[SiteId, Place]], answer: bool
) -> None:
    callee = Called(label=label, sites=tuple(sites))
    for revision in (replace(PLAIN, calls=("shop",)), replace(PLAIN, egress=("service:shop",))):
        assert (found(caller, revision, shop=callee).allowed == ("service:shop",)) is answer


def test_a_service_that_is_not_there_is_called_by_nobody() -> None:
    assert found(SENSITIVE, replace(PLAIN, calls=("shop",))).refused == ()


# --- what a site does with it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("egress", "reaches"),
    [(OPEN, {Reach.ANYWHERE}), (CLOSABLE, {Reach.ANYWHERE, Reach.NOWHERE}), (ENFORCED, set(Reach))],
)
def test_what_a_site_can_keep_to(egress: str, reaches: set[Reach]) -> None:
    assert {reach for reach in Reach if kept(egress, reach)} == reaches


def test_replicas_are_started_with_what_is_allowed_and_without_the_rest() -> None:
    named = replace(PLAIN, egress=("api.example.com", "10.1.1.1"), calls=("shop", "bank"))
    shop, bank = Called(label=SENSITIVE, sites=(HERE,)), Called(label=INTERNAL, sites=(HERE,))
    answer = found(SENSITIVE, named, outside(CELLAR, "10.0.0.0/8"), shop=shop, bank=bank)
    run = limited(named, answer, ENFORCED)
    assert (run.egress, run.calls) == (("10.1.1.1", "service:shop"), ("shop",))


def test_a_site_that_cannot_limit_calls_runs_what_need_not_be_limited_unlimited() -> None:
    assert limited(PLAIN, found(RESTRICTED, PLAIN), OPEN).egress is None
    assert limited(PLAIN, found(RESTRICTED, PLAIN), CLOSABLE).egress == ()


@pytest.mark.parametrize(
    ("label", "revision", "insists"),
    [
        (RESTRICTED, PLAIN, False),
        (SENSITIVE, PLAIN, True),
        (UNLABELLED, PLAIN, True),
        (INTERNAL, replace(PLAIN, egress=()), True),
    ],
)
def test_who_insists(label: Label, revision: Revision, insists: bool) -> None:
    assert found(label, revision).insists is insists


def test_what_may_be_called_anywhere_is_left_as_it_is() -> None:
    assert limited(PLAIN, found(INTERNAL, PLAIN), ENFORCED) is PLAIN


# --- what people are told ---------------------------------------------------------------------------------------------


def told(label: Label, revision: Revision, *places: Outside, **services: Called) -> tuple[str, str]:
    (way,) = found(label, revision, *places, **services).refused
    return may_not_call(label, way)


def test_who_is_refused_is_told_how_to_declare_who_is_there() -> None:
    reason, hint = told(UNLABELLED, replace(PLAIN, egress=("api.example.com:443",)))
    assert "nobody declared who is at api.example.com:443" in reason
    assert "hosts: [api.example.com:443]" in hint
    assert "data: {level: internal}" in hint


def test_who_is_refused_is_told_the_place_and_what_it_lacks() -> None:
    revision = replace(PLAIN, egress=("api.example.com:443",))
    reason, _ = told(SENSITIVE, revision, outside(AMERICA, "api.example.com"))
    assert reason.startswith("api.example.com:443 is at supplier: its data is of level 3")


def test_who_is_refused_is_told_of_the_lower_label() -> None:
    reason, hint = told(SENSITIVE, replace(PLAIN, calls=("shop",)), shop=Called(label=INTERNAL, sites=(HERE,)))
    assert reason == "shop is labelled 1 internal, and would get data labelled 3 sensitive"
    assert "label the service that is called at least as high" in hint


# --- as a property ----------------------------------------------------------------------------------------------------

ENTRIES = ["api.example.com", "api.example.com:443", "10.0.0.0/8", "10.1.2.3", "10.1.2.3:443", "192.0.2.0/24"]
PLACES = st.lists(
    st.builds(
        lambda place, hosts, name: outside(place, *hosts, name=name),
        st.sampled_from([CELLAR, FRANCE, AMERICA, UNKNOWN]),
        st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=3),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=3,
)


@given(
    label=st.sampled_from([INTERNAL, PERSONAL, RESTRICTED, SENSITIVE, UNLABELLED]),
    entries=st.none() | st.lists(st.sampled_from(ENTRIES), unique=True).map(tuple),
    places=PLACES,
)
def test_whatever_is_allowed_is_only_at_places_that_may_have_the_data(
    label: Label, entries: tuple[str, ...] | None, places: list[Outside]
) -> None:
    answer = found(label, replace(PLAIN, egress=entries), *places)

    def may_have(place: Place) -> bool:
        return LAW.admit(Data(label=label), place, Purpose.EGRESS).allowed

    for entry in answer.allowed:
        there = [one.place for one in places if _shares(entry, one)]
        assert all(may_have(place) for place in there)
        assert there or may_have(UNKNOWN)
    assert may_have(UNKNOWN) or not answer.anywhere


ADDRESSES = [(host, port) for host in ("api.example.com", "10.1.2.3", "10.9.9.9", "192.0.2.9") for port in (443, 80)]
WITHIN = {"10.0.0.0/8": "10.", "192.0.2.0/24": "192.0.2."}


def _shares(entry: str, place: Outside) -> bool:
    """Whether an address is in both: looked at one by one, apart from the code under test."""
    hosts = [f"{one.host or one.network}{'' if one.port is None else f':{one.port}'}" for one in place.hosts]
    return any(_has(entry, *address) and any(_has(host, *address) for host in hosts) for address in ADDRESSES)


def _has(entry: str, host: str, port: int) -> bool:
    where, _, number = entry.partition(":")
    where = where.removesuffix("/32")
    return number in ("", str(port)) and (where == host or host.startswith(WITHIN.get(where, "nothing")))


def refused_in(country: str, data: Label, place: Place) -> Admission:
    """A law that names the countries it refuses, and so lets a place pass of which nothing is known."""
    return Admission(allowed=place.country != country or data.level is Level.PUBLIC)


def under_it(label: Label, revision: Revision, *places: Outside, **services: Called) -> Exits:
    def ask(_site: SiteId, place: Place) -> Admission:
        return refused_in("US", label, place)

    return exits(label, revision, ask, outside=places, called=services.get)


def test_a_declared_place_that_the_law_refuses_by_name_is_not_called_by_a_service_whose_file_names_nothing() -> None:
    supplier = outside(AMERICA, "crm.example:443", "10.1.0.0/16")
    assert under_it(INTERNAL, PLAIN, outside(FRANCE, "mail.example")).reach is Reach.ANYWHERE
    answer = under_it(INTERNAL, PLAIN, outside(FRANCE, "mail.example"), supplier)
    assert answer.reach is Reach.NOWHERE
    assert [(way.entry, way.places) for way in answer.barred] == [
        ("crm.example:443", ("supplier",)),
        ("10.1.0.0/16", ("supplier",)),
    ]
    assert not answer.refused, "its file names nothing, so that its deploy is not refused"
    assert under_it(Label(level=Level.PUBLIC), PLAIN, supplier).reach is Reach.ANYWHERE


def test_data_that_may_be_where_nothing_is_known_is_sent_to_no_service_at_a_place_that_is_refused() -> None:
    calls = replace(PLAIN, calls=("search",))
    there = Called(label=Label(level=Level.PUBLIC), sites=((SiteId("st-us"), AMERICA),))
    assert not under_it(INTERNAL, calls, search=there).allowed
    assert under_it(INTERNAL, calls, search=replace(there, sites=(HERE,))).allowed == ("service:search",)
