"""The agent's side of the runner: one that answers is used, else one is started, apart from the agent.

Two agents that race start two runners; the second finds the data folder taken and leaves, and both agents use the
first.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from pathlib import Path

from kasbah.agent.paths import Paths
from kasbah.agent.runner import __file__ as package
from kasbah.agent.runner.layout import Layout
from kasbah.drivers.process import ProcessDriver
from kasbah.errors import Unavailable
from kasbah.proc import runs
from kasbah.settings import Limits

START_SECONDS = 30.0
RETRY_SECONDS = 0.02
PROGRAM = Path(package).with_name("__main__.py")
ALREADY_RUNS = 3
CREDENTIALS = struct.Struct("iII")
"""A process, a user and a group, as the kernel tells of who listens (unix(7), SO_PEERCRED)."""


def process_driver(paths: Paths, limits: Limits = Limits()) -> ProcessDriver:  # noqa: B008 frozen
    """The driver of this site's runner, which starts one where none answers."""
    layout = layout_of(paths, limits)
    return ProcessDriver(layout.socket, layout.token, revive=lambda: ensure_runner(paths, limits))


def layout_of(paths: Paths, limits: Limits = Limits()) -> Layout:  # noqa: B008 frozen
    """Where the runner of an agent with these paths keeps things."""
    return Layout(
        home=paths.runner,
        replicas=paths.replicas,
        logs=paths.logs,
        volumes=paths.volumes,
        socket=paths.runner_socket,
        log_file_bytes=limits.log_file_bytes,
        log_files=limits.log_files,
        ready_seats=limits.ready_seats,
    )


async def ensure_runner(paths: Paths, limits: Limits = Limits()) -> None:  # noqa: B008 frozen
    """Start a runner unless one answers. Raises Unavailable where it cannot be started."""
    layout = layout_of(paths, limits)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(layout):
                await _start(layout)
    except TimeoutError:
        raise Unavailable(
            f"the runner did not answer within {START_SECONDS:g} s",
            hint=f"{layout.log} says what it is doing",
            code="runner_unavailable",
        ) from None


async def _answers(layout: Layout) -> bool:
    """Whether a runner listens. A fork of one that was killed may have its socket open for a moment: who connects to
    that is heard by nobody, so whoever began to listen must be there still."""
    try:
        _, writer = await asyncio.open_unix_connection(layout.socket)
    except OSError:
        return False
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    writer.close()
    return runs(CREDENTIALS.unpack(peer)[0])


async def _start(layout: Layout) -> None:
    # In a thread: uvloop's pipes would wait for the runner itself to close them, not only for the process started here.
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", "-S", str(PROGRAM), layout.to_json()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={},
        start_new_session=True,
        check=False,
    )
    if process.returncode == ALREADY_RUNS:
        await asyncio.sleep(RETRY_SECONDS)  # another agent's runner: it answers soon
    elif process.returncode != 0:
        last = process.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(
            f"the runner could not be started: {' '.join(last)}",
            hint=f"see {layout.log}",
            code="runner_unavailable",
        )
