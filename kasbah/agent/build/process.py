"""Running a build's tools: in a process group of their own, which ends with the step, whatever becomes of the step.

A group is written down while it runs, so that the next agent can end what a killed one left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kasbah.agent.build.buildlog import BuildLog
from kasbah.agent.ready import ready

LAST_WORDS_SECONDS = 5
"""What was printed before the end is in the pipe already; only a process that left the group could hold it open."""


async def run(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: BuildLog, record: Path, user: int | None = None
) -> int:
    """Run to the end, every line into `log`; the exit status, negative for a signal. Cancelling ends the group. What it
    prints to is `user`'s, where it becomes another one than ours."""
    read_end, write_end = os.pipe()
    try:
        if user is not None:
            os.fchown(write_end, user, user)
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    # The pipe is ours, not asyncio's: its wait() may otherwise wait for whoever inherited the pipe.
    copying = asyncio.create_task(_copy(read_end, log))
    try:
        record.write_text(f"{process.pid} {_started(process.pid)}")
        status = await process.wait()
    finally:
        _end_group(process.pid)
        await asyncio.shield(process.wait())
        record.unlink(missing_ok=True)
        await _finish(copying)
    return status


def end_recorded(record: Path) -> None:
    """End the group that an earlier agent wrote down, if its leader still is who it was."""
    with suppress(OSError, ValueError):
        pid, started = record.read_text().split()
        if started == _started(int(pid)) != "":
            _end_group(int(pid))


async def _copy(read_end: int, log: BuildLog) -> None:
    os.set_blocking(read_end, False)
    try:
        await log.copy(_Pipe(read_end))
    finally:
        os.close(read_end)


class _Pipe:
    """What comes out of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read(self, most: int) -> bytes:
        while True:
            await ready(self._fd)  # each time: others have their turn, however much there is
            with suppress(BlockingIOError):
                return os.read(self._fd, most)


async def _finish(copying: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await copying
    except TimeoutError:
        pass


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _started(pid: int) -> str:
    """When the process started, in the kernel's ticks: with the pid, an identity. Empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
