"""Admission: no answer, an error in the answer, and a question nobody can answer are all a no."""

from __future__ import annotations

from dataclasses import replace

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.admission import Admissions, admit
from kasbah.decide.conclusions import attributes
from kasbah.decide.policies import Law, law
from kasbah.domain.label import CATEGORIES, Label, Level
from kasbah.domain.law import Data, Geography, Pack, Place, Purpose, Risk
from kasbah.domain.site import SiteKind
from kasbah.packs import geography, law_of, schema, shipped, shipped_law

PREMISES = Place(kind=SiteKind.ON_PREM)
PUBLIC = Data(label=Label(level=Level.PUBLIC))
PERSONAL = Data(label=Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",)))

COUNTRIES = ["MA", "FR", "DE", "CH", "US", "CN"]
REGIMES = sorted(pack.name for pack in shipped() if pack.name != "base")
LABELS = st.builds(
    Label,
    level=st.sampled_from(Level),
    categories=st.lists(st.sampled_from(sorted(CATEGORIES)), unique=True, max_size=4).map(tuple),
    regimes=st.lists(st.sampled_from(REGIMES), unique=True, max_size=3).map(tuple),
)
DATA = st.builds(Data, label=LABELS, risk=st.none() | st.sampled_from(Risk))
SOME_COUNTRIES = st.none() | st.frozensets(st.sampled_from(COUNTRIES), max_size=3)
PLACES = st.builds(
    Place,
    kind=st.sampled_from(SiteKind),
    active=st.booleans(),
    country=st.none() | st.sampled_from(COUNTRIES),
    domestic=st.none() | st.booleans(),
    exposure=SOME_COUNTRIES,
    administered_from=SOME_COUNTRIES,
    certificates=st.frozensets(st.sampled_from(["SecNumCloud", "HDS", "DGSSI-L1", "DGSSI-L2"])),
    customer_keys=st.none() | st.booleans(),
    confidential=st.none() | st.booleans(),
    durable_logs=st.none() | st.booleans(),
)


def everything() -> Law:
    return law(shipped(), schema(), geography())


EVERYTHING = everything()


def allows(data: Data, place: Place, purpose: Purpose = Purpose.PLACE) -> bool:
    return admit(EVERYTHING, data, place, purpose).allowed


# --- the guards -------------------------------------------------------------------------------------------------------


def erring() -> Law:
    """A law whose forbid errs, as no pack that validates could: past the check, as Cedar itself would take it."""
    sound = shipped_law()
    policies = "permit (principal, action, resource); forbid (principal, action, resource) when { resource.no == 1 };"
    return replace(sound, policies=cedarpy.PolicySet.from_str(policies))


def test_a_forbid_that_errs_refuses() -> None:
    law_ = erring()
    bare = cedarpy.is_authorized(
        {"principal": 'Kasbah::Data::"a"', "action": 'Kasbah::Action::"Place"', "resource": 'Kasbah::Site::"a"'},
        law_.policies,
        [],
    )
    assert bare.allowed, "Cedar skips what errs: this is what the guard is for"
    found = admit(law_, PUBLIC, PREMISES, Purpose.PLACE)
    assert not found.allowed
    assert "could not be applied" in found.problem


def test_a_refusal_by_default_says_what_the_permits_ask_for() -> None:
    found = admit(shipped_law(), Data(label=Label(level=Level.SENSITIVE)), Place(kind=SiteKind.PUBLIC), Purpose.PLACE)
    assert not found.allowed
    assert (found.rules, [one.id for one in found.unmet]) == ((), ["base.sensitive", "base.vital"])
    assert found.missing == ("country", "exposure")
    assert all(one.unmet for one in found.unmet)


def test_a_question_is_asked_once() -> None:
    asked = Admissions(law=shipped_law())
    first = asked.admit(PERSONAL, PREMISES, Purpose.PLACE)
    again = asked.admit(replace(PERSONAL), replace(PREMISES), Purpose.PLACE)
    assert again is first
    assert asked.admit(PERSONAL, replace(PREMISES, country="FR"), Purpose.PLACE).allowed


def test_a_regime_that_no_pack_knows_refuses() -> None:
    found = admit(shipped_law(), Data(label=Label(level=Level.PUBLIC, regimes=("hipaa",))), PREMISES, Purpose.PLACE)
    assert not found.allowed
    assert "'hipaa'" in found.problem


def test_a_draft_is_no_law() -> None:
    banks = Data(label=Label(level=Level.PUBLIC, regimes=("ma-bank",)))
    assert not admit(shipped_law(), banks, PREMISES, Purpose.PLACE).allowed
    assert admit(EVERYTHING, banks, PREMISES, Purpose.PLACE).allowed


def test_entities_that_do_not_fit_the_schema_refuse() -> None:
    odd = replace(shipped_law(), schema=cedarpy.Schema.from_str(schema().replace("active: Bool", "active: Long")))
    found = admit(odd, PUBLIC, PREMISES, Purpose.PLACE)
    assert not found.allowed
    assert found.problem


# --- what always holds ------------------------------------------------------------------------------------------------


@given(DATA, PLACES, st.sampled_from(Purpose))
def test_what_is_refused_says_why_and_what_is_allowed_says_nothing(data: Data, place: Place, purpose: Purpose) -> None:
    found = admit(EVERYTHING, data, place, purpose)
    assert not found.problem
    assert found.allowed is not bool(found.rules or found.unmet)


@given(DATA, PLACES)
def test_a_higher_level_is_never_allowed_where_a_lower_one_is_not(data: Data, place: Place) -> None:
    higher = replace(data, label=replace(data.label, level=Level.VITAL))
    assert allows(data, place) or not allows(higher, place)


@given(DATA, PLACES, st.sampled_from(sorted(CATEGORIES)), st.sampled_from(REGIMES))
def test_more_on_a_label_never_opens_a_site(data: Data, place: Place, category: str, regime: str) -> None:
    label = replace(
        data.label,
        categories=tuple({*data.label.categories, category}),
        regimes=tuple({*data.label.regimes, regime}),
    )
    assert allows(data, place) or not allows(replace(data, label=label), place)


@given(DATA, PLACES)
def test_a_fact_that_is_not_known_opens_nothing(data: Data, place: Place) -> None:
    known = ("country", "domestic", "exposure", "administered_from", "customer_keys", "confidential", "durable_logs")
    blind = replace(place, **dict.fromkeys(known), certificates=frozenset())
    assert allows(data, place) or not allows(data, blind)


@given(DATA, PLACES)
def test_nothing_goes_where_no_site_is_active(data: Data, place: Place) -> None:
    assert not allows(data, replace(place, active=False))


@given(PLACES)
def test_premises_hold_what_is_under_no_law(place: Place) -> None:
    """`up` on a machine of which nothing was declared runs what is not labelled."""
    here = replace(place, kind=SiteKind.ON_PREM, active=True)
    assert allows(Data(label=Label(level=Level.VITAL)), here)


# --- conclusions ------------------------------------------------------------------------------------------------------

LISTS = Geography(eea=frozenset({"FR", "DE"}), adequate={"gdpr": frozenset({"CH"}), "ma-0908": frozenset({"FR"})})


@pytest.mark.parametrize(
    ("facts", "concluded"),
    [
        ({}, {"adequateUnder": []}),
        ({"country": "FR"}, {"inEea": True, "adequateUnder": ["gdpr", "ma-0908"]}),
        ({"country": "CH"}, {"inEea": False, "adequateUnder": ["gdpr"]}),
        ({"country": "US"}, {"inEea": False, "adequateUnder": []}),
        ({"exposure": {"FR"}}, {"adequateUnder": [], "exposureInEea": True}),
        (
            {"country": "FR", "exposure": {"FR", "DE"}},
            {"inEea": True, "adequateUnder": ["gdpr", "ma-0908"], "exposureInEea": True, "exposureAtHome": True},
        ),
        (
            {"country": "FR", "exposure": {"FR", "US"}},
            {"inEea": True, "adequateUnder": ["gdpr", "ma-0908"], "exposureInEea": False, "exposureAtHome": False},
        ),
        (
            {"country": "US", "exposure": {"US"}},
            {"inEea": False, "adequateUnder": [], "exposureInEea": False, "exposureAtHome": True},
        ),
        ({"country": "US", "exposure": set()}, {"inEea": False, "adequateUnder": []}),
    ],
    ids=["nothing", "eea", "adequate", "third", "compelled", "home", "abroad", "elsewhere", "nobody"],
)
def test_what_follows_from_facts(facts, concluded) -> None:
    place = Place(**{**facts, "kind": SiteKind.PUBLIC, **_frozen(facts)})
    found = attributes(place, LISTS)
    names = ("inEea", "adequateUnder", "exposureInEea", "exposureAtHome")
    assert {name: found[name] for name in names if name in found} == concluded


def _frozen(facts):
    return {name: frozenset(value) for name, value in facts.items() if isinstance(value, set)}


def test_a_pack_s_own_rules_reach_admission() -> None:
    own = Pack(
        name="house",
        title="Ours",
        version=1,
        policies='@id("house.no") @title("Nothing on Fridays") @advice("Wait.") @cite("us") @verified("2026-11-26")'
        ' forbid (principal, action, resource) when { principal.label.regimes.contains("house") };',
    )
    found = admit(
        law((*shipped(), own), schema(), geography()),
        Data(label=Label(level=Level.PUBLIC, regimes=("house",))),
        PREMISES,
        Purpose.BACKUP,
    )
    assert [one.title for one in found.rules] == ["Nothing on Fridays"]


@pytest.mark.parametrize("action", ["Build", "Log"])
def test_what_may_not_be_built_or_logged_somewhere_may_not_be_placed_there(action: str) -> None:
    rule = (
        f'@id("house.{action}") @title("x") @advice("x") @cite("x") @verified("2026-01-01")\n'
        f'forbid (principal, action == Kasbah::Action::"{action}", resource) when {{ resource.kind == "edge" }};'
    )
    house = Pack(name="house", title="Ours", version=1, policies=rule)
    made = law((*(one for one in shipped() if one.name == "base"), house), schema(), geography())
    assert made.singled_out == {action}
    edge = replace(PREMISES, kind=SiteKind.EDGE)
    refused = admit(made, PUBLIC, edge, Purpose.PLACE)
    assert (refused.allowed, [one.id for one in refused.rules]) == (False, [f"house.{action}"])
    assert admit(made, PUBLIC, edge, Purpose.FORWARD).allowed
    assert admit(made, PUBLIC, PREMISES, Purpose.PLACE).allowed


@given(PLACES)
def test_more_sensitive_data_may_never_be_where_less_sensitive_data_may_not(place: Place) -> None:
    answers = [allows(Data(label=Label(level=level)), place) for level in Level]
    assert answers == sorted(answers, reverse=True), dict(zip(Level, answers, strict=True))


def test_a_rule_that_errs_is_told_by_its_own_name() -> None:
    """It validates: a number that grows too large shows only as it is asked."""
    said = '@id("house.sum") @title("x") @advice("x") @cite("x") @verified("2026-01-01")\n'
    rule = f"{said}forbid (principal, action, resource) when {{ principal.label.level + 9223372036854775807 > 1 }};"
    packs = (*(one for one in shipped() if not one.draft), Pack(name="house", title="x", version=1, policies=rule))
    place = Place(kind=SiteKind.ON_PREM)
    found = admit(law_of(packs), Data(label=Label(level=Level.INTERNAL)), place, Purpose.PLACE)
    assert not found.allowed
    assert "`house.sum`" in found.problem
    assert "must mend it" in found.problem
