"""Faults to put into the real code, each of which the watch must see.

Those of the control plane, and of what both it and the sites ask, are lived through as they are: the watch holds each
of the two guards to the law alone. A site's last word is asked what the control plane has asked already, so that its
faults show where the first guard is away: with a control plane that asks nobody (`asks_nobody`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from fleet_callers import lets_all_in
from fleet_draw import Theme
from fleet_site import Line
from lawful_oracle import Mark

from kasbah.agent import last_word as site_word
from kasbah.agent.last_word import LastWord
from kasbah.agent.site_clock import SiteClock
from kasbah.api import manifest
from kasbah.control.loops import law as law_loop
from kasbah.control.store.sql_law import SqlGrants
from kasbah.control.usecases import (
    crossing,
    law_now,
    lawful,
    outbound,
    placing,
    plan,
    publish,
    retire_site,
    roll_law,
    send_source,
    standbys,
    vouching,
)
from kasbah.decide import (
    admission,
    conclusions,
    last_word,
    law_rollout,
    placement,
    placer,
    policies,
    reading,
    standing,
)
from kasbah.decide.egress import Exits, Way, named
from kasbah.decide.grants import Grants, in_force
from kasbah.domain.charter import end_of
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission, Data, Place
from kasbah.domain.site import SiteKind

Patch = pytest.MonkeyPatch
ALLOWED, REFUSED = Admission(allowed=True), Admission(allowed=False, problem="always no")


def everywhere(law: Any, label: Any, sites: Any, purpose: Any = None) -> dict[Any, Admission]:
    return dict.fromkeys(sites, ALLOWED)


# --- a control plane that asks nobody ---------------------------------------------------------------------------------


def asks_nobody(patch: Patch) -> None:
    """Services, requests and sources go anywhere and labels fall freely; sites are shown the oldest charter beside the
    newest, at times an older law in the place of a new one, and the key of a thief for those of the others; callers
    are let in, whoever they are."""
    lets_all_in(patch)
    for module in (placing, lawful, publish, send_source):
        patch.setattr(module, "admissions", everywhere)
    patch.setattr(plan, "check_label", lambda law, service: None)
    patch.setattr(outbound, "exits", calls_freely)
    shown, charters = {}, publish._charters

    def with_old_ones(scene: Any, *more: Any) -> Any:
        found = charters(scene, *more)
        known = [one for one in (*scene.sites, *scene.outside) if one.signed in found]
        return (*found, *(shown.setdefault(one.id, one.signed) for one in known))

    patch.setattr(publish, "_charters", with_old_ones)
    peer = crossing._peer
    patch.setattr(crossing, "_peer", lambda *asked: replace(peer(*asked), key="ab" * 32))
    chance = Random(7)
    patch.setattr(Line, "asked_for", lambda self, lawbook: 1 if chance.random() < 0.5 else lawbook)


def calls_freely(label: Any, revision: Any, *asked: Any, **more: Any) -> Exits:
    ways = tuple(Way(entry=entry, admission=ALLOWED) for entry in named(revision))
    return Exits(anywhere=revision.egress is None, ways=ways, insists=False)


# --- what both ask ----------------------------------------------------------------------------------------------------


def everything_is_refused(patch: Patch) -> None:
    patch.setattr(admission, "_ask", lambda read, data, places, *more: [REFUSED] * len(places))


def nothing_named_is_allowed(patch: Patch) -> None:
    """A default deny turns into a permission."""
    made = admission.Admission
    patch.setattr(
        admission,
        "Admission",
        lambda **said: made(**said) if said.get("rules") or said.get("problem") else made(allowed=True),
    )


def a_rule_that_errs_is_skipped(patch: Patch) -> None:
    made = admission._answer

    def without(law: Any, data: Any, place: Any, answer: Any) -> Admission:
        told = SimpleNamespace(errors=[], reasons=answer.diagnostics.reasons)
        return made(law, data, place, SimpleNamespace(diagnostics=told, decision=answer.decision))

    patch.setattr(admission, "_answer", without)


def an_unknown_regime_is_none(patch: Patch) -> None:
    patch.setattr(policies.Law, "regimes", property(lambda law: frozenset({"house", "ma-bank", *manifest_regimes()})))


def manifest_regimes() -> tuple[str, ...]:
    return ("gdpr", "ma-0908", "ma-0520", "fr-hds", "fr-state", "eu-sovereign", "agents")


def unlabelled_is_public(patch: Patch) -> None:
    patch.setattr(manifest, "UNLABELLED", Label(level=Level.PUBLIC, declared=False))


def facts_never_end(patch: Patch) -> None:
    patch.setattr(standing, "holds", lambda fact, now: standing._begins(fact) <= now)


def facts_hold_before_their_day(patch: Patch) -> None:
    patch.setattr(standing, "holds", lambda fact, now: fact.until is None or now < end_of(fact.until))


def certificates_never_end(patch: Patch) -> None:
    held = standing.held
    patch.setattr(standing, "held", lambda facts, now: replace(held(facts, now), certificates=facts.certificates))


def answers_are_remembered_by_label_alone(patch: Patch) -> None:
    known: dict[Any, Any] = {}
    asked = admission._ask

    def remembered(read: Any, data: Any, *more: Any) -> list[Admission]:
        return [known.setdefault(data, answer) for answer in asked(read, data, *more)]

    patch.setattr(admission, "_ask", remembered)


def an_answer_for_one_purpose_is_one_for_all(patch: Patch) -> None:
    known: dict[Any, Any] = {}
    asked = admission._ask

    def remembered(read: Any, data: Any, places: Any, purpose: Any, approvals: Any) -> list[Admission]:
        found = asked(read, data, places, purpose, approvals)
        keys = [(read.law, data, place, approvals) for place in places]
        return [known.setdefault(key, answer) for key, answer in zip(keys, found, strict=True)]

    patch.setattr(policies.Law, "__hash__", lambda law: id(law))
    patch.setattr(admission, "_ask", remembered)


def places_of_one_kind_are_one_place(patch: Patch) -> None:
    """What was read of the first stands for all."""
    held = reading.Read

    class ByKind(dict[Any, Any]):
        def __contains__(self, one: object) -> bool:
            return self._alike(one) is not None

        def __getitem__(self, one: Any) -> Any:
            return dict.__getitem__(self, self._alike(one))

        def _alike(self, one: Any) -> Any:
            if isinstance(one, Data):
                return one if dict.__contains__(self, one) else None
            return next((key for key in self if isinstance(key, Place) and key.kind is one.kind), None)

    patch.setattr(reading, "Read", lambda **said: held(**{**said, "uids": ByKind(said.get("uids", {}))}))


def what_runs_need_not_be_built(patch: Patch) -> None:
    """Only the place is asked about, not whether it may be built and logged there."""
    patch.setattr(admission, "RUNNING", (admission.Purpose.PLACE,))


def europe_is_everywhere(patch: Patch) -> None:
    drawn = conclusions.attributes
    patch.setattr(reading, "attributes", lambda place, lists: {**drawn(place, lists), "inEea": True})


def nobody_is_compelled(patch: Patch) -> None:
    patch.setattr(conclusions, "_exposed_within", lambda place, area: True)


def home_is_where_the_site_is(patch: Patch) -> None:
    made = standing.standing

    def at_home(*asked: Any, **more: Any) -> Any:
        found = made(*asked, **more)
        return replace(found, place=replace(found.place, domestic=True))

    for module in (last_word, lawful):
        patch.setattr(module, "standing", at_home)
    patch.setattr(law_now, "at_home", lambda place, home: place)


def everything_is_on_own_premises(patch: Patch) -> None:
    drawn = conclusions.attributes
    patch.setattr(reading, "attributes", lambda place, lists: {**drawn(place, lists), "kind": SiteKind.ON_PREM.value})


def an_approval_is_for_everybody(patch: Patch) -> None:
    def approved(grants: Grants, service: Any, project: Any, site: Any) -> Any:
        return {one.name: one.expires_at for one in grants.approvals if not one.sites or site in one.sites}

    patch.setattr(Grants, "approved", approved)


def an_approval_is_for_everywhere(patch: Patch) -> None:
    def approved(grants: Grants, service: Any, project: Any, site: Any) -> Any:
        return {one.name: one.expires_at for one in grants.approvals if service in one.services}

    patch.setattr(Grants, "approved", approved)


def a_declassification_lowers_everything(patch: Patch) -> None:
    def lowered(grants: Grants, service: Any, label: Any) -> Any:
        return max((one.expires_at for one in grants.declassifications if one.service == service), default=None)

    patch.setattr(Grants, "lowered", lowered)


# --- the control plane's own ------------------------------------------------------------------------------------------


def allow_everywhere(patch: Patch, purpose: str) -> None:
    """Where it is decided who serves and where requests pass."""
    asked = lawful.Lawful.at
    patch.setattr(
        lawful.Lawful,
        "at",
        lambda self, service, what: frozenset(self.places) if what == purpose else asked(self, service, what),
    )


def transit_is_not_asked_about(patch: Patch) -> None:
    allow_everywhere(patch, "forward")


def anybody_may_send(patch: Patch) -> None:
    """The sites from which requests are let in are all there are."""
    made = crossing.lane

    def open_to_all(decision: Any, site: Any, dialled: Any) -> Any:
        found = made(decision, site, dialled)
        return None if found is None else replace(found, entries=tuple(one for one in ALL_SITES if one != site))

    everyone = crossing.crossings

    def noted(installation: Any, sites: Any, *more: Any) -> Any:
        ALL_SITES[:] = [one.id for one in sites]
        return everyone(installation, sites, *more)

    patch.setattr(crossing, "lane", open_to_all)
    patch.setattr(publish, "crossings", noted)


ALL_SITES: list[Any] = []


def a_placement_is_for_ever(patch: Patch) -> None:
    """Where it was placed it serves, and nobody asks again before that is published."""
    allow_everywhere(patch, "place")
    patch.setattr(plan, "_placement", lambda existing, service, decided: service.placement)


def only_the_first_of_several_is_asked_about(patch: Patch) -> None:
    """Neither where a service is placed anew nor where that is published: both ask, and each makes up for the other."""
    asked = lawful.admissions

    def first(law: Any, label: Any, places: Any, *more: Any) -> Any:
        answers = asked(law, label, places, *more)
        here = [one for one in places if one in law.runs_at]
        return {**answers, **dict.fromkeys(here, ALLOWED)} if here and answers[here[0]].allowed else answers

    for module in (placing, lawful):
        patch.setattr(module, "admissions", first)


def another_site_is_asked_about(patch: Patch) -> None:
    """Each site has the next one's answer."""
    asked = lawful.admissions

    def shifted(law: Any, label: Any, places: Mapping[Any, Any], *more: Any) -> Any:
        answers = asked(law, label, places, *more)
        return dict(zip(answers, [*list(answers.values())[1:], *list(answers.values())[:1]], strict=True))

    for module in (placing, lawful):
        patch.setattr(module, "admissions", shifted)


