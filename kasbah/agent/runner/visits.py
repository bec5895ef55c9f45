"""Visits: commands that a person runs inside a replica, confined exactly as it is.

    runner                 warden                              command
      forks, born into the   joins the groups and the network
      replica's processes    of the replica, forks ──────────> enters its mounts, gives up what it gave up, execs
      hears how it ended <── reaps, and says how it ended      reads and writes the caller's own files
      kills all below the warden, then the warden, then tells

What a command reads and writes never passes here: the caller sends the three files along, so a command that writes
without end fills its own pipe and nothing else. Whatever a command starts stays below its warden, to which the kernel
hands orphans, and ends with it. A visit ends with its caller's connection, with its replica, and with the runner.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from kasbah import proc
from kasbah.agent import confine
from kasbah.agent.confine import pids, privileges
from kasbah.agent.confine.kernel import PR_SET_PDEATHSIG, StepFailed, call, control, keep_orphans, name_process
from kasbah.agent.confine.mounts import NEW_IPC, NEW_MOUNTS
from kasbah.agent.confine.network import NEW_NETWORK
from kasbah.agent.confine.users import NEW_USER
from kasbah.agent.runner import processes, spawn
from kasbah.agent.runner.held import Held, send
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.spawn import Failed, Order

WARDEN = "kasbah-warden"
MOST_PER_REPLICA = 16
SWEEP_SECONDS = 5.0
LOOKS = 2
RETRY_SECONDS = 0.01

Files = tuple[int, int, int]
"""Standard input, output and error."""

Tell = Callable[[object], None]
"""Takes how a command ended, {"code"} or {"signal"} or the Failed that says why it did not run. Called once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is run in which replica: an order's command, on the caller's files, beside the replica's volumes."""

    held: Held
    order: Order
    files: Files
    volumes: Mapping[Path, Path]
    terminal: bool


@dataclass(slots=True, eq=False)
class Visit:
    """One command under way."""

    held: Held
    warden: int
    says: int
    tell: Tell
    said: bytes = b""
    ending: bool = False


class Visits:
    """The visits of one runner. `adopt_helper` is told the pid of each warden."""

    def __init__(self, reactor: Reactor, confiner: confine.Confiner, adopt_helper: Callable[[int], object]) -> None:
        self._reactor = reactor
        self._confiner = confiner
        self._adopt_helper = adopt_helper
        self._under_way: list[Visit] = []

    def begin(self, job: Job, tell: Tell) -> Visit:
        """Run a job in a replica that runs. Raises Failed. The files stay the caller's to close."""
        held = job.held
        if held.record.frozen:
            raise Failed("conflict", f"replica {held.record.replica} is frozen", "wake its service first")
        if sum(one.held is held for one in self._under_way) >= MOST_PER_REPLICA:
            raise Failed("unavailable", f"{MOST_PER_REPLICA} commands run in this replica already", "end one first")
        says, writer = os.pipe()
        try:
            warden = self._fork(job, writer)
        except OSError as error:
            os.close(says)
            raise Failed("start_failed", f"the command could not be started: {error}") from None
        finally:
            os.close(writer)
        self._adopt_helper(warden)
        os.set_blocking(says, False)
        visit = Visit(held, warden, says, tell)
        self._under_way.append(visit)
        self._reactor.watch(says, lambda _events: self._hear(visit))
        return visit

    def end(self, visit: Visit) -> None:
        """End a command and all it started. Does not wait."""
        if not visit.ending:
            visit.ending = True
            self._reactor.unwatch(visit.says)
            os.close(visit.says)
            self._sweep(visit, time.monotonic() + SWEEP_SECONDS)

    def replica_ended(self, replica: str) -> None:
        """A replica's first process is gone: nothing goes on in it."""
        for visit in [one for one in self._under_way if one.held.record.replica == replica]:
            if not visit.ending:
                visit.said = json.dumps({"gone": True}).encode()
                self.end(visit)

    def _hear(self, visit: Visit) -> None:
        try:
            part = os.read(visit.says, 4096)
        except BlockingIOError:
            return
        visit.said += part
        if not part or b"\n" in part:
            self.end(visit)

    def _sweep(self, visit: Visit, deadline: float, looks: int = LOOKS) -> None:
        """Kill all below the warden until nothing was seen in so many looks in a row: one whose parent ends while we
        look is below nobody for that moment."""
        left = [one for one in processes.below((visit.warden,), proc.everyone()) if not one.ended]
        for one in left:
            send(one, signal.SIGKILL)
        looks = LOOKS if left else looks - 1
        if looks and time.monotonic() < deadline:
            self._reactor.after(RETRY_SECONDS, lambda: self._sweep(visit, deadline, looks))
            return
        found = proc.look(visit.warden)
        if found is not None and found.parent == os.getpid():
            send(found, signal.SIGKILL)
        self._under_way.remove(visit)
        visit.tell(_outcome(visit))

    def _fork(self, job: Job, says: int) -> int:
        replica = os.pidfd_open(job.held.record.pid)
        try:

            def ward() -> NoReturn:
                _ward(self._confiner, job, replica, says)

            if not job.held.record.init:  # a replica of a runner that could make no pid namespace
                return pids.fork(ward)
            (pid,) = pids.begin(ward, inhabitant=replica)
            return pid
        finally:
            os.close(replica)


