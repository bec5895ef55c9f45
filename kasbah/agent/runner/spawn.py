"""From a fork to a running program: groups, network, working copy, confinement, exec, in one process and no helper.

    runner                                child
      fork, ahead of need ─────────────────> own session, joins its groups, enters its network, waits
      writes the record, tells the plan ───> fills the working copy, is confined, execs
      the pipe closes: it runs <──────────── (exec closes it)
      or an error arrives on it <─────────── says what failed, and ends

The child does not exec before its record is on disk, and ends when the runner does, so a program that runs is always
in a record.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from kasbah.agent import confine
from kasbah.agent.confine import network, pids
from kasbah.agent.confine.kernel import StepFailed, name_process
from kasbah.agent.confine.network import Rule
from kasbah.agent.runner.processes import MARK, SCRATCH
from kasbah.agent.runner.workdir import Workdir

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
SEAT, INIT = "kasbah-seat", "kasbah-init"
CHANGED_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    *(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
)
"""Python ignores the first two; the runner handles or ignores the others."""

CONFINEMENT_HINT = "it worked when the runner started; see what `kasbah doctor` says is in force on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What a replica may call: as its service's file has it, as rules, and the addresses of the names in it."""

    entries: tuple[str, ...]
    rules: tuple[Rule, ...]
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run. The same as the driver's order, in plain values."""

    replica: str
    service: str
    revision: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    app: Path
    port: int
    readable: tuple[Path, ...] = ()
    cpu: float | None = None
    memory: int | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    calls: Calls | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    """By name, where each is found in the working copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An order with what was made for it: its folder, its pipes for standard output and error, and its volumes by the
    place that each has in the folder."""

    order: Order
    workdir: Workdir
    pipes: tuple[Path, Path]
    volumes: Mapping[Path, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child that waits to be told its plan. From `says` comes the end of file once it has exec'd, or why it could
    not. `init` is the first process of its pid namespace (0: it has none), which waits for a word of `stays`."""

    pid: int
    init: int
    go: socket.socket
    stays: int
    says: int

    def tell(self, plan: Plan) -> None:
        """Let it become this. Never waits: what is told lies in memory. Raises OSError."""
        told = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(told), "wb") as file:
                pickle.dump(plan, file)
            if self.init:
                os.write(self.stays, b"g")
            socket.send_fds(self.go, [b"g"], [told])
        finally:
            os.close(told)
            self.go.close()
            os.close(self.stays)

    def last_words(self) -> str:
        """What it said before it ended."""
        try:
            return os.read(self.says, 4096).decode(errors="replace") or "without a word"
        except BlockingIOError:
            return "without a word"

    def close(self) -> None:
        """Let go of one that was never told."""
        self.go.close()
        os.close(self.stays)
        os.close(self.says)


class Failed(Exception):
    """Why a program could not be started, with a code for programs and a hint for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def failure_of(error: Exception) -> Failed:
    """Why a program could not be started, in words."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, StepFailed):
        return Failed("confinement_failed", f"the replica could not be confined: {error}", CONFINEMENT_HINT)
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror + (f" ({error.filename})" if error.filename else "")
    return Failed("start_failed", f"the replica could not be prepared: {said}")


def fork(confiner: confine.Confiner, groups: tuple[Path, ...], namespace: int | None) -> Child:
    """Fork a child that joins these groups and enters this network (None: the machine's). Raises OSError."""
    go, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stays_reader, stays = os.pipe()
    says, says_writer = os.pipe()

    def sit() -> NoReturn:
        _sit(confiner, groups, namespace, told.fileno(), says_writer)

    try:
        if confiner.own_processes:
            # Both are children of ours, so the program's end is seen as it is; the second is born beside the first.
            init, pid = pids.begin(lambda: _stay(stays_reader), sit)
        else:
            init, pid = 0, pids.fork(sit)
    except OSError:
        go.close()
        for fd in (stays, says):
            os.close(fd)
        raise
    finally:
        told.close()
        for fd in (stays_reader, says_writer):
            os.close(fd)
    os.set_blocking(says, False)
    return Child(pid=pid, init=init, go=go, stays=stays, says=says)


def _stay(stays: int) -> NoReturn:
    """The life of the first process of a pid namespace. It ends as its sibling does where that is told nothing."""
    try:
        keep_open((stays,), first=0)
        os.setsid()
        name_process(INIT)
        if os.read(stays, 1):
            pids.be_init()
    finally:
        os._exit(1)


def _sit(confiner: confine.Confiner, groups: tuple[Path, ...], namespace: int | None, told: int, says: int) -> NoReturn:
    """The child's life, up to the program it becomes. Never returns."""
    try:
        # First: while the runner's lock and socket are open here, no other can take its place.
        keep_open((told, says, *confiner.files, *(() if namespace is None else (namespace,))))
        os.setsid()
        name_process(SEAT)
        reset_signals()
        for group in groups:
            (group / "cgroup.procs").write_text("0")
        if namespace is not None:
            network.enter(namespace)
        keep_open((told, says, *confiner.begin()))
        plan = _told(told)
        if plan is not None:
            _become(plan, confiner, says)
    except (Failed, OSError) as error:
        _say(failure_of(error), says)
    finally:
        os._exit(1)


def _told(told: int) -> Plan | None:
    """The plan, or None where the runner has gone. Only the runner has the other end."""
    with socket.socket(fileno=told) as ours:
        word, files, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not word:
        return None
    with os.fdopen(files[0], "rb") as file:
        file.seek(0)  # the place is the runner's too
        plan: Plan = pickle.load(file)
    return plan


def _become(plan: Plan, confiner: confine.Confiner, says: int) -> None:
    """Be the program of a plan. Returns only by an exception."""
    os.umask(0o077)
    order, workdir = plan.order, plan.workdir
    workdir.fill(order.app, order.files)
    workdir.place(plan.volumes, linked=not confiner.own_mounts)
    confinement = confiner.prepare(
        private=workdir.root,
        readable=(order.app, *order.readable),
        pipes=plan.pipes,
        user=workdir.owner,
        stand_ins=workdir.stand_ins,
        volumes=plan.volumes,
        closed=order.calls is not None,
    )
    # Both ends of its own pipes are the replica's: a dead runner neither blocks it at once nor breaks its writing.
    outputs = [os.open(pipe, os.O_RDWR | os.O_CLOEXEC) for pipe in plan.pipes]
    for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
        os.dup2(source, target)
    keep_open((says, *confinement.files))
    confine.limit()
    confinement.enter()
    os.chdir(workdir.app)
    execute(order.argv, environment(order, workdir))


def environment(order: Order, workdir: Workdir) -> dict[str, str]:
    """The order's own environment, the marks the runner finds its replicas by, and homes where none are given."""
    own = {"HOME": str(workdir.home), "TMPDIR": str(workdir.tmp), "PATH": DEFAULT_PATH}
    files = {name: str(workdir.secret(name)) for name in order.files}
    volumes = {variable(name): str(workdir.app / path) for name, path in order.volumes.items()}
    marks = {"PWD": str(workdir.app), MARK: order.replica, SCRATCH: str(workdir.root)}
    return {**own, **order.env, **files, **volumes, **marks}


def variable(volume: str) -> str:
    """The variable that holds the path of a volume."""
    return f"KASBAH_VOLUME_{volume.upper().replace('-', '_')}"


def reset_signals() -> None:
    """Programs expect the defaults, and an exec keeps what is ignored. The runner began with all at their default."""
    signal.set_wakeup_fd(-1)
    for number in CHANGED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def keep_open(needed: tuple[int, ...], *, first: int = 3) -> None:
    """Close every file from `first` on but those that are needed."""
    kept = sorted(needed)
    for before, after in zip((first - 1, *kept), (*kept, os.sysconf("SC_OPEN_MAX")), strict=True):
        os.closerange(before + 1, after)


def _say(failure: Failed, says: int) -> None:
    os.write(says, json.dumps([failure.code, failure.message, failure.hint]).encode())


def heard(said: bytes) -> Failed | None:
    """What a child said before it ended, or None where it exec'd without a word."""
    return Failed(*json.loads(said)) if said else None


def execute(argv: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    """Become the program. Raises Failed where that cannot be."""
    program = _find(argv[0], env["PATH"])
    try:
        os.execve(program, argv, env)
    except OSError as error:
        raise _explained(program, error) from None


def _find(name: str, path: str) -> str:
    """Where the program is: a path as it stands, a bare name on the replica's own PATH."""
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise Failed(
        "command_not_found",
        f"command not found: {name} is in no folder of PATH ({path})",
        "check `command` in kasbah.yaml, or add what provides it to the app's dependencies",
    )


def _explained(program: str, error: OSError) -> Failed:
    """Why an exec failed, in terms of what can be changed."""
    if not os.path.lexists(program):
        return Failed("command_not_found", f"command not found: {program} does not exist", "check `command`")
    if error.errno == errno.ENOENT:
        return Failed("bad_interpreter", _missing_interpreter(program), "install it, or name it in `command` yourself")
    if error.errno == errno.ENOEXEC:
        hint = "a script starts with a line like #!/bin/sh; a program must be built for this machine"
        return Failed("not_executable", f"{program} is neither a program for this machine nor a script", hint)
    if error.errno in (errno.EACCES, errno.EPERM):
        return _forbidden(program)
    return Failed("start_failed", f"{program} could not be executed: {error.strerror}")


def _missing_interpreter(program: str) -> str:
    try:
        with open(program, "rb") as file:
            first = file.readline(256)
    except OSError:
        first = b""
    if first.startswith(b"#!"):
        interpreter = first[2:].decode(errors="replace").strip()
        return f"bad interpreter: the first line of {program} asks for {interpreter!r}, which is not there"
    return f"{program} exists, but the loader or a library it was linked with does not"


def _forbidden(program: str) -> Failed:
    mode = os.stat(program).st_mode
    if stat.S_ISDIR(mode):
        return Failed("not_executable", f"{program} is a folder, not a program", "check `command`")
    if not mode & 0o111:
        return Failed("not_executable", f"permission denied: {program} is not executable", f"chmod +x {program}")
    hint = "install it below /usr or in the app's own environment: a replica reads nothing else"
    return Failed("not_executable", f"permission denied: a replica may not execute {program}", hint)