def the_first_law_is_remembered(patch: Patch) -> None:
    known: dict[str, Any] = {}
    read = law_now.Library.book
    patch.setattr(
        law_now.Library,
        "book",
        lambda self, signed: replace(
            read(self, signed), admissions=known.setdefault("", read(self, signed)).admissions
        ),
    )


def approvals_never_end(patch: Patch) -> None:
    live = SqlGrants.live
    never = lambda self, now: live(self, now.replace(year=2020))  # noqa: E731
    patch.setattr(SqlGrants, "live", never)
    for module in (law_now, site_word):
        patch.setattr(module, "in_force", _without_end)


def _without_end(grants: Any, now: Any) -> Grants:
    return in_force([replace(one, expires_at=datetime.max.replace(tzinfo=UTC)) for one in grants], now)


def labels_fall_freely(patch: Patch) -> None:
    patch.setattr(plan, "check_label", lambda law, service: None)
    patch.setattr(vouching, "_opens_as_much", lambda *asked: True)  # which asks for the label of before, too


def what_fell_stays_down(patch: Patch) -> None:
    patch.setattr(lawful, "lowers", lambda declared, label: False)


def sources_go_anywhere(patch: Patch) -> None:
    patch.setattr(send_source, "admissions", everywhere)
    patch.setattr(send_source, "_standbys", lambda placement, able: able)


