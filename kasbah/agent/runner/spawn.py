"""From an order to a running program: fork, working copy, limits, confinement, exec, in one process and no helper.

    runner                                child
      fork ────────────────────────────────> own session, waits
      writes the record, says go ──────────> fills the working copy, joins its groups, is confined, execs
      the pipe closes: it runs <──────────── (exec closes it)
      or an error arrives on it <─────────── says what failed, and ends

The child does not exec before its record is on disk, and ends when the runner does, so a program that runs is always
in a record.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from kasbah.agent import confine
from kasbah.agent.confine import pids
from kasbah.agent.confine.kernel import StepFailed
from kasbah.agent.confine.network import Rule
from kasbah.agent.runner.processes import MARK, SCRATCH
from kasbah.agent.runner.workdir import Workdir

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An order with all that was made ready for it: its folder, its pipes for standard output and error, its groups."""

    order: Order
    workdir: Workdir
    pipes: tuple[Path, Path]
    confinement: confine.Confinement
    groups: tuple[Path, ...] = ()
    own_processes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child that waits for `go`. From `says` comes the end of file once it has exec'd, or why it could not. `init`
    is the first process of its pid namespace (0: it has none), which waits for a word of `go` as well."""

    pid: int
    init: int
    go: int
    says: int


class Failed(Exception):
    """Why a program could not be started, with a code for programs and a hint for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def fork(plan: Plan) -> Child:
    """Fork the child. The caller closes `go` and `says`, and the plan's confinement."""
    go_reader, go = os.pipe()
    says, says_writer = os.pipe()
    # Both ends of its own pipes are the replica's: a dead runner neither blocks it at once nor breaks its writing.
    outputs = [os.open(pipe, os.O_RDWR | os.O_CLOEXEC) for pipe in plan.pipes]
    with pids.entered() if plan.own_processes else nullcontext():
        # Both are children of ours, so the program's end is seen as it is; the second is born beside the first.
        init = _fork_init(go_reader) if plan.own_processes else 0
        pid = os.fork()
        if pid == 0:
            os.close(go)
            _become(plan, outputs, go_reader, says_writer)
    for fd in (go_reader, says_writer, *outputs):
        os.close(fd)
    os.set_blocking(says, False)
    return Child(pid=pid, init=init, go=go, says=says)


def _fork_init(go_reader: int) -> int:
    """The first process of a new pid namespace. It ends as its sibling does where its record is not written."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.closerange(0, go_reader)  # `go` and `says` among them: their ends must be seen by others
            os.closerange(go_reader + 1, os.sysconf("SC_OPEN_MAX"))
            if os.read(go_reader, 1):
                pids.be_init()
        finally:
            os._exit(1)
    return child


def _become(plan: Plan, outputs: list[int], go: int, says: int) -> NoReturn:
    """The child's life, up to the program it becomes. Never returns."""
    try:
        os.setsid()
        _reset_signals()
        if not os.read(go, 1):
            os._exit(1)
        os.umask(0o077)
        plan.workdir.fill(plan.order.app, plan.order.files)
        for group in plan.groups:
            (group / "cgroup.procs").write_text("0")
        _arrange_files(outputs, (says, *plan.confinement.files))
        confine.limit()
        plan.confinement.enter()
        os.chdir(plan.workdir.app)
        _execute(plan.order.argv, environment(plan.order, plan.workdir))
    except Failed as failure:
        _say(failure, says)
    except StepFailed as failure:
        _say(Failed("confinement_failed", f"the replica could not be confined: {failure}", CONFINEMENT_HINT), says)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _say(Failed("start_failed", f"the replica could not be prepared: {error.strerror}{where}"), says)
    finally:
        os._exit(1)


def environment(order: Order, workdir: Workdir) -> dict[str, str]:
    """The order's own environment, the marks the runner finds its replicas by, and homes where none are given."""
    own = {"HOME": str(workdir.home), "TMPDIR": str(workdir.tmp), "PATH": DEFAULT_PATH}
    files = {name: str(workdir.secret(name)) for name in order.files}
    return {**own, **order.env, **files, "PWD": str(workdir.app), MARK: order.replica, SCRATCH: str(workdir.root)}


def _reset_signals() -> None:
    """Programs expect the defaults, and an exec keeps what is ignored. The runner began with all at their default."""
    signal.set_wakeup_fd(-1)
    for number in CHANGED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _arrange_files(outputs: list[int], needed: tuple[int, ...]) -> None:
    """Standard input is empty, outputs are the pipes, and nothing else of the runner's stays open."""
    for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
        os.dup2(source, target)
    kept = sorted(needed)
    for first, last in zip((2, *kept), (*kept, os.sysconf("SC_OPEN_MAX")), strict=True):
        os.closerange(first + 1, last)


def _say(failure: Failed, says: int) -> None:
    os.write(says, json.dumps([failure.code, failure.message, failure.hint]).encode())


def heard(said: bytes) -> Failed | None:
    """What a child said before it ended, or None where it exec'd without a word."""
    return Failed(*json.loads(said)) if said else None


def _execute(argv: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
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
