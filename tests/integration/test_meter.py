"""The meter over a real log and database: whatever is killed or rotated when, each line counts once."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kasbah.agent.meter import Meter
from kasbah.domain.observed import UsageBatch
from kasbah.domain.usage import Usage, UsageKey

AT = 1_767_268_800.0


def line(
    *,
    service: str = "sv-a",
    key: str | None = "ky-a",
    status: int = 200,
    at: float = AT,
    sent: int = 10,
    entry: str = "",
) -> bytes:
    fields = (int(at), f"{service}/rv-a", key or "-", status, "-", *([entry] if entry else []), 3, 1, sent)
    return "\t".join(map(str, fields)).encode() + b"\n"


@dataclass
class Place:
    """Where a gateway writes its log and a meter reads it."""

    folder: Path
    meters: list[Meter] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    @property
    def old(self) -> Path:
        return self.folder / "access.1"

    def meter(self) -> Meter:
        """A meter as an agent opens it, whatever became of the one before."""
        self.meters.append(Meter(self.log, self.folder / "usage.db"))
        return self.meters[-1]

    def write(self, *lines: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(b"".join(lines))

    def reopen(self) -> None:
        self.log.touch()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for meter in place.meters:
        meter.close()


def taken(meter: Meter) -> list[UsageBatch]:
    """Everything that can be handed over, acknowledged at once."""
    found = []
    while (batch := meter.next_batch()) is not None:
        found.append(batch)
        meter.acknowledge(batch.sequence)
    return found


def requests(batches: list[UsageBatch]) -> int:
    return sum(usage.requests for batch in batches for _, usage in batch.usage)


def test_counts(place: Place) -> None:
    meter = place.meter()
    assert meter.read() == 0
    assert meter.next_batch() is None
    place.write(line(), line(status=503, sent=20), line(key=None), line(at=AT + 60), line(status=401))
    assert meter.read() == 5
    (batch,) = taken(meter)
    minute = datetime.fromtimestamp(AT, UTC)
    usage = {(key.key, key.minute): one for key, one in batch.usage}
    assert usage[("ky-a", minute)] == Usage(requests=2, failed=1, bytes_in=2, bytes_out=30, milliseconds=6)  # type: ignore[index]
    assert usage[(None, minute)].requests == 1
    assert len(usage) == 3
    assert isinstance(batch.usage[0][0], UsageKey)


def test_where_requests_came_in_is_handed_over_with_them_once(place: Place) -> None:
    meter = place.meter()
    place.write(line(), line(at=AT + 60), line(entry="spiffe://in-1/site/st-paris"))
    meter.read()
    place.meter().read()
    (batch,) = taken(place.meter())
    assert {(key.service, key.site): count for key, count in batch.entries} == {
        ("sv-a", ""): 2,
        ("sv-a", "st-paris"): 1,
    }
    assert {key.hour for key, _ in batch.entries} == {datetime.fromtimestamp(AT, UTC).replace(minute=0)}
    assert taken(place.meter()) == []


def test_a_batch_that_an_older_meter_left_is_handed_over(place: Place) -> None:
    meter = place.meter()
    place.write(line())
    meter.read()
    assert meter.next_batch() is not None
    with sqlite3.connect(place.folder / "usage.db") as database:
        ((body,),) = database.execute("SELECT body FROM batch")
        database.execute("UPDATE batch SET body = ?", (json.dumps(json.loads(body)["usage"]),))
    (batch,) = taken(place.meter())
    assert (requests([batch]), batch.entries) == (1, ())


def test_usage_of_one_minute_adds_up_between_reads(place: Place) -> None:
    meter = place.meter()
    for _ in range(3):
        place.write(line())
        assert meter.read() == 1
    (batch,) = taken(meter)
    assert [one.requests for _, one in batch.usage] == [3]


def test_a_line_still_being_written_waits(place: Place) -> None:
    meter = place.meter()
    whole = line()
    place.write(whole, whole[:20])
    assert meter.read() == 1
    place.write(whole[20:])
    assert meter.read() == 1
    assert requests(taken(meter)) == 2


GARBAGE = [b"\n", b"{\n", b"[]\n", b'"x"\n', b"\xff\xfe\n", b"\x00" * 50 + b"\n", b'{"cluster":"a/b"}\n', b"null\n"]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_counts_nothing_and_is_told(place: Place, garbage: bytes) -> None:
    meter = place.meter()
    place.write(line(), garbage, line())
    meter.read()
    assert meter.unreadable == 1
    assert requests(taken(meter)) == 2


def test_more_than_one_chunk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kasbah.agent.meter.CHUNK", 1_000)
    meter = place.meter()
    place.write(*[line()] * 50)
    assert meter.read() == 50
    assert requests(taken(meter)) == 50


# --- killed -----------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_nothing_is_lost_or_counted_twice(place: Place) -> None:
    """The meters before are never closed, as when their process is killed."""
    told: list[UsageBatch] = []
    for _ in range(3):
        place.write(line())
        place.meter().read()
    place.write(line())
    unread = place.meter()
    unread.read()
    batch = unread.next_batch()
    assert batch is not None
    again = place.meter()
    again.read()
    assert again.next_batch() == batch, "what was not acknowledged is handed over again, the same"
    place.write(line())
    again.read()
    assert again.next_batch() == batch
    told.append(batch)
    again.acknowledge(batch.sequence)
    told += taken(place.meter())
    assert requests(told) == 5
    assert [one.sequence for one in told] == [1, 2]


def test_numbers_are_never_used_again(place: Place) -> None:
    for number in (1, 2, 3):
        place.write(line())
        meter = place.meter()
        meter.read()
        assert [one.sequence for one in taken(meter)] == [number]


def test_an_acknowledgement_of_another_batch_removes_nothing(place: Place) -> None:
    meter = place.meter()
    place.write(line())
    meter.read()
    batch = meter.next_batch()
    assert batch is not None
    meter.acknowledge(batch.sequence + 1)
    meter.acknowledge(batch.sequence - 1)
    assert meter.next_batch() == batch


def test_a_pass_that_fails_is_as_if_it_had_not_been(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = place.meter()
    place.write(line())
    with monkeypatch.context() as broken:
        broken.setattr("kasbah.agent.meter.ADD", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
        with pytest.raises(Exception, match="nowhere"):
            meter.read()
    assert meter.read() == 1
    assert requests(taken(meter)) == 1


# --- rotated ----------------------------------------------------------------------------------------------------------


def test_rotation(place: Place) -> None:
    meter = place.meter()
    place.write(line())
    assert not meter.oversized(10**6)
    assert meter.oversized(10)
    meter.read()
    with place.log.open("ab") as gateway:
        meter.set_aside()
        assert meter.missing
        assert not meter.oversized(10), "one rotation at a time"
        gateway.write(line())
    assert meter.read() == 1
    place.reopen()
    assert not meter.missing
    assert meter.read() == 0
    assert place.old.exists(), "the gateway may still have lines for it"
    place.write(line())
    assert meter.read() == 1
    assert not place.old.exists()
    assert requests(taken(meter)) == 3


def test_killed_between_renaming_and_reopening(place: Place) -> None:
    meter = place.meter()
    place.write(line())
    with place.log.open("ab") as gateway:
        meter.set_aside()
        gateway.write(line())
    later = place.meter()
    assert later.read() == 2
    assert later.missing, "so that the gateway is told again"
    place.write(line())
    assert later.read() == 1
    assert requests(taken(later)) == 3


def test_a_log_with_the_inode_of_an_earlier_one_is_read_from_its_start(place: Place) -> None:
    meter = place.meter()
    place.write(line(), line(), line())
    meter.read()
    inode = place.log.stat().st_ino
    meter.set_aside()
    place.write(line())
    meter.read()
    meter.set_aside()
    place.write(line())
    if place.log.stat().st_ino != inode:
        pytest.skip("this file system gives no inode twice")
    assert meter.read() == 1
    assert requests(taken(meter)) == 5


def test_a_log_that_was_emptied_is_read_from_its_start(place: Place) -> None:
    meter = place.meter()
    place.write(line(), line())
    meter.read()
    os.truncate(place.log, 0)
    place.write(line())
    assert meter.read() == 1


def test_rotation_while_the_gateway_writes(place: Place) -> None:
    """It writes to the file it has open until it is told to reopen."""
    reopen, stop, written = threading.Event(), threading.Event(), 0

    def write() -> None:
        nonlocal written
        log = place.log.open("ab", buffering=0)
        while not stop.is_set():
            log.write(line())
            written += 1
            if reopen.is_set():
                reopen.clear()
                log.close()
                log = place.log.open("ab", buffering=0)
        log.close()

    place.reopen()
    meter = place.meter()
    gateway = threading.Thread(target=write)
    gateway.start()
    for _ in range(3):
        while not meter.oversized(2_000):
            meter.read()
        meter.set_aside()
        reopen.set()
    stop.set()
    gateway.join()
    place.write(line())
    while meter.read():
        pass
    assert requests(taken(meter)) == written + 1
    assert meter.unreadable == 0
