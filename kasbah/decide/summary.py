"""What state is a service in at a site, in one word and one sentence? What `ps` shows."""

from __future__ import annotations

from collections.abc import Iterable

from kasbah.decide.scaling import Rung
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
    states = [one.state for one in replicas]
    if ends:
        return ServiceState.DRAINING, "it ends here"
    if rung is None:
        return _before_the_first(service, tuple(statuses))
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
    return (ServiceState.STARTING, "") if rung is Rung.RUNNING else (ServiceState.STOPPED, "")


def _before_the_first(service: Service, statuses: tuple[RevisionStatus, ...]) -> tuple[ServiceState, str]:
    trial = service.trial
    status = next((one for one in statuses if trial is not None and one.revision == trial.revision), None)
    if trial is None:
        return ServiceState.FAILED, "no revision has started yet"
    if status is None or status.build is BuildState.ABSENT:
        return ServiceState.WAITING, "waiting for its source"
    if status.build is BuildState.FAILED or status.trial is TrialState.FAILED:
        return ServiceState.FAILED, status.reason
    if status.build is BuildState.BUILDING:
        return ServiceState.BUILDING, status.step
    return ServiceState.STARTING, ""