def every_site_keeps_every_source(patch: Patch) -> None:
    def all_of_them(services: Any, revisions: Any, lawful: Any) -> Any:
        sources = [(one, kept.contents.source) for one in services for kept in revisions[one.id]]
        return dict.fromkeys(lawful.places, tuple(standbys._standby(*one) for one in sources))

    patch.setattr(publish, "standbys", all_of_them)


def what_is_drained_is_filled(patch: Patch) -> None:
    made = placing.facts
    patch.setattr(placing, "facts", lambda *asked: replace(made(*asked), draining=False))


def what_is_lost_keeps_all(patch: Patch) -> None:
    made = placing.facts
    patch.setattr(placing, "facts", lambda *asked: replace(made(*asked), lost=False))


def what_is_lost_stays_chosen_beside_its_heir(patch: Patch) -> None:
    made = placement._leaving
    ready = lambda now: replace(now, ready=frozenset())  # noqa: E731
    patch.setattr(placement, "_leaving", lambda site, chosen, now: made(site, chosen, ready(now)))


def what_is_removed_is_told_nothing(patch: Patch) -> None:
    patch.setattr(retire_site, "clear", lambda *asked: "desired/none")


def the_heir_of_what_is_lost_is_anyone(patch: Patch) -> None:
    """Once a site is lost, nobody asks where its services may go, nor when that is published."""
    made = placement.place_among

    def anywhere(service: Any, needs: Any, sites: Any, unlawful: Any, now: Any) -> Any:
        lost = any(one.lost and one.site in now.at for one in sites)
        return made(service, needs, sites, {} if lost else unlawful, now)

    for module in (placement, placer):
        patch.setattr(module, "place_among", anywhere)
    allow_everywhere(patch, "place")


