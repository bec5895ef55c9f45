"""A build that fails is told with its reason, whenever it is asked about."""

from __future__ import annotations

from types import SimpleNamespace

from kasbah.agent.reconciler import Reconciler
from kasbah.domain.ids import ProjectId, RevisionId, RolloutId, ServiceId
from kasbah.domain.observed import BuildState, RevisionStatus
from kasbah.domain.service import Service

REVISION, ROLLOUT = RevisionId("rv-1"), RolloutId("ro-1")
SERVICE = Service(id=ServiceId("sv-1"), project=ProjectId("pr-1"), name="web", hosts=())


def test_a_build_that_failed_since_it_was_last_looked_at_has_its_reason() -> None:
    """Its trial still says that it is being built: the pass that looks at the trial comes a moment later."""
    failed = RevisionStatus(revision=REVISION, build=BuildState.FAILED, reason="flask==999 is nowhere", tail=("no",))
    reconciler = Reconciler.__new__(Reconciler)
    reconciler._parts = SimpleNamespace(  # type: ignore[assignment]
        revisions=SimpleNamespace(status=lambda _revision: failed),
        ledger=SimpleNamespace(memory=SimpleNamespace(proven={})),
    )
    reconciler._units = {}
    reconciler._trials = {
        (SERVICE.id, REVISION): RevisionStatus(revision=REVISION, rollout=ROLLOUT, build=BuildState.BUILDING)
    }
    told = reconciler._revision_status(SERVICE, REVISION)
    assert (told.build, told.reason, told.tail) == (BuildState.FAILED, "flask==999 is nowhere", ("no",))
    assert told.rollout == ROLLOUT
