"""A pid namespace per replica: it sees and signals its own processes only, and none of them survives its first one.

The namespace is entered by forking: the next forks are born into it. The first of them is its init, to which the kernel
hands orphans and with whose end it kills all the rest, whatever they did to hide.

    as root     this process takes its next forks into the namespace, forks, and turns back
    else        only a user namespace permits it, out of which nobody turns back:

        this process                  go-between                    the processes
          forks ────────────────────>   enters both, forks ───────>   wait
          hears their pids <─────────   says them, and ends: they are left to this process
          lets them begin ────────────────────────────────────────>   begin, or end where it is gone
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from kasbah.agent.confine import privileges, users
from kasbah.agent.confine.kernel import StepFailed, call

NEW_PIDS = 0x2000_0000
OWN = "/proc/self/ns/pid"

Life = Callable[[], NoReturn]
"""What a forked process does until its end."""


def begin(*lives: Life, inhabitant: int | None = None) -> list[int]:
    """The pids of new children, one for each life, in a new pid namespace of which the first is the init, or in that of
    a process which this pidfd names. Raises StepFailed or OSError. Needs a single thread and, without root, that this
    process keeps orphans."""
    if os.getuid() != 0:
        return _begin_by_go_between(lives, inhabitant)
    with _entered(inhabitant):
        return [fork(life) for life in lives]


def fork(life: Life) -> int:
    """The pid of a new child that lives this life."""
    pid = os.fork()
    if pid == 0:
        try:
            life()
        finally:
            os._exit(1)
    return pid


@contextmanager
def _entered(inhabitant: int | None) -> Iterator[None]:
    """Within the block, forks are born into the namespace; what was forked must not leave the block."""
    own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if inhabitant is None:
            call("unshare", NEW_PIDS)
        else:
            call("setns", inhabitant, NEW_PIDS)
        try:
            yield
        finally:
            call("setns", own, NEW_PIDS)
    finally:
        os.close(own)


def _begin_by_go_between(lives: tuple[Life, ...], inhabitant: int | None) -> list[int]:
    hears, says = os.pipe()
    waits, lets = os.pipe()
    os.set_blocking(hears, False)  # whoever did not come as far as to close it would keep us waiting
    try:
        between = fork(partial(_go_between, lives, inhabitant, says, waits, lets))
        os.waitpid(between, 0)
        found = _heard(hears)
        os.write(lets, b"g" * len(found))
    finally:
        for fd in (hears, says, waits, lets):
            os.close(fd)
    return found


def _heard(hears: int) -> list[int]:
    try:
        told = json.loads(os.read(hears, 4096))
    except BlockingIOError:
        raise StepFailed(1, "it ended without a word", "going between") from None
    if "failed" in told:
        raise StepFailed(*told["failed"])
    return [int(pid) for pid in told["pids"]]


def _go_between(lives: tuple[Life, ...], inhabitant: int | None, says: int, waits: int, lets: int) -> NoReturn:
    """Have children for the process that forked this one, and end: what is waited for is its end."""
    os.close(lets)  # so that nobody waits for ever where that process is gone
    try:
        if inhabitant is None:
            users.enter(NEW_PIDS)
        else:
            call("setns", inhabitant, users.NEW_USER | NEW_PIDS)
        pids = [fork(partial(_once_let, life, says, waits)) for life in lives]
        told: object = {"pids": pids}
    except OSError as error:
        told = {"failed": [error.errno, error.strerror, error.filename or "forking"]}
    try:
        os.write(says, json.dumps(told).encode())
    finally:
        os._exit(0)


def _once_let(life: Life, says: int, waits: int) -> NoReturn:
    os.close(says)
    if not os.read(waits, 1):
        os._exit(1)
    os.close(waits)
    life()


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