def a_law_comes_to_all_at_once(patch: Patch) -> None:
    def at_once(sites: Any, **asked: Any) -> Any:
        found = law_rollout.next_step(sites, **asked)
        left = tuple(one.site for one in sites if one.arrived_at is None)
        return replace(found, sites=left) if found.sites else found

    patch.setattr(roll_law, "next_step", at_once)


def a_law_stays_at_the_first_site(patch: Patch) -> None:
    patch.setattr(law_loop.Law, "_roll", lambda self: None)


# --- the site's own, under a control plane that asks nobody ----------------------------------------------------------


def a_site_takes_all_it_is_told(patch: Patch) -> None:
    patch.setattr(LastWord, "judge", lambda self, identity, told: told)


def a_site_lets_all_pass(patch: Patch) -> None:
    """It asks what may run, and not what may pass."""
    asked = last_word.Judge.refusal
    patch.setattr(
        last_word.Judge,
        "refusal",
        lambda self, service, label, purpose: None if purpose == "forward" else asked(self, service, label, purpose),
    )


def a_site_sends_anywhere(patch: Patch) -> None:
    patch.setattr(last_word.Judge, "lane", lambda self, lane, services: lane)


def a_site_keeps_any_source(patch: Patch) -> None:
    asked = last_word.Judge.refusal
    patch.setattr(
        last_word.Judge,
        "refusal",
        lambda self, service, label, purpose: None if purpose == "build" else asked(self, service, label, purpose),
    )


def a_site_asks_about_itself_alone(patch: Patch) -> None:
    """Of the others it takes its own answer."""
    asked = last_word.Judge.ask
    patch.setattr(
        last_word.Judge,
        "ask",
        lambda self, service, label, site, purpose: asked(self, service, label, self._told.site, purpose),
    )


def a_site_takes_the_lane_s_label(patch: Patch) -> None:
    """And not the strictest of those in it."""
    lane, label = last_word.Judge.lane, last_word.Judge.label

    def by_the_lane(self: Any, one: Any, services: Any) -> Any:
        last_word.Judge.label = lambda self, service, said: said  # type: ignore[method-assign]
        try:
            return lane(self, one, services)
        finally:
            last_word.Judge.label = label  # type: ignore[method-assign]

    patch.setattr(last_word.Judge, "lane", by_the_lane)


def a_site_takes_lower_labels(patch: Patch) -> None:
    patch.setattr(last_word.Judge, "label", lambda self, service, said: said)


def a_site_is_not_told_what_was_declared(patch: Patch) -> None:
    """It knows the labels that it has seen, and no more."""
    made, forwarded, standby = publish._service, publish._forwarded, standbys._standby
    patch.setattr(publish, "_service", lambda *asked: replace(made(*asked), declared=None))
    patch.setattr(publish, "_forwarded", lambda *asked: replace(forwarded(*asked), declared=None))
    patch.setattr(standbys, "_standby", lambda *asked: replace(standby(*asked), declared=None))


