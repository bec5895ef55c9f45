"""`kasbah` commands, many of them: each is a process of its own, forked from one that has imported the program already.

Imports are most of what a command costs; what runs is the same. Commands that are spoken to while they run, or that run
in another network, are started as people start them (`Site.popen`).

    test  --one connection a command-->  the server  --fork-->  the command, which says its process and its exit code
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

KILLED = -int(signal.SIGKILL)
_starting = threading.Lock()


def command(
    arguments: Sequence[str], *, env: Mapping[str, str], folder: Path, seconds: float
) -> tuple[int | None, str, str]:
    """Run a command in `folder` to its end: its exit code (None: it did not end in time, and was killed), what it
    printed and what it complained of."""
    with tempfile.TemporaryDirectory(prefix="kasbah-command-") as said:
        asked = {"arguments": list(arguments), "env": dict(env), "folder": str(folder), "said": said}
        with socket.socket(socket.AF_UNIX) as line:
            with _starting:
                line.connect(_server().where)
            line.sendall(json.dumps(asked).encode() + b"\n")
            with line.makefile("r") as answers:
                process = int(answers.readline())
                line.settimeout(seconds)
                try:
                    code: int | None = int(answers.readline() or KILLED)
                except TimeoutError:
                    code = None
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
        return code, (Path(said) / "out").read_text(), (Path(said) / "err").read_text()


@lru_cache(maxsize=1)
def _server() -> _Server:
    folder = tempfile.TemporaryDirectory(prefix="kasbah-commands-")
    where = os.path.join(folder.name, "socket")
    program = [sys.executable, "-P", __file__, where]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return _Server(where=where, process=process, folder=folder)


@dataclass(frozen=True, kw_only=True)
class _Server:
    """Where it listens. Its standard input ends with this process, and so does it; its folder goes then."""

    where: str
    process: subprocess.Popen[str]
    folder: tempfile.TemporaryDirectory[str]


def _serve(where: str) -> None:
    from kasbah.cli.main import COMMANDS, load

    for name in COMMANDS:
        load(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(where)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _run(line)
            line.close()


def _run(line: socket.socket) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line.sendall(f"{os.getpid()}\n".encode())
        with line.makefile("r") as asking:
            asked: dict[str, Any] = json.loads(asking.readline())
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(os.path.join(asked["said"], name), os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.argv = ["kasbah", *asked["arguments"]]
        from kasbah.cli.main import run

        code = run(asked["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with suppress(OSError):
            line.sendall(f"{int(code)}\n".encode())
        os._exit(int(code))


if __name__ == "__main__":
    _serve(sys.argv[1])
