from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.rollout import RolloutDeadlines, SiteProgress, next_step, wait_for_place
from kasbah.domain.ids import RevisionId, RolloutId, ServiceId, SiteId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.rollout import Rollout, RolloutState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINES = RolloutDeadlines()
REVISION = RevisionId("rv-new")
ROLLOUT = Rollout(
    id=RolloutId("ro-1"),
    service=ServiceId("sv-1"),
    revision=REVISION,
    previous=RevisionId("rv-old"),
    state=RolloutState.WAITING,
    started_at=NOW,
    changed_at=NOW,
)


def status(build: BuildState, trial: TrialState = TrialState.UNTRIED, **more) -> RevisionStatus:
    return RevisionStatus(**{"revision": REVISION, "rollout": ROLLOUT.id, "build": build, "trial": trial} | more)


def at(seen: RevisionStatus | None, *, connected: bool = True, applied: bool = False) -> SiteProgress:
    return SiteProgress(site="local", connected=connected, status=seen, applied=applied)


def step(*progress: SiteProgress, rollout: Rollout = ROLLOUT, shifted_at: datetime | None = None, now: datetime = NOW):
    return next_step(rollout, progress, shifted_at=shifted_at, now=now, deadlines=DEADLINES)


BUILDING = status(BuildState.BUILDING, step="installing 12 packages")
PROVEN = status(BuildState.BUILT, TrialState.PROVEN)
FAILED_BUILD = status(BuildState.FAILED, reason="pip said no", tail=("one", "two"))
FAILED_START = status(BuildState.BUILT, TrialState.FAILED, reason="exited with code 1", tail=("boom",))


@pytest.mark.parametrize(
    ("seen", "state", "words", "shift"),
    [
        (None, RolloutState.WAITING, "waiting for the source", False),
        (status(BuildState.ABSENT), RolloutState.WAITING, "waiting for the source", False),
        (BUILDING, RolloutState.BUILDING, "installing 12 packages", False),
        (status(BuildState.BUILT), RolloutState.STARTING, "starting a replica", False),
        (status(BuildState.BUILT, TrialState.TRYING), RolloutState.STARTING, "starting a replica", False),
        (PROVEN, RolloutState.STARTING, "moving traffic", True),
        (FAILED_BUILD, RolloutState.FAILED, "pip said no", False),
        (FAILED_START, RolloutState.FAILED, "exited with code 1", False),
        (replace(PROVEN, rollout=RolloutId("ro-0")), RolloutState.WAITING, "waiting for the source", False),
        (replace(FAILED_START, rollout=RolloutId("ro-0")), RolloutState.WAITING, "waiting for the source", False),
    ],
)
def test_what_a_site_says_decides_the_step(seen, state, words, shift) -> None:
    taken = step(at(seen))
    assert taken.state is state
    assert words in taken.reason + taken.step
    assert taken.shift is shift


def test_a_failure_keeps_the_last_lines() -> None:
    assert step(at(FAILED_BUILD)).tail == ("one", "two")
    assert step(at(FAILED_START)).tail == ("boom",)


def test_a_failure_without_a_reason_still_has_one() -> None:
    assert step(at(replace(FAILED_BUILD, reason=""))).reason == "the build failed"
    assert step(at(replace(FAILED_START, reason=""))).reason == "the replica did not start"


@pytest.mark.parametrize(
    ("state", "seen", "deadline", "words"),
    [
        (RolloutState.WAITING, None, DEADLINES.source, "did not arrive"),
        (RolloutState.BUILDING, BUILDING, DEADLINES.build, "still building"),
        (RolloutState.STARTING, status(BuildState.BUILT, TrialState.TRYING), DEADLINES.start, "still starting"),
    ],
)
def test_each_stretch_has_a_deadline_of_its_own(state, seen, deadline, words) -> None:
    rollout = replace(ROLLOUT, state=state)
    assert step(at(seen), rollout=rollout, now=NOW + deadline).state is state
    late = step(at(seen), rollout=rollout, now=NOW + deadline + timedelta(seconds=1))
    assert late.state is RolloutState.FAILED
    assert words in late.reason


def test_a_stretch_that_begins_has_all_its_time() -> None:
    """The source came late; the build is not blamed for it."""
    late = NOW + DEADLINES.source + DEADLINES.build
    assert step(at(BUILDING), now=late).state is RolloutState.BUILDING


def test_a_site_that_is_away_is_waited_for() -> None:
    rollout = replace(ROLLOUT, state=RolloutState.BUILDING)
    waits = step(at(BUILDING, connected=False), rollout=rollout, now=NOW + timedelta(days=1))
    assert waits.state is RolloutState.WAITING
    assert "does not report" in waits.reason


def test_moved_traffic_is_done_once_the_site_acts_on_it() -> None:
    shifted = replace(ROLLOUT, state=RolloutState.STARTING)
    assert step(at(PROVEN), rollout=shifted, shifted_at=NOW).state is RolloutState.STARTING
    assert step(at(PROVEN, applied=True), rollout=shifted, shifted_at=NOW).state is RolloutState.DONE
    assert step(at(PROVEN, connected=False), rollout=shifted, shifted_at=NOW).state is RolloutState.DONE
    late = NOW + DEADLINES.apply + timedelta(seconds=1)
    assert step(at(PROVEN), rollout=shifted, shifted_at=NOW, now=late).state is RolloutState.DONE


def test_moved_traffic_is_never_moved_again() -> None:
    assert not step(at(PROVEN), shifted_at=NOW).shift


def test_the_slowest_site_decides_and_the_first_to_fail_fails_it() -> None:
    assert step(at(PROVEN), at(BUILDING)).state is RolloutState.BUILDING
    assert not step(at(PROVEN), at(status(BuildState.BUILT))).shift
    assert step(at(PROVEN), at(PROVEN)).shift
    assert step(at(BUILDING), at(FAILED_START)).state is RolloutState.FAILED


def test_a_rollout_without_a_place_says_for_each_site_why() -> None:
    verdict = SiteVerdict(site=SiteId("st-1"), verdict=Verdict.REFUSED, reason="it cannot build node", hint="get npm")
    waits = wait_for_place(Placement(service=ROLLOUT.service, verdicts=(verdict,)), {SiteId("st-1"): "local"})
    assert waits.state is RolloutState.WAITING
    assert "local: it cannot build node (get npm)" in waits.reason


STATUSES = st.builds(
    RevisionStatus,
    revision=st.just(REVISION),
    rollout=st.sampled_from([ROLLOUT.id, RolloutId("ro-0"), None]),
    build=st.sampled_from(BuildState),
    trial=st.sampled_from(TrialState),
)
PROGRESS = st.lists(
    st.builds(SiteProgress, site=st.just("s"), connected=st.booleans(), status=st.none() | STATUSES), min_size=1
)
GOING = st.sampled_from([RolloutState.WAITING, RolloutState.BUILDING, RolloutState.STARTING])


@given(PROGRESS, GOING, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_traffic_moves_only_when_every_site_has_proven_this_very_rollout(progress, state, passed) -> None:
    taken = step(*progress, rollout=replace(ROLLOUT, state=state), now=NOW + passed)
    proven = all(
        one.status is not None
        and one.status.rollout == ROLLOUT.id
        and one.status.build is BuildState.BUILT
        and one.status.trial is TrialState.PROVEN
        for one in progress
    )
    assert taken.shift == proven
    assert taken.state is not RolloutState.DONE
    if taken.state in (RolloutState.FAILED, RolloutState.WAITING):
        assert taken.reason