def a_site_takes_older_charters(patch: Patch) -> None:
    made = site_word.verify_document

    def ever_newer(owner: Any, context: Any, signed: Any, shape: Any) -> Any:
        found = made(owner, context, signed, shape)
        if hasattr(found, "gateway_key"):
            NUMBERS.append(0)
            return replace(found, version=len(NUMBERS))
        return found

    patch.setattr(site_word, "verify_document", ever_newer)


NUMBERS: list[int] = []


def a_site_takes_older_laws(patch: Patch) -> None:
    def take(self: Any, identity: Any, signed: Any) -> None:
        lawbook = site_word.verify_document(
            site_word.parse_public(identity.owner_key), site_word.LAWBOOK, signed, site_word.Lawbook
        )
        self._load(site_word.parse_public(identity.owner_key))
        self._hold(lawbook, signed)
        self._last = None

    patch.setattr(LastWord, "take_law", take)


def a_site_keeps_its_first_law(patch: Patch) -> None:
    hold = LastWord._hold

    def first(self: Any, lawbook: Any, signed: Any) -> None:
        law = self._law
        hold(self, lawbook, signed)
        self._law = law or self._law

    patch.setattr(LastWord, "_hold", first)


def a_site_remembers_its_answer(patch: Patch) -> None:
    """What it made of a desired state holds for as long as that does."""
    patch.setattr(site_word, "changes_at", lambda word, now: None)


def a_site_goes_on_without_a_word(patch: Patch) -> None:
    word = site_word.Word
    patch.setattr(site_word, "Word", lambda **said: word(**{**said, "stale_after": {}}))


def a_site_believes_its_own_clock(patch: Patch) -> None:
    patch.setattr(SiteClock, "now", lambda self: self.own.now())


def a_site_s_grants_never_end(patch: Patch) -> None:
    patch.setattr(site_word, "in_force", _without_end)


def a_site_meets_whom_it_is_told_to(patch: Patch) -> None:
    """By the key that the control plane names."""
    patch.setattr(last_word.Judge, "known", lambda self, peer: peer)


# --- what each is seen by --------------------------------------------------------------------------------------------


def marks(level: int, about: str = "", under: str = "") -> Mark:
    return Mark(level=level, about=frozenset(about.split()), under=frozenset(under.split()))


MONEY = (marks(1, "financial"), marks(2, "financial", "house"), marks(3, "financial"))
CODE = (marks(1, "source-code"),)
SENSITIVE = (marks(3), marks(4), marks(3, under="eu-sovereign"), marks(2, "personal health", "gdpr"))
PERSONAL = (marks(2, "personal", "gdpr"), marks(2, "personal", "ma-0908"), marks(2, "health", "ma-0908"))
SLOWLY = {"often": {"redeclare": 6, "cut": 4}, "jumps": 0.35}
"""Days pass, and sites are cut off meanwhile."""
ERRS = Theme(marks=MONEY, house=frozenset({"errs"}), most_sites=5)
BUILT = Theme(marks=CODE, house=frozenset({"code-is-built-at-home"}), often={"redeclare": 6}, most_sites=6)
ENTERS = Theme(marks=MONEY[:1], house=frozenset({"money-enters-at-home"}), often={"redeclare": 6}, most_sites=6)
DAYS = Theme(marks=(*SENSITIVE, *PERSONAL), most_sites=6, **SLOWLY)  # type: ignore[arg-type]
PAPERS = Theme(marks=(marks(4), marks(2, "health", "fr-hds"), marks(3, under="ma-0520")), most_sites=6, **SLOWLY)  # type: ignore[arg-type]
FACTS = Theme(marks=(*SENSITIVE, *PERSONAL), often={"redeclare": 8}, most_sites=6)
LAWS = Theme(marks=(*MONEY, *PERSONAL, marks(1)), often={"legislate": 10}, most_sites=5)
GRANTS = Theme(marks=(*PERSONAL, marks(3, under="agents")), often={"approve": 14, "deploy": 4}, most_sites=5)
LABELS = Theme(marks=(marks(1), *SENSITIVE, *PERSONAL), often={"lower": 12, "deploy": 6}, most_sites=5)
LOSSES = Theme(
    marks=(marks(0), marks(1), marks(2, "personal", "gdpr")), often={"lose": 6, "cut": 6, "send": 6}, most_sites=6
)
DRAINS = Theme(marks=(marks(0), marks(1)), often={"drain": 10, "send": 4, "deploy": 6}, most_sites=5)
REMOVALS = Theme(marks=(marks(0), marks(1)), often={"remove": 8, "join": 8, "deploy": 6}, most_sites=7)
SEVERAL = Theme(marks=(marks(2), marks(2, "personal", "gdpr")), often={"redeclare": 12, "deploy": 6, "send": 4})
STALE = Theme(
    marks=(marks(2), marks(3)),
    stale_after={2: timedelta(seconds=20), 3: timedelta(seconds=20)},
    often={"cut": 10},
    jumps=0.3,
    most_sites=5,
)
CLOCKS = Theme(
    marks=(*SENSITIVE, *PERSONAL),
    often={"set_clock": 12, "cut": 8, "legislate": 4, "approve": 6},
    jumps=0.3,
    most_sites=5,
)

