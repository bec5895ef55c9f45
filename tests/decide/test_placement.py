from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide import placement
from kasbah.decide.egress import Reach
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.law import Admission, Rule
from kasbah.domain.placement import Placement, Verdict
from kasbah.domain.revision import Resources, Runtime
from kasbah.domain.site import CLOSABLE, ENFORCED, OPEN

SERVICE = ServiceId("sv-1")
HERE = SiteFacts(
    site=SiteId("st-1"),
    name="local",
    seen=True,
    connected=True,
    runtimes=("python", "command"),
    cpus=4.0,
    memory=8 * 2**30,
)
LABEL = Label(level=Level.INTERNAL)
PYTHON = Needs(label=LABEL, runtime=Runtime.PYTHON)
LISTING = replace(PYTHON, reach=Reach.LISTED, insists=True)
ALLOWED = Admission(allowed=True)
TITLED = Rule(
    id="gdpr.transfer", pack="gdpr", title="It stays", advice="Move it.", citation="art. 44", verified="never"
)
PERMIT = replace(TITLED, id="base.open", pack="base", unmet="levels 0 and 1 may be there", level=1)


def place(service: ServiceId, wanted: Needs, sites: tuple[SiteFacts, ...]) -> Placement:
    """Where the law has nothing against any site."""
    return placement.place(service, wanted, sites, {site.site: ALLOWED for site in sites})


def test_a_site_that_refused_it_itself_is_not_asked_again() -> None:
    other = replace(HERE, site=SiteId("st-2"), name="paris")
    lawful = {one.site: ALLOWED for one in (HERE, other)}
    here, there = placement.place(
        SERVICE, PYTHON, (HERE, other), lawful, turned_away={HERE.site: "a pack that it pinned"}
    ).verdicts
    assert (here.verdict, here.reason) == (Verdict.REFUSED, "the site itself refuses it: a pack that it pinned")
    assert "kasbah sites describe local" in here.hint
    assert there.verdict is Verdict.CHOSEN


def needs(runtime: Runtime = Runtime.PYTHON, cpu: float | None = None, memory: int | None = None) -> Needs:
    return Needs(label=LABEL, runtime=runtime, resources=Resources(cpu=cpu, memory=memory))


@pytest.mark.parametrize(
    ("wanted", "site", "reason", "hint"),
    [
        (PYTHON, replace(HERE, seen=False, connected=False), "never reported", "kasbah agent"),
        (PYTHON, replace(HERE, connected=False), "does not report at present", "agent"),
        (needs(Runtime.NODE), HERE, "cannot build node", "install node and npm"),
        (PYTHON, replace(HERE, runtimes=()), "cannot build python", "install uv"),
        (needs(cpu=8), HERE, "asks for 8 CPUs and it has 4", "resources.cpu"),
        (needs(memory=16 * 2**30), HERE, "asks for 16384 MiB and it has 8192 MiB", "resources.memory"),
        (LISTING, HERE, "what it calls cannot be limited there (egress: open)", "as root"),
        (LISTING, replace(HERE, egress=CLOSABLE), "cannot be limited there (egress: closable)", "let it call nothing"),
        (replace(LISTING, reach=Reach.NOWHERE), HERE, "cannot be limited there (egress: open)", "as root"),
    ],
)
def test_a_site_that_cannot_is_refused_with_the_reason_and_what_would_change_it(wanted, site, reason, hint) -> None:
    placed = place(SERVICE, wanted, (site,))
    (verdict,) = placed.verdicts
    assert verdict.verdict is Verdict.REFUSED
    assert reason in verdict.reason
    assert hint in verdict.hint
    assert placed.chosen == ()


@pytest.mark.parametrize(
    "wanted", [PYTHON, needs(Runtime.COMMAND), needs(cpu=4), needs(memory=8 * 2**30)], ids=lambda one: one.runtime
)
def test_a_site_that_can_is_chosen(wanted) -> None:
    assert place(SERVICE, wanted, (HERE,)).chosen == (HERE.site,)


