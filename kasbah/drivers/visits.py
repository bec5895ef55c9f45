"""A command inside a replica, as the runner carries it out: three files are handed over, how it ended comes back.

What the command reads and writes goes through pipes (or a terminal) between it and this process alone. Closing the
connection ends the command, and so does the end of this process.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import socket
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kasbah.errors import Unavailable

ANSWER_SECONDS = 15.0
LONGEST_LINE = 64 * 1024
Error = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Our ends of the files: `input` is written to, `outputs` are read. A terminal has one for all."""

    input: int
    outputs: tuple[int, ...]

    def close(self) -> None:
        """Close them all."""
        for fd in {self.input, *self.outputs}:
            os.close(fd)


def open_files(terminal: tuple[int, int] | None) -> tuple[Ends, tuple[int, int, int]]:
    """Our ends, and the command's: a terminal of so many rows and columns, or three pipes."""
    if terminal is not None:
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
        resize(ours, terminal)
        return Ends(input=ours, outputs=(ours,)), (theirs, os.dup(theirs), os.dup(theirs))
    (input_reader, input), (output, output_writer), (errors, errors_writer) = (os.pipe() for _ in range(3))
    for fd in (input, output, errors):
        os.set_blocking(fd, False)
    return Ends(input=input, outputs=(output, errors)), (input_reader, output_writer, errors_writer)


def resize(terminal: int, size: tuple[int, int]) -> None:
    """Give a terminal so many rows and columns; what runs on it is told."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


class RunnerVisit:
    """One visit under way."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._received = b""

    async def line(self) -> Any:
        """The next line the runner says. Raises ConnectionError where it is gone."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._received:
            part = await loop.sock_recv(self._peer, 4096)
            if not part or len(self._received) > LONGEST_LINE:
                raise ConnectionResetError("the runner closed the connection")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    async def ask(self, request: Mapping[str, object], files: tuple[int, ...] = ()) -> Any:
        """The answer to a request that these files go along with."""
        text = json.dumps({"id": 0, **request}).encode() + b"\n"
        # The files go with the first part; a new connection's buffer takes it at once.
        sent = socket.send_fds(self._peer, [text], files) if files else 0
        await asyncio.get_running_loop().sock_sendall(self._peer, text[sent:])
        return await self.line()

    def close(self) -> None:
        """End the command, unless it has ended."""
        self._peer.close()


async def begin(
    path: Path, token: Path, protocol: int, order: Mapping[str, object], files: tuple[int, int, int], *, terminal: bool
) -> RunnerVisit | Error:
    """Begin a visit; or the runner's error, as it told it. Raises Unavailable where the runner does not answer."""
    peer = socket.socket(socket.AF_UNIX)
    peer.setblocking(False)
    visit = RunnerVisit(peer)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.get_running_loop().sock_connect(peer, str(path))
            met = await visit.ask({"op": "hello", "token": token.read_text(), "protocol": protocol})
            answer = met
            if "error" not in met:
                answer = await visit.ask({"op": "visit", "order": order, "terminal": terminal}, files)
    except (OSError, TimeoutError) as error:
        visit.close()
        raise Unavailable(f"the runner cannot be reached: {error}", hint="`kasbah doctor` looks at it") from error
    except BaseException:
        visit.close()
        raise
    if "error" in answer:
        visit.close()
        return answer["error"]
    return visit
