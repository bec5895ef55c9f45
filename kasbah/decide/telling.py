"""What of a service's status is told where its logs may not be? Everything but what was printed: what a replica or a
build said last is a part of its log, and may hold what its callers sent.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.domain.observed import RevisionStatus, ServiceStatus
from kasbah.domain.replica import Replica


def without_lines(status: ServiceStatus, instead: str) -> ServiceStatus:
    """The same with these words in the place of each group of lines."""
    return replace(
        status,
        revisions=tuple(_revision(one, instead) for one in status.revisions),
        replicas=tuple(_replica(one, instead) for one in status.replicas),
    )


def _revision(status: RevisionStatus, instead: str) -> RevisionStatus:
    return replace(status, tail=(instead,)) if status.tail else status


def _replica(replica: Replica, instead: str) -> Replica:
    if replica.exit is None or not replica.exit.tail:
        return replica
    return replace(replica, exit=replace(replica.exit, tail=(instead,)))
