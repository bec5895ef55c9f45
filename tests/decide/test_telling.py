"""What is told of a service whose logs may not be where it is told."""

from __future__ import annotations

from datetime import UTC, datetime

from kasbah.decide.telling import without_lines
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.observed import RevisionStatus, ServiceStatus
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.domain.service import ServiceState

SERVICE, REVISION = ServiceId("sv-1"), RevisionId("rv-1")


def test_reasons_are_told_and_lines_are_not() -> None:
    ended = Replica(
        id=ReplicaId("rp-1"),
        service=SERVICE,
        revision=REVISION,
        state=ReplicaState.ENDED,
        address="127.0.0.1:9",
        since=datetime(2026, 3, 1, tzinfo=UTC),
        exit=Exit(code=3, tail=("a patient", "another")),
    )
    failed = RevisionStatus(revision=REVISION, reason="pip ended with status 1", tail=("a line of the source",))
    whole = ServiceStatus(
        service=SERVICE,
        state=ServiceState.FAILED,
        revisions=(failed, RevisionStatus(revision=RevisionId("rv-2"))),
        replicas=(ended,),
    )
    found = without_lines(whole, "elsewhere")
    assert [one.tail for one in found.revisions] == [("elsewhere",), ()]
    assert found.revisions[0].reason == "pip ended with status 1"
    assert found.replicas[0].exit == Exit(code=3, tail=("elsewhere",))
