"""What keeps a replica from the rest of the machine, and what of that is in force here.

`measure` tries every mechanism in a process of its own and says which work and which do not, with the reason. A replica
then gets all of those that work, or does not start: nothing measured is ever left out in silence. Standard library
only, because the runner uses it.

    landlock             opens only what it was given; signals and abstract sockets stay inside (kernel 6.12)
    private-mounts       a /tmp, /dev/shm and IPC of its own; other daemons' sockets out of sight
    seccomp              no mounts, tracing, namespaces, modules, io_uring ...
    no-capabilities      root's powers are dropped, and no-new-privileges keeps them so
    rlimits              no core files, bounded open files
    own-user             as root: a user and group of its own, who can pass no closed folder and owns nothing else
    own-processes        a pid namespace, in which it sees, signals and leaves behind only its own processes
    own-network          as root: a loopback, ports and one address of its own, and rules about who it reaches

`egress` is `enforced` where what a replica calls can be limited, else `open`: with own networks it can.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from kasbah.agent.confine import landlock, mounts, network_trial, pids, privileges, seccomp, system
from kasbah.agent.confine.kernel import ARCHITECTURE, StepFailed, call, keep_orphans
from kasbah.agent.confine.network import Street

LANDLOCK, SIGNAL_SCOPE, MOUNTS, SECCOMP = "landlock", "signal-scope", "private-mounts", "seccomp"
CAPABILITIES, NO_NEW_PRIVILEGES, RLIMITS = "no-capabilities", "no-new-privileges", "rlimits"
OWN_USER, OWN_PROCESSES, OWN_NETWORK = "own-user", "own-processes", "own-network"
OPEN, ENFORCED = "open", "enforced"
OPEN_FILES = 65_536
MOST_PROCESSES = 2_048
"""Processes and threads of a replica that has a user of its own: they are counted by user."""

ONLY_ROOT = "only root can make them: run the agent as root"

WITHOUT = {
    LANDLOCK: "replicas can read and write what the site's user can",
    SIGNAL_SCOPE: "replicas can signal the user's other processes",
    MOUNTS: "replicas share /dev/shm, and reach other programs' Unix sockets",
    SECCOMP: "replicas can make any system call",
    OWN_USER: "replicas run as the site's user",
    OWN_PROCESSES: "replicas can list the machine's processes and their arguments, though not their environment",
    OWN_NETWORK: "replicas share the machine's network: they reach its loopback and each other's ports, and what they "
    "open on other addresses than 127.0.0.1 is reached from there past the gateway and its keys",
}
"""What it means where a mechanism is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is in force for every replica, what is missing with the reason, and whether replicas may call out."""

    mechanisms: tuple[str, ...]
    missing: tuple[tuple[str, str], ...] = ()
    egress: str = OPEN


class Confiner:
    """Prepares what replicas are confined by, with all that was measured to work."""

    def __init__(self, facts: Facts, *, hidden: Iterable[Path] = ()) -> None:
        self._mechanisms = frozenset(facts.mechanisms)
        self._hidden = tuple(hidden)
        self._filter = seccomp.Filter() if SECCOMP in self._mechanisms else None
        self._version = landlock.abi() if LANDLOCK in self._mechanisms else 0
        self._system: list[landlock.Grant] = []
        self._etc_changed = 0
        self._begun: landlock.Ruleset | None = None
        if LANDLOCK in self._mechanisms:
            self._system_grants()

    @property
    def own_processes(self) -> bool:
        """Whether every replica gets a pid namespace."""
        return OWN_PROCESSES in self._mechanisms

    @property
    def own_mounts(self) -> bool:
        """Whether every replica gets a mount namespace."""
        return MOUNTS in self._mechanisms

    @property
    def own_network(self) -> bool:
        """Whether every replica gets a network namespace."""
        return OWN_NETWORK in self._mechanisms

    @property
    def files(self) -> tuple[int, ...]:
        """The files that `begin` needs open."""
        return tuple(one.fd for one in self._system)

    def begin(self) -> tuple[int, ...]:
        """Make ahead, in a process that will be confined, what does not depend on what it will be. Answers with the
        files that it must keep open until then; it may close all others."""
        if LANDLOCK not in self._mechanisms:
            return ()
        self._begun = landlock.Ruleset(self._version)
        self._begun.allow(self._system_grants())
        self._system = []
        return (self._begun.fd,)

    def prepare(
        self,
        *,
        private: Path,
        readable: tuple[Path, ...],
        pipes: tuple[Path, ...],
        user: int | None = None,
        stand_ins: tuple[tuple[Path, Path], ...] = (),
        volumes: Mapping[Path, Path] = MappingProxyType({}),
    ) -> Confinement:
        """What to enter in one replica's process. `private` holds `tmp`, its /tmp; `user` is its own, where it has
        one; `stand_ins` are files of the machine, and what it sees instead; `volumes` are folders that it may write to,
        by the place in `private` where it finds each."""
        seen = (*readable, *(source for _, source in stand_ins))
        return Confinement(
            ruleset=self._ruleset(seen, (private, private / "tmp", *pipes, *volumes.values())),
            view=self._view(private, readable, user, stand_ins, volumes) if self.own_mounts else None,
            filter=self._filter,
            user=user,
        )

    def _view(
        self,
        private: Path,
        readable: tuple[Path, ...],
        user: int | None,
        stand_ins: tuple[tuple[Path, Path], ...],
        volumes: Mapping[Path, Path],
    ) -> mounts.View:
        kept = (*readable, *system.interpreter())
        closed = () if user is None else mounts.closed_parents((private, *kept))
        return mounts.View(
            private=private,
            readable=kept,
            hidden=(*closed, *self._hidden),
            replaced=stand_ins,
            volumes=tuple(volumes.items()),
            own_processes=self.own_processes,
            own_network=self.own_network,
        )

    def _ruleset(self, readable: tuple[Path, ...], writable: tuple[Path, ...]) -> landlock.Ruleset | None:
        if LANDLOCK not in self._mechanisms:
            return None
        rules, self._begun = self._begun, None
        if rules is None or _etc_changed() != self._etc_changed:
            rules = landlock.Ruleset(self._version)
            rules.allow(self._system_grants())
        rules.allow_once(readable, landlock.READ)
        # Its /tmp, a mount, among them: a walk from there upwards does not pass its private folder.
        rules.allow_once(writable, rules.all)
        return rules

    def _system_grants(self) -> list[landlock.Grant]:
        """What every replica is given, found again when /etc changes: files there are replaced, not written to."""
        changed = _etc_changed()
        if changed != self._etc_changed:
            for one in self._system:
                one.close()
            read = (*system.READABLE, *system.interpreter(), *system.private_parts_left_out())
            self._system = [
                *landlock.grants(read, landlock.READ),
                *landlock.grants((system.ETC,), landlock.READ_DIR),
                *landlock.grants(system.WRITABLE_DEVICES, landlock.all_rights(self._version)),
            ]
            self._etc_changed = changed
        return self._system


def _etc_changed() -> int:
    return system.ETC.stat().st_mtime_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """One replica's confinement, ready to be entered."""

    ruleset: landlock.Ruleset | None
    view: mounts.View | None
    filter: seccomp.Filter | None
    user: int | None = None

    @property
    def files(self) -> tuple[int, ...]:
        """The file descriptors that must survive until `enter`."""
        return (self.ruleset.fd,) if self.ruleset else ()

    def enter(self, see: Callable[[], object] | None = None) -> None:
        """Confine this process for good. Raises StepFailed or OSError; the process must then end. `see` gives it a
        view that there is already, in the place of one of its own."""
        if self.view:
            see() if see is not None else mounts.enter(self.view)
        if self.user is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
        privileges.drop_capabilities(self.user)
        privileges.forbid_new()
        if self.ruleset:
            # Without a view this is the machine's own: semaphores and shared memory need it, so it is shared.
            self.ruleset.allow_once((mounts.SHARED_MEMORY,), self.ruleset.all)
            if self.view and self.view.own_processes:
                self.ruleset.allow_once((mounts.PROCESSES,), landlock.READ)
            landlock.enter(self.ruleset.fd)
        if self.filter:
            self.filter.enter()


