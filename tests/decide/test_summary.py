"""One word and one sentence for a service at a site."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.scaling import Rung
from kasbah.decide.summary import summarise
from kasbah.domain.ids import ProjectId, ReplicaId, RevisionId, RolloutId, ServiceId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.service import Service, ServiceState, Share, Trial

REVISION = RevisionId("rv-1")
TRIED = Service(
    id=ServiceId("sv-1"),
    project=ProjectId("pr-1"),
    name="web",
    hosts=("web.localhost",),
    trial=Trial(rollout=RolloutId("ro-1"), revision=REVISION),
)
UNTRIED = Service(id=ServiceId("sv-1"), project=ProjectId("pr-1"), name="web", hosts=("web.localhost",))


def replicas(states: list[ReplicaState]) -> list[Replica]:
    return [
        Replica(
            id=ReplicaId(f"rp-{number}"),
            service=TRIED.id,
            revision=REVISION,
            state=state,
            address="127.0.0.1:1",
            since=datetime(2026, 3, 1, tzinfo=UTC),
        )
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("rung", "states", "failure", "state"),
    [
        (Rung.RUNNING, ["ready", "starting", "draining"], "", "running"),
        (Rung.RUNNING, ["starting"], "", "starting"),
        (Rung.RUNNING, ["unready"], "", "starting"),
        (Rung.RUNNING, ["starting", "ended"], "exited with code 1", "starting"),
        (Rung.RUNNING, [], "", "starting"),
        (Rung.RUNNING, ["ended"], "exited with code 1", "failed"),
        (Rung.FROZEN, ["frozen", "frozen"], "", "frozen"),
        (Rung.FROZEN, ["draining"], "", "draining"),
        (Rung.STOPPED, ["stopping"], "", "stopped"),
        (Rung.STOPPED, ["ended"], "", "stopped"),
        (Rung.STOPPED, [], "exited with code 1", "failed"),
    ],
)
def test_a_service_with_traffic(rung: Rung, states: list[str], failure: str, state: str) -> None:
    there = replicas([ReplicaState(one) for one in states])
    found, reason = summarise(TRIED, rung=rung, replicas=there, statuses=(), failure=failure)
    assert found == ServiceState(state)
    assert reason == failure


SERVING = replace(UNTRIED, shares=(Share(revision=REVISION, percent=100),))


@pytest.mark.parametrize(
    ("build", "state", "reason"),
    [
        (BuildState.ABSENT, "waiting", "its source is not here: deploy it again to send it"),
        (BuildState.BUILDING, "building", "installing"),
        (BuildState.FAILED, "failed", "no such package"),
        (BuildState.BUILT, "stopped", ""),
    ],
)
def test_a_service_that_was_given_to_this_site_is_built_first(build: BuildState, state: str, reason: str) -> None:
    status = RevisionStatus(revision=REVISION, build=build, step="installing", reason="no such package")
    other = RevisionStatus(revision=RevisionId("rv-2"), build=BuildState.BUILT)
    found = summarise(SERVING, rung=Rung.STOPPED, replicas=(), statuses=(other, status), failure="")
    assert found == (state, reason)


def test_what_runs_still_runs_though_its_build_is_gone() -> None:
    there, status = replicas([ReplicaState.READY]), RevisionStatus(revision=REVISION)
    assert summarise(SERVING, rung=Rung.RUNNING, replicas=there, statuses=(status,), failure="") == ("running", "")


def test_what_serves_is_not_called_failed() -> None:
    there = replicas([ReplicaState.READY])
    assert summarise(TRIED, rung=Rung.RUNNING, replicas=there, statuses=(), failure="it ended") == ("running", "")


@pytest.mark.parametrize(
    ("build", "trial", "state", "reason"),
    [
        (BuildState.ABSENT, TrialState.UNTRIED, "waiting", "waiting for its source"),
        (BuildState.BUILDING, TrialState.UNTRIED, "building", "installing"),
        (BuildState.FAILED, TrialState.FAILED, "failed", "no such package"),
        (BuildState.BUILT, TrialState.TRYING, "starting", ""),
        (BuildState.BUILT, TrialState.FAILED, "failed", "no such package"),
        (BuildState.BUILT, TrialState.PROVEN, "starting", ""),
    ],
)
def test_a_service_before_its_first_revision_serves(build, trial, state: str, reason: str) -> None:
    status = RevisionStatus(revision=REVISION, build=build, trial=trial, step="installing", reason="no such package")
    assert summarise(TRIED, rung=None, replicas=(), statuses=(status,), failure="") == (state, reason)


def test_a_service_nobody_has_looked_at_yet_waits() -> None:
    other = RevisionStatus(revision=RevisionId("rv-2"), build=BuildState.BUILT)
    assert summarise(TRIED, rung=None, replicas=(), statuses=(other,), failure="")[0] is ServiceState.WAITING


def test_a_service_whose_only_deploy_failed_says_so() -> None:
    assert summarise(UNTRIED, rung=None, replicas=(), statuses=(), failure="") == (
        "failed",
        "no revision has started yet",
    )


@given(
    st.none() | st.sampled_from(Rung),
    st.lists(st.sampled_from(ReplicaState), max_size=5),
    st.booleans(),
    st.sampled_from(["", "it ended"]),
)
def test_the_word_is_true_of_the_replicas(rung, states: list[ReplicaState], tried: bool, failure: str) -> None:
    service = TRIED if tried else UNTRIED
    state, reason = summarise(service, rung=rung, replicas=replicas(states), statuses=(), failure=failure)
    if rung is not None:
        assert (state is ServiceState.RUNNING) == (ReplicaState.READY in states)
        assert state is not ServiceState.FROZEN or ReplicaState.FROZEN in states
    assert state is not ServiceState.FAILED or reason, "a failure says why"


@pytest.mark.parametrize("states", [["ready"], ["stopping"], ["ended"], []])
def test_what_is_wanted_here_no_more_ends_and_has_not_failed(states: list[str]) -> None:
    """A site that refuses a service says nothing of how well it served; a change of the law would halt at it."""
    there = replicas([ReplicaState(one) for one in states])
    found = summarise(UNTRIED, rung=None, replicas=there, statuses=(), failure="exited with code 1", ends=True)
    assert found == (ServiceState.DRAINING, "it ends here")
