"""Running the command line: output is relayed as it comes, failures carry the last lines, deadlines hold."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from demo.installation import Failed, Installation, eventually, run

pytestmark = pytest.mark.real


async def test_output_is_kept_and_relayed() -> None:
    heard: list[str] = []
    output = await run(["/bin/sh", "-c", "echo building >&2; echo done"], on_line=heard.append, seconds=10)
    assert output == "done"
    assert sorted(heard) == ["building", "done"]


async def test_a_failure_tells_its_last_lines() -> None:
    with pytest.raises(Failed, match=r"(?s)exit code 3.*\| line 20"):
        await run(["/bin/sh", "-c", "for i in $(seq 20); do echo line $i; done; exit 3"], seconds=10)


async def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="did not end within"):
        await run(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], seconds=0.3)
    await _gone(int((tmp_path / "pid").read_text()))


async def test_an_interrupted_command_is_ended(tmp_path: Path) -> None:
    heard = asyncio.Event()
    argv = ["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; echo up; sleep 60"]
    running = asyncio.create_task(run(argv, on_line=lambda _: heard.set(), seconds=30))
    await asyncio.wait_for(heard.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    await _gone(int((tmp_path / "pid").read_text()))


async def test_without_a_leftover_nothing_is_taken_down(tmp_path: Path) -> None:
    assert not await Installation(tmp_path / "no-such-binary", tmp_path / "demo").take_down_leftover()


async def test_a_leftover_is_removed_but_for_the_caches(tmp_path: Path) -> None:
    binary, data = tmp_path / "kasbah", tmp_path / "demo"
    binary.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"\n')
    binary.chmod(0o755)
    for name in ("agent/cache/uv/wheel", "agent/ledger/state", "control/kasbah.db"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    assert await Installation(binary, data).take_down_leftover()
    assert (tmp_path / "asked").read_text() == f"down --data-dir {data}\n"
    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()) == [
        "agent/cache/uv/wheel"
    ]


async def _gone(pid: int) -> None:
    async def is_gone() -> bool:
        return not _lives(pid)

    assert await eventually(is_gone, 10)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