Faults = dict[Callable[[Patch], None], Theme]

FALLEN = Theme(marks=(marks(1), *SENSITIVE), often={"lower": 16, "cut": 10}, jumps=0.35, most_sites=5)
HONEST: Faults = {
    a_site_is_not_told_what_was_declared: FALLEN,
    everything_is_refused: FACTS,
    nothing_named_is_allowed: FACTS,
    a_rule_that_errs_is_skipped: ERRS,
    an_unknown_regime_is_none: Theme(marks=(marks(1, under="ma-bank"), marks(1, under="house"))),
    unlabelled_is_public: Theme(marks=(None,)),
    facts_never_end: replace(DAYS, first=1),
    facts_hold_before_their_day: replace(DAYS, first=2),
    certificates_never_end: replace(PAPERS, first=1),
    answers_are_remembered_by_label_alone: FACTS,
    an_answer_for_one_purpose_is_one_for_all: ENTERS,
    places_of_one_kind_are_one_place: FACTS,
    what_runs_need_not_be_built: BUILT,
    europe_is_everywhere: FACTS,
    nobody_is_compelled: FACTS,
    home_is_where_the_site_is: Theme(marks=(marks(2),), often={"redeclare": 8}),
    everything_is_on_own_premises: FACTS,
    an_approval_is_for_everybody: GRANTS,
    an_approval_is_for_everywhere: GRANTS,
    a_declassification_lowers_everything: LABELS,
    transit_is_not_asked_about: FACTS,
    anybody_may_send: FACTS,
    a_placement_is_for_ever: FACTS,
    only_the_first_of_several_is_asked_about: replace(SEVERAL, first=15),
    another_site_is_asked_about: FACTS,
    the_first_law_is_remembered: LAWS,
    approvals_never_end: replace(GRANTS, first=2),
    labels_fall_freely: LABELS,
    what_fell_stays_down: replace(LABELS, first=1),
    sources_go_anywhere: FACTS,
    every_site_keeps_every_source: FACTS,
    what_is_drained_is_filled: DRAINS,
    what_is_lost_keeps_all: replace(LOSSES, first=2),
    what_is_lost_stays_chosen_beside_its_heir: replace(LOSSES, first=2),
    what_is_removed_is_told_nothing: REMOVALS,
    the_heir_of_what_is_lost_is_anyone: replace(LOSSES, first=3),
    a_law_comes_to_all_at_once: LAWS,
    a_law_stays_at_the_first_site: LAWS,
}
UNGUARDED: Faults = {
    a_site_takes_all_it_is_told: FACTS,
    a_site_lets_all_pass: FACTS,
    a_site_sends_anywhere: FACTS,
    a_site_keeps_any_source: FACTS,
    a_site_asks_about_itself_alone: FACTS,
    a_site_takes_the_lane_s_label: LABELS,
    a_site_takes_lower_labels: LABELS,
    a_site_takes_older_charters: FACTS,
    a_site_takes_older_laws: LAWS,
    a_site_keeps_its_first_law: LAWS,
    a_site_remembers_its_answer: replace(DAYS, first=1),
    a_site_goes_on_without_a_word: STALE,
    a_site_believes_its_own_clock: replace(CLOCKS, first=3),
    a_site_s_grants_never_end: replace(GRANTS, first=9),
    a_site_meets_whom_it_is_told_to: FACTS,
}
