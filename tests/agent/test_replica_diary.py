"""Starts and ends of replicas on their way to the site's audit log: in order, behind a wake's back, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kasbah.agent.audit import replicas
from kasbah.agent.audit.log import SiteLog
from kasbah.agent.audit.replicas import ReplicaDiary
from kasbah.agent.live_replica import LiveReplica
from kasbah.domain.audit import Entry, decode
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import ReplicaState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteLog]:
    log = SiteLog(tmp_path / "audit", "in-1", "st-1", lambda: NOW)
    yield log
    log.close()


def replica(name: str) -> LiveReplica:
    return LiveReplica(
        id=ReplicaId(name),
        service=ServiceId("sv-web"),
        revision=RevisionId("rv-1"),
        state=ReplicaState.STARTING,
        address="",
        since=NOW,
    )


def said(site: SiteLog) -> list[Entry]:
    return [decode(leaf) for leaf in site.leaves()]


async def test_what_happened_is_written_in_its_order_with_the_reason_and_once(site: SiteLog) -> None:
    diary = ReplicaDiary(site)
    diary.started(replica("rp-a"), "1 in flight")
    diary.ended(replica("rp-a"), "unused")
    assert said(site) == [], "nobody waits for the disk"
    await diary.write()
    await diary.write()
    assert [(one.act, one.object, one.reason, dict(one.details)) for one in said(site)] == [
        ("start_replica", "services/sv-web", "1 in flight", {"replica": "rp-a", "revision": "rv-1"}),
        ("end_replica", "services/sv-web", "unused", {"replica": "rp-a", "revision": "rv-1"}),
    ]


async def test_a_line_that_is_too_long_says_how_many_were_lost(site: SiteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "LONGEST_LINE", 2)
    diary = ReplicaDiary(site)
    for number in range(5):
        diary.started(replica(f"rp-{number}"), "trial")
    await diary.write()
    diary.started(replica("rp-later"), "trial")
    await diary.write()
    kept = [(one.act, dict(one.details).get("replica", ""), dict(one.details).get("entries", "")) for one in said(site)]
    assert kept == [
        ("start_replica", "rp-0", ""),
        ("start_replica", "rp-1", ""),
        ("lose_entries", "", "3"),
        ("start_replica", "rp-later", ""),
    ]
