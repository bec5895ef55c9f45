from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.placement import Needs, SiteFacts, place
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.placement import Verdict
from kasbah.domain.revision import Resources, Runtime

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
PYTHON = Needs(runtime=Runtime.PYTHON)


def needs(runtime: Runtime = Runtime.PYTHON, cpu: float | None = None, memory: int | None = None) -> Needs:
    return Needs(runtime=runtime, resources=Resources(cpu=cpu, memory=memory))


@pytest.mark.parametrize(
    ("wanted", "site", "reason", "hint"),
    [
        (PYTHON, replace(HERE, seen=False, connected=False), "never reported", "kasbah agent"),
        (PYTHON, replace(HERE, connected=False), "does not report at present", "agent"),
        (needs(Runtime.NODE), HERE, "cannot build node", "install node and npm"),
        (PYTHON, replace(HERE, runtimes=()), "cannot build python", "install uv"),
        (needs(cpu=8), HERE, "asks for 8 CPUs and it has 4", "resources.cpu"),
        (needs(memory=16 * 2**30), HERE, "asks for 16384 MiB and it has 8192 MiB", "resources.memory"),
        (replace(PYTHON, limits_egress=True), HERE, "egress is limited, which it cannot keep", "remove egress"),
    ],
)
def test_a_site_that_cannot_is_refused_with_the_reason_and_what_would_change_it(wanted, site, reason, hint) -> None:
    placement = place(SERVICE, wanted, (site,))
    (verdict,) = placement.verdicts
    assert verdict.verdict is Verdict.REFUSED
    assert reason in verdict.reason
    assert hint in verdict.hint
    assert placement.chosen == ()


@pytest.mark.parametrize(
    "wanted", [PYTHON, needs(Runtime.COMMAND), needs(cpu=4), needs(memory=8 * 2**30)], ids=lambda one: one.runtime
)
def test_a_site_that_can_is_chosen(wanted) -> None:
    assert place(SERVICE, wanted, (HERE,)).chosen == (HERE.site,)


def test_a_site_that_keeps_egress_takes_who_limits_it() -> None:
    keeps = replace(HERE, keeps_egress=True)
    assert place(SERVICE, replace(PYTHON, limits_egress=True), (keeps,)).chosen == (HERE.site,)


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
    placement = place(SERVICE, needs(runtime, cpu, memory), tuple(sites))
    assert [one.site for one in placement.verdicts] == [site.site for site in sites]
    assert all(one.reason for one in placement.verdicts)
    assert len(placement.chosen) <= 1
    possible = [one for one in placement.verdicts if one.verdict is Verdict.POSSIBLE]
    assert placement.chosen or not possible