def limit() -> None:
    """Limits every replica gets: no core files, a bounded number of open files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def measure(
    scratch: Path,
    *,
    user: int | None = None,
    street: Street | None = None,
    lacking: Mapping[str, str] = MappingProxyType({}),
) -> Facts:
    """Try every mechanism on this machine, each in a process of its own. `scratch` is any empty folder of ours.

    `user` and `street` are a user and the addresses that replicas could have; `lacking` says why there are none.
    """
    trials: list[tuple[str, Callable[[], None]]] = [
        (RLIMITS, limit),
        (CAPABILITIES, _try_privileges),
        (NO_NEW_PRIVILEGES, privileges.forbid_new),
        (SECCOMP, _try_seccomp),
        (LANDLOCK, _try_landlock),
        (SIGNAL_SCOPE, _try_signal_scope),
        (MOUNTS, lambda: _try_mounts(scratch)),
        (OWN_USER, lambda: _try_own_user(scratch, user)),
        (OWN_PROCESSES, lambda: _try_own_processes(scratch)),
        (OWN_NETWORK, lambda: _try_own_network(street, user)),
    ]
    tried = [(name, lacking.get(name) or _attempt(trial)) for name, trial in trials]
    works = tuple(name for name, problem in tried if not problem)
    fails = tuple((name, f"{problem}: {WITHOUT.get(name, 'tried, and refused')}") for name, problem in tried if problem)
    return Facts(mechanisms=works, missing=fails, egress=ENFORCED if OWN_NETWORK in works else OPEN)


def _attempt(work: Callable[[], None]) -> str:
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


def _try_privileges() -> None:
    privileges.drop_capabilities()
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    if int(held.split()[1], 16):
        raise StepFailed(1, f"the kernel kept {held.split()[1]}", "dropping capabilities")


def _try_seccomp() -> None:
    if ARCHITECTURE is None:
        raise StepFailed(38, f"no filter is written for {os.uname().machine}", "seccomp")
    privileges.forbid_new()
    seccomp.Filter().enter()
    try:
        call("unshare", 0)
    except StepFailed:
        return
    raise StepFailed(1, "the filter let a refused call pass", "seccomp")


def _try_landlock() -> None:
    rules = landlock.Ruleset(landlock.abi())
    privileges.forbid_new()
    landlock.enter(rules.fd)
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise StepFailed(1, "a refused folder could still be listed", "landlock")


def _try_signal_scope() -> None:
    if landlock.abi() < landlock.SCOPES_SINCE:
        raise StepFailed(1, f"the kernel's Landlock is version {landlock.abi()}, scopes came with 6", "landlock")
    _try_landlock()
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise StepFailed(1, "a signal could still leave", "landlock")


def _try_mounts(scratch: Path) -> None:
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    wanted = temporary.stat()
    mounts.enter(mounts.View(private=scratch, readable=(), hidden=()))
    if not os.path.samestat(wanted, mounts.TEMPORARY.stat()):
        raise StepFailed(1, "/tmp is still the machine's", "private mounts")


def _try_own_user(scratch: Path, user: int | None) -> None:
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


def _try_own_network(street: Street | None, user: int | None) -> None:
    if street is None or user is None:
        raise StepFailed(1, ONLY_ROOT, "own networks")
    network_trial.try_out(street, 0, user)


def _try_own_processes(scratch: Path) -> None:
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
