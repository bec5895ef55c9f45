"""Logs: what is written can be read, whole, across rotation and from several replicas at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC
from pathlib import Path

import pytest

from kasbah.agent import logs
from kasbah.agent.paths import Paths
from kasbah.agent.runner.journal import LONGEST_LINE, Journal, chain, last_lines, split
from kasbah.domain.ids import ReplicaId, ServiceId
from kasbah.drivers.interface import LogLine

SERVICE = ServiceId("sv-a")
A, B = ReplicaId("rp-a"), ReplicaId("rp-b")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def journal(paths: Paths, replica: ReplicaId = A, *, file_bytes: int = 2**20, files: int = 3) -> Journal:
    return Journal(paths.logs / SERVICE / f"{replica}.log", file_bytes=file_bytes, files=files)


def texts(lines: tuple[LogLine, ...]) -> list[str]:
    return [line.text for line in lines]


def test_a_line_is_read_as_it_was_written(paths: Paths) -> None:
    journal(paths).take("stderr", "naïve ⵣ line\r\n".encode())
    (line,) = logs.tail(paths, SERVICE, A, 5)
    assert (line.replica, line.stream, line.text) == (A, "stderr", "naïve ⵣ line")
    assert line.at.tzinfo == UTC


def test_streams_do_not_mix_within_a_line(paths: Paths) -> None:
    log = journal(paths)
    log.take("stdout", b"half")
    log.take("stderr", b"whole\n")
    log.take("stdout", b" and half\n\n")
    assert texts(logs.tail(paths, SERVICE, A, 5)) == ["whole", "half and half", ""]


def test_an_unfinished_line_is_kept_until_the_end(paths: Paths) -> None:
    log = journal(paths)
    log.take("stdout", b"no end")
    assert logs.tail(paths, SERVICE, A, 5) == ()
    log.finish()
    assert texts(logs.tail(paths, SERVICE, A, 5)) == ["no end"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_long_line_is_split_between_characters(paths: Paths, at_once: bool) -> None:
    text = "x" + "é" * LONGEST_LINE
    log = journal(paths)
    data = text.encode() + b"\n"
    for part in [data] if at_once else [data[:30_000], data[30_000:]]:
        log.take("stdout", part)
    lines = last_lines(log.path, 10)
    assert [line.split(" ")[2] for line in lines] == ["P", "P", "F"]
    assert "".join(logs_text(line) for line in lines) == text


def logs_text(line: str) -> str:
    parts = split(line)
    assert parts is not None
    return parts[2]


def test_what_is_not_utf8_is_replaced(paths: Paths) -> None:
    journal(paths).take("stdout", b"a\xff\xfeb\n")
    assert texts(logs.tail(paths, SERVICE, A, 5)) == ["a��b"]


def test_rotation_keeps_the_newest(paths: Paths) -> None:
    log = journal(paths, file_bytes=1_000, files=3)
    for number in range(200):
        log.take("stdout", b"line %d\n" % number)
    files = chain(log.path)
    assert [path.name for path in files] == ["rp-a.log.2", "rp-a.log.1", "rp-a.log"]
    assert all(path.stat().st_size <= 1_000 for path in files)
    lines = texts(logs.tail(paths, SERVICE, A, 1_000))
    assert lines == [f"line {number}" for number in range(200 - len(lines), 200)]
    assert len(lines) > 40


def test_the_tail_spans_files_and_no_more(paths: Paths) -> None:
    log = journal(paths, file_bytes=400)
    for number in range(20):
        log.take("stdout", b"line %d\n" % number)
    assert texts(logs.tail(paths, SERVICE, A, 15)) == [f"line {number}" for number in range(5, 20)]
    assert texts(logs.tail(paths, SERVICE, A, 1)) == ["line 19"]
    assert logs.tail(paths, SERVICE, A, 0) == ()


def test_a_service_is_merged_by_time(paths: Paths) -> None:
    first, second = journal(paths, A), journal(paths, B)
    for number in range(4):
        (first if number % 2 else second).take("stdout", b"%d\n" % number)
    (paths.logs / SERVICE / "build-rv-1.log").write_text("not a replica\n")
    assert texts(logs.tail(paths, SERVICE, None, 10)) == ["0", "1", "2", "3"]
    assert texts(logs.tail(paths, SERVICE, None, 2)) == ["2", "3"]


def test_nothing_is_known_of_a_stranger(paths: Paths) -> None:
    assert logs.tail(paths, SERVICE, A, 5) == ()
    assert logs.tail(paths, SERVICE, None, 5) == ()


@pytest.mark.parametrize("line", ["", "hello", "2026 stdout F x", "2026-11-20T23:00:00.0Z stdlog F x"])
def test_what_is_no_line_is_left_out(line: str) -> None:
    assert logs.parse_line(A, line) is None


async def test_following_begins_with_the_tail_and_misses_nothing(paths: Paths) -> None:
    log = journal(paths, file_bytes=2_000, files=3)
    for number in range(30):
        log.take("stdout", b"%d\n" % number)
    async with aclosing(logs.follow(paths, SERVICE, A, 5)) as lines:
        assert await take(lines, 5) == ["25", "26", "27", "28", "29"]
        for number in range(30, 60):  # passes the end of a file
            log.take("stdout", b"%d\n" % number)
        assert await take(lines, 30) == [str(number) for number in range(30, 60)]
    assert len(chain(log.path)) > 1


async def test_new_replicas_are_followed(paths: Paths) -> None:
    first = journal(paths, A)
    first.take("stdout", b"old\n")
    async with aclosing(logs.follow(paths, SERVICE, None, 1)) as lines:
        assert await take(lines, 1) == ["old"]
        journal(paths, B).take("stdout", b"new\n")
        assert await take(lines, 1) == ["new"]
        first.take("stdout", b"newer\n")
        assert await take(lines, 1) == ["newer"]


def test_without_a_tail_only_what_is_new_is_told(paths: Paths) -> None:
    log = journal(paths)
    log.take("stdout", b"old\n")
    followed = logs.Followed(paths, SERVICE, None)
    assert followed.begin(0) == []
    log.take("stdout", b"new\n")
    journal(paths, B).take("stdout", b"newer\n")
    assert [line.text for line in followed.look()] == ["new", "newer"]


def test_a_look_is_bounded(paths: Paths) -> None:
    log = journal(paths, file_bytes=8 * 2**20)
    for _ in range(300):
        log.take("stdout", b"x" * 10_000 + b"\n")
    followed = logs.Followed(paths, SERVICE, A)
    counts = []
    while found := followed.look():
        counts.append(len(found))
    assert sum(counts) == 300
    assert max(counts) * 10_000 <= logs.MOST_PER_LOOK


def test_a_full_disk_is_told_once_it_has_room(paths: Paths) -> None:
    log = Journal(Path("/dev/full"), file_bytes=2**20, files=1)
    log.take("stdout", b"lost\nlost too\n")
    log.close()
    log.path = paths.logs / SERVICE / "rp-a.log"
    log.take("stdout", b"kept\n")
    assert texts(logs.tail(paths, SERVICE, A, 5)) == ["[2 lines were lost: the disk was full]", "kept"]


async def take(lines: AsyncIterator[LogLine], count: int) -> list[str]:
    async with asyncio.timeout(20):
        return [(await anext(lines)).text for _ in range(count)]
