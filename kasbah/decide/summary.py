"""What state is a service in at a site, in one word and one sentence? What `ps` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kasbah.decide.scaling import Rung
from kasbah.domain.ids import RevisionId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.service import Service, ServiceState


def summarise(
    service: Service,
    *,
    rung: Rung | None,
    replicas: Iterable[Replica],
    statuses: Iterable[RevisionStatus],
    failure: str,
    ends: bool = False,
) -> tuple[ServiceState, str]:
    """The state of a service. `rung` is that of the revision with traffic (None: no revision has any yet); `failure`
    says why its last start failed, empty where it did not. `ends`: it is wanted here no more, which is no failure."""
    states, told = [one.state for one in replicas], {one.revision: one for one in statuses}
    if ends:
        return ServiceState.DRAINING, "it ends here"
    if rung is None:
        return _before_the_first(service, told)
    if ReplicaState.READY in states:
        return ServiceState.RUNNING, ""
    if ReplicaState.STARTING in states or ReplicaState.UNREADY in states:
        return ServiceState.STARTING, failure
    if ReplicaState.FROZEN in states:
        return ServiceState.FROZEN, ""
    if ReplicaState.DRAINING in states:
        return ServiceState.DRAINING, ""
    if failure:
        return ServiceState.FAILED, failure
    if (first := _first_built(service, told)) is not None:
        return first
    return (ServiceState.STARTING, "") if rung is Rung.RUNNING else (ServiceState.STOPPED, "")


def _before_the_first(service: Service, told: Mapping[RevisionId, RevisionStatus]) -> tuple[ServiceState, str]:
    trial = service.trial
    if trial is None:
        return ServiceState.FAILED, "no revision has started yet"
    status = told.get(trial.revision, RevisionStatus(revision=trial.revision))
    if status.trial is TrialState.FAILED:
        return ServiceState.FAILED, status.reason
    return _unbuilt(status, "waiting for its source") or (ServiceState.STARTING, "")


def _first_built(service: Service, told: Mapping[RevisionId, RevisionStatus]) -> tuple[ServiceState, str] | None:
    """The state of what serves and was given to this site, or back to it, so that it is built here first."""
    serving = max(service.shares, key=lambda one: one.percent, default=None)
    status = None if serving is None else told.get(serving.revision)
    return None if status is None else _unbuilt(status, "its source is not here: deploy it again to send it")


def _unbuilt(status: RevisionStatus, waits: str) -> tuple[ServiceState, str] | None:
    """The state of what is not built; None where it is. `waits` is said of what lacks its source."""
    match status.build:
        case BuildState.ABSENT:
            return ServiceState.WAITING, waits
        case BuildState.FAILED:
            return ServiceState.FAILED, status.reason
        case BuildState.BUILDING:
            return ServiceState.BUILDING, status.step
        case BuildState.BUILT:
            return None