@pytest.mark.parametrize(
    ("reach", "egress"),
    [(Reach.LISTED, ENFORCED), (Reach.NOWHERE, ENFORCED), (Reach.NOWHERE, CLOSABLE), (Reach.ANYWHERE, OPEN)],
)
def test_a_site_that_can_keep_to_what_is_called_takes_who_insists(reach: Reach, egress: str) -> None:
    wanted = replace(PYTHON, reach=reach, insists=True)
    assert place(SERVICE, wanted, (replace(HERE, egress=egress),)).chosen == (HERE.site,)


def test_who_does_not_insist_runs_where_calls_cannot_be_limited() -> None:
    assert place(SERVICE, replace(LISTING, insists=False), (HERE,)).chosen == (HERE.site,)


def test_a_plain_command_needs_nothing_there() -> None:
    assert place(SERVICE, needs(Runtime.COMMAND), (replace(HERE, runtimes=()),)).chosen == (HERE.site,)


def test_capacity_that_was_not_told_refuses_nobody() -> None:
    silent = replace(HERE, cpus=0.0, memory=0)
    assert place(SERVICE, needs(cpu=64, memory=2**50), (silent,)).chosen == (HERE.site,)


def test_the_first_that_can_is_chosen_and_the_next_is_possible() -> None:
    away = replace(HERE, site=SiteId("st-0"), connected=False)
    other = replace(HERE, site=SiteId("st-2"))
    verdicts = place(SERVICE, PYTHON, (away, HERE, other)).verdicts
    assert [one.verdict for one in verdicts] == [Verdict.REFUSED, Verdict.CHOSEN, Verdict.POSSIBLE]


@pytest.mark.parametrize(
    ("answer", "label", "reason", "hint"),
    [
        (Admission(allowed=False, rules=(TITLED,)), LABEL, "It stays [gdpr.transfer]", "Move it"),
        (
            Admission(allowed=False, rules=(TITLED,), missing=("country",)),
            LABEL,
            "It stays",
            "nobody declared the site's country: do so with `kasbah up --country`, such as --country MA, or in "
            "sites.yaml (`kasbah sites apply -f sites.yaml`); Move it",
        ),
        (
            Admission(allowed=False, unmet=(PERMIT,)),
            UNLABELLED,
            "its data is of level 3 (sensitive, as unlabelled data is): levels 0 and 1 may be there",
            "or label it, if it is less: `data: {level: internal}` in kasbah.yaml",
        ),
        (Admission(allowed=False, problem="a rule could not be applied"), LABEL, "a rule could not be", "policy list"),
    ],
    ids=["rule", "fact", "unlabelled", "error"],
)
def test_a_site_that_may_not_is_refused_whatever_it_can(answer, label, reason, hint) -> None:
    (verdict,) = placement.place(SERVICE, replace(PYTHON, label=label), (HERE,), {HERE.site: answer}).verdicts
    assert verdict.verdict is Verdict.REFUSED
    assert reason in verdict.reason
    assert hint in verdict.hint
    assert (verdict.rules, verdict.unmet) == (answer.rules, answer.unmet)


def test_a_site_that_nobody_asked_about_is_refused() -> None:
    (verdict,) = placement.place(SERVICE, PYTHON, (HERE,), {}).verdicts
    assert verdict.verdict is Verdict.REFUSED


SITES = st.lists(
    st.builds(
        SiteFacts,
        site=st.uuids().map(lambda one: SiteId(str(one))),
        name=st.just("a-site"),
        seen=st.booleans(),
        connected=st.booleans(),
        runtimes=st.lists(st.sampled_from(["python", "node", "command"])).map(tuple),
        cpus=st.floats(0, 64),
        memory=st.integers(0, 2**40),
    ),
    max_size=6,
)


@given(SITES, st.sampled_from(Runtime), st.none() | st.floats(0.1, 64), st.none() | st.integers(1, 2**40))
def test_every_site_has_a_verdict_with_a_reason_and_at_most_one_is_chosen(sites, runtime, cpu, memory) -> None:
    placed = place(SERVICE, needs(runtime, cpu, memory), tuple(sites))
    assert [one.site for one in placed.verdicts] == [site.site for site in sites]
    assert all(one.reason for one in placed.verdicts)
    assert len(placed.chosen) <= 1
    possible = [one for one in placed.verdicts if one.verdict is Verdict.POSSIBLE]
    assert placed.chosen or not possible
