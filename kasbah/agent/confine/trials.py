"""Does a mechanism work on this machine? Each is tried in a process of its own, and says why it does not."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from kasbah.agent.confine import landlock, mounts, network_trial, pids, privileges, seccomp, system
from kasbah.agent.confine.kernel import ARCHITECTURE, StepFailed, call, keep_orphans
from kasbah.agent.confine.network import Street

PATIENCE_SECONDS = 5.0
ONLY_ROOT = "only root can make them: run the agent as root"


def attempt(work: Callable[[], None]) -> str:
    """Run `work` in a forked process; "" where it succeeded, else why it did not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception as error:  # a broken mechanism is a missing one, whatever breaks
            os.write(writer, str(error).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.read().decode()
    _, status = os.waitpid(child, 0)
    return "" if status == 0 else said or f"the trial ended with status {status}"


def no_privileges() -> None:
    """Capabilities are dropped."""
    privileges.drop_capabilities()
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    if int(held.split()[1], 16):
        raise StepFailed(1, f"the kernel kept {held.split()[1]}", "dropping capabilities")


def system_calls() -> None:
    """A refused system call is refused."""
    if ARCHITECTURE is None:
        raise StepFailed(38, f"no filter is written for {os.uname().machine}", "seccomp")
    privileges.forbid_new()
    seccomp.Filter(seccomp.program()).enter()
    try:
        call("unshare", 0)
    except StepFailed:
        return
    raise StepFailed(1, "the filter let a refused call pass", "seccomp")


def files() -> None:
    """What was not given cannot be opened."""
    rules = landlock.Ruleset(landlock.abi())
    privileges.forbid_new()
    landlock.enter(rules.fd)
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise StepFailed(1, "a refused folder could still be listed", "landlock")


def signals() -> None:
    """Signals stay inside."""
    if landlock.abi() < landlock.SCOPES_SINCE:
        raise StepFailed(1, f"the kernel's Landlock is version {landlock.abi()}, scopes came with 6", "landlock")
    files()
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise StepFailed(1, "a signal could still leave", "landlock")


def no_calls() -> None:
    """Without a network of its own, a process can still be kept from calling anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        privileges.forbid_new()
        landlock.close_off()
        seccomp.Filter(seccomp.closed_program()).enter()
        ways: tuple[tuple[str, Callable[[], socket.socket]], ...] = (
            ("a connection", lambda: socket.create_connection(address, PATIENCE_SECONDS)),
            ("a datagram socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        )
        for what, way in ways:
            try:
                way()
            except PermissionError:
                continue
            raise StepFailed(1, f"{what} could still be made", "a closed network")


def own_mounts(scratch: Path) -> None:
    """`scratch` becomes the place of /tmp."""
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    wanted = temporary.stat()
    mounts.enter(mounts.View(private=scratch, readable=(), hidden=()))
    if not os.path.samestat(wanted, mounts.TEMPORARY.stat()):
        raise StepFailed(1, "/tmp is still the machine's", "private mounts")


def own_user(scratch: Path, user: int | None) -> None:
    """A process becomes this user, who can run programs and read none of root's files."""
    if user is None:
        raise StepFailed(1, ONLY_ROOT, "own users")
    (scratch / "tmp").mkdir(exist_ok=True)
    program = Path(os.path.realpath(sys.executable))
    kept = system.interpreter()
    closed = mounts.closed_parents((scratch, *kept))
    mounts.enter(mounts.View(private=scratch, readable=kept, hidden=closed))
    privileges.drop_capabilities(user)
    if os.getresuid() != (user,) * 3 or os.getresgid() != (user,) * 3 or os.getgroups():
        raise StepFailed(1, f"the process is still {os.getresuid()}", "becoming another user")
    if not (os.access(program, os.R_OK | os.X_OK) and os.access(os.__file__, os.R_OK)):
        raise StepFailed(13, f"no other user may read or execute {program}", "the interpreter")
    if os.access("/etc/shadow", os.R_OK):
        raise StepFailed(1, "root's files can still be read", "becoming another user")


def own_network(street: Street | None, user: int | None) -> None:
    """A network namespace lets in and out whom it should."""
    if street is None or user is None:
        raise StepFailed(1, ONLY_ROOT, "own networks")
    network_trial.try_out(street, 0, user)


def own_processes(scratch: Path) -> None:
    """A process sees none but its own."""
    (scratch / "tmp").mkdir(exist_ok=True)
    keep_orphans()
    (child,) = pids.begin(lambda: _see_only_itself(scratch))
    seen_from_outside = pids.name_of(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        why = " (container engines that cover parts of /proc forbid it)" if code == errno.EPERM else ""
        raise StepFailed(code, os.strerror(abs(code)) + why, "a pid namespace with a /proc of its own")
    if seen_from_outside in ("", pids.name_of(os.getpid())):
        raise StepFailed(1, "the processes in it cannot be told from others", "a pid namespace")


def _see_only_itself(scratch: Path) -> NoReturn:
    """In a new pid namespace: exit 0 where it is one, with a /proc of its own, else with an error's number."""
    code = errno.ENOTSUP
    try:
        mounts.enter(mounts.View(private=scratch, readable=(), hidden=(), own_processes=True))
        seen = [name for name in os.listdir(mounts.PROCESSES) if name.isdigit()]
        code = 0 if seen == ["1"] and os.getpid() == 1 else errno.ENOTSUP
    except OSError as error:
        code = error.errno or errno.ENOTSUP
    finally:
        os._exit(code)
