"""Returns a service to a revision that served before. At once, where its build is still at its sites.

In the middle of a rollout, without saying where to, the way back is to where traffic was when it began.
"""

from __future__ import annotations

from datetime import timedelta

from kasbah.control.store.records import RevisionRecord, RolloutRecord, ServiceRecord
from kasbah.control.usecases.begin_rollout import begin_rollout
from kasbah.control.usecases.quotas import allow
from kasbah.control.usecases.supersede import supersede, under_way
from kasbah.control.usecases.work import Work, check_version, revision_named, service_named
from kasbah.domain.ids import RevisionId
from kasbah.domain.rollout import Cause, RolloutRules, Strategy
from kasbah.errors import Conflict

AT_ONCE = RolloutRules(strategy=Strategy.BLUE_GREEN, watch=timedelta(0))
"""What served before has proved itself: all traffic returns at once, and is not watched."""


def rollback(work: Work, project: str, name: str, *, to: str | None, expected_version: int | None) -> RolloutRecord:
    """Return to revision `to`, or to what served before; the rollout to watch."""
    service = service_named(work, project, name)
    check_version(service, expected_version)
    going = under_way(work, service)
    service = supersede(work, service, by="traffic was returned by hand")
    if going is not None and to is None and going.percent < 100 and service.shares:
        return work.tx.rollouts.get(going.id) or going
    target = _target(work, service, to)
    if service.percent(target.id) == 100:
        raise Conflict(
            f"revision {target.id} of {name} has all the traffic already",
            hint=f"`kasbah describe {name}` lists its revisions: name another with --to",
            code="already_serving",
        )
    work.journal.detail(service=service.id, revision=target.id)
    allow(work, service, runs=target.contents)
    return begin_rollout(work, service, target.id, rules=AT_ONCE, cause=Cause.ROLLBACK)


def _target(work: Work, service: ServiceRecord, to: str | None) -> RevisionRecord:
    """The revision to return to. Raises NotFound or Conflict where there is none."""
    wanted = to if to is not None else _previous(work, service)
    if wanted is None:
        raise Conflict(
            f"nothing served before revision {service.serving} of {service.name}" if service.shares
            else f"no revision of {service.name} has served yet",
            hint=f"name one with --to; `kasbah describe {service.name}` lists them",
            code="nothing_before",
        )  # fmt: skip
    found = revision_named(work, service, wanted)
    if not found.proven:
        raise Conflict(
            f"revision {found.id} of {service.name} has never served",
            hint="deploy it: a rollback returns only to what has shown that it starts",
            code="never_served",
        )
    return found


def _previous(work: Work, service: ServiceRecord) -> RevisionId | None:
    """What served before the revision that serves now, and is still kept."""
    kept = {one.id for one in work.tx.revisions.of(service.id)}
    for rollout in work.tx.rollouts.of(service.id):
        previous = rollout.rollout.previous
        if rollout.revision == service.serving and rollout.percent == 100 and previous in kept:
            return previous
    return None
