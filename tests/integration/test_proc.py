"""A process whose first thread has ended: a zombie to whoever reads only /proc/PID/stat, and as alive as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from site_runner import Site, site_in, until

from kasbah import proc
from kasbah.agent.gateway import process
from kasbah.agent.runner import processes
from kasbah.cli.processes import Process
from kasbah.domain.ids import ReplicaId

A = ReplicaId("rp-a")

HEADLESS = """
import ctypes, threading, time
threading.Thread(target=lambda: (time.sleep(0.05), print('up', flush=True), time.sleep(1000))).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def headless() -> Iterator[int]:
    command = [sys.executable, "-c", HEADLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"MARKED": "yes"}) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"
        try:
            yield program.pid
        finally:
            program.kill()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        yield site


async def test_it_runs_until_its_last_thread_has_ended(headless: int) -> None:
    await until(lambda: _first_thread(headless) == "Z")
    found = proc.look(headless)
    assert found is not None
    assert not found.ended
    assert found.thread != headless
    assert proc.is_alive(headless, found.start_time)
    assert process.start_time(headless) == found.start_time
    assert Process.of(headless) == Process(headless, found.start_time)
    assert processes.environment(found)["MARKED"] == "yes"
    os.kill(headless, signal.SIGKILL)
    await until(lambda: not proc.is_alive(headless, found.start_time))
    assert _first_thread(headless) == "Z", "it is still there to be reaped"


async def test_it_is_stopped_when_all_of_it_is(headless: int) -> None:
    await until(lambda: _first_thread(headless) == "Z")
    os.kill(headless, signal.SIGSTOP)
    await until(lambda: (found := proc.look(headless)) is not None and found.stopped and not found.ended)


async def test_it_is_frozen_thawed_and_ended_as_a_replica(site: Site) -> None:
    pid = (await site.python(A, HEADLESS)).pid
    await site.said(A, "up")
    assert pid is not None
    assert _first_thread(pid) == "Z"
    await site.driver.freeze(A)
    found = proc.look(pid)
    assert found is not None
    assert found.state == "T"
    await site.driver.thaw(A)
    await site.driver.stop(A, drain=timedelta(seconds=20))
    assert (await site.ended(A)).signal == "SIGTERM"
    await until(lambda: proc.look(pid) is None)


def _first_thread(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
