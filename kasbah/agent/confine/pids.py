"""A pid namespace per replica: it sees and signals its own processes only, and none of them survives its first one.

The namespace is entered by forking: `entered` makes one that the next forks are born into. The first of them is its
init, to which the kernel hands orphans and with whose end it kills all the rest, whatever they did to hide.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from kasbah.agent.confine import privileges
from kasbah.agent.confine.kernel import call

NEW_PIDS = 0x2000_0000
OWN = "/proc/self/ns/pid"


@contextmanager
def entered() -> Iterator[None]:
    """Within the block, forks are born into a new pid namespace; what was forked must not leave the block. Needs root
    and a single thread."""
    own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("unshare", NEW_PIDS)
        try:
            yield
        finally:
            call("setns", own, NEW_PIDS)
    finally:
        os.close(own)


def name_of(pid: int) -> str:
    """Which pid namespace a process is in; "" where we may not know."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def is_first(pid: int) -> bool:
    """Whether a process is the first of its pid namespace. Raises OSError."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((line.split()[-1] == "1" for line in lines if line.startswith("NSpid:")), False)


def be_init() -> NoReturn:
    """Be the first process of the namespace, with no power and nothing open, until killed.

    No handler of ours is left: the kernel keeps every signal from inside away from an init that does not ask for it,
    and reaps the children of one that ignores SIGCHLD.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.chdir("/")
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    privileges.drop_capabilities()
    privileges.forbid_new()
    while True:
        signal.pause()