def _outcome(visit: Visit) -> object:
    replica = visit.held.record.replica
    if not visit.said:
        return Failed("start_failed", f"what watched over the command in replica {replica} ended without a word")
    # The first word counts: where we were slow to listen, the warden has added how a command ended that never began.
    outcome = json.loads(visit.said.partition(b"\n")[0])
    if "failed" in outcome:
        return Failed(*outcome["failed"])
    if "gone" in outcome:
        return Failed("replica_ended", f"replica {replica} ended, and the command with it", "its log says how")
    return outcome


def _ward(confiner: confine.Confiner, job: Job, replica: int, says: int) -> NoReturn:
    """The warden's life: without power or anything open, until killed."""
    try:
        spawn.keep_open((*job.files, replica, says, *confiner.files))
        os.setsid()
        name_process(WARDEN)
        spawn.reset_signals()
        control(PR_SET_PDEATHSIG, signal.SIGKILL, "ending with the runner")
        keep_orphans()
        for group in job.held.groups:
            (group / "cgroup.procs").write_text("0")
        command = os.fork()
        if command == 0:
            _command(confiner, job, replica, says)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # it must outlive whoever listens: all below it are found by it
        os.chdir("/")
        spawn.keep_open((says,), first=0)
        privileges.drop_capabilities()
        privileges.forbid_new()
        _watch_over(command, says)
    except OSError as error:
        _say(says, {"failed": ["start_failed", f"the command could not be started: {error}", ""]})
    finally:
        os._exit(1)


def _watch_over(command: int, says: int) -> NoReturn:
    """Reap all that end below, and say how the command did."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            signal.pause()
            continue
        if pid == command:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            _say(says, {"signal": number} if number else {"code": os.WEXITSTATUS(status)})


def _command(confiner: confine.Confiner, job: Job, replica: int, says: int) -> NoReturn:
    """The command's life up to its exec. What it says before that goes first: the warden only adds how it ended."""
    try:
        os.setsid()
        os.umask(0o077)
        order, workdir = job.order, job.held.workdir
        if workdir.owner is not None:
            for fd in job.files:  # so that it can open /dev/stdout and /dev/tty's own name again
                os.fchown(fd, workdir.owner, workdir.owner)
        for target, source in enumerate(job.files):
            os.dup2(source, target)
        if job.terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        confinement = confiner.prepare(
            private=workdir.root,
            readable=(order.app, *order.readable),
            pipes=(),
            user=workdir.owner,
            stand_ins=workdir.stand_ins,
            volumes=job.volumes,
            closed=job.held.record.calls is not None,
        )
        spawn.keep_open((replica, says, *confinement.files))
        confine.limit()
        if confiner.own_network:
            call("setns", replica, NEW_NETWORK)
        confinement.enter(lambda: call("setns", replica, _view_of(job.held)))
        control(PR_SET_PDEATHSIG, signal.SIGKILL, "ending with its warden")
        os.chdir(workdir.app)
        spawn.execute(order.argv, spawn.environment(order, workdir))
    except Failed as failure:
        _say(says, {"failed": [failure.code, failure.message, failure.hint]})
    except StepFailed as failure:
        told = f"the command could not be confined as its replica is: {failure}"
        _say(says, {"failed": ["confinement_failed", told, spawn.CONFINEMENT_HINT]})
    except OSError as error:
        _say(says, {"failed": ["start_failed", f"the command could not be prepared: {error}", ""]})
    finally:
        os._exit(1)


def _view_of(held: Held) -> ctypes.c_int:
    """The namespaces that hold what a replica sees. An ordinary user needs its user namespace as well; who is in its
    pid namespace is in that already."""
    inside = os.getuid() == 0 or held.record.init
    return ctypes.c_int(NEW_MOUNTS | NEW_IPC | (0 if inside else NEW_USER))


def _say(says: int, outcome: object) -> None:
    try:
        os.write(says, json.dumps(outcome).encode() + b"\n")
    except OSError:
        pass  # nobody listens any more


def files_of(given: list[int]) -> Files:
    """Standard input, output and error out of the files a caller sent. Raises Failed."""
    if len(given) != 3:
        raise Failed("invalid", f"a visit brings three files, not {len(given)}")
    return given[0], given[1], given[2]
