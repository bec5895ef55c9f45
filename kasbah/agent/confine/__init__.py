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
    closed-network       without own networks: a replica that may call nothing makes no connection, and has no sockets
                         that need none (kernel 6.12, with seccomp and private mounts)

`egress` is `enforced` where what a replica calls can be limited, as own networks can; `closable` where it can only be
kept from calling anything; else `open`.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kasbah.agent.confine import landlock, mounts, privileges, seccomp, system, trials
from kasbah.agent.confine.network import Street

LANDLOCK, SIGNAL_SCOPE, MOUNTS, SECCOMP = "landlock", "signal-scope", "private-mounts", "seccomp"
CAPABILITIES, NO_NEW_PRIVILEGES, RLIMITS = "no-capabilities", "no-new-privileges", "rlimits"
OWN_USER, OWN_PROCESSES, OWN_NETWORK = "own-user", "own-processes", "own-network"
CLOSED_NETWORK = "closed-network"
OPEN, CLOSABLE, ENFORCED = "open", "closable", "enforced"
OPEN_FILES = 65_536
MOST_PROCESSES = 2_048
"""Processes and threads of a replica that has a user of its own: they are counted by user."""

WITHOUT = {
    LANDLOCK: "replicas can read and write what the site's user can",
    SIGNAL_SCOPE: "replicas can signal the user's other processes",
    MOUNTS: "replicas share /dev/shm, and reach other programs' Unix sockets",
    SECCOMP: "replicas can make any system call",
    OWN_USER: "replicas run as the site's user",
    OWN_PROCESSES: "replicas can list the machine's processes and their arguments, though not their environment",
    OWN_NETWORK: "replicas share the machine's network: they reach its loopback and each other's ports, and what they "
    "open on other addresses than 127.0.0.1 is reached from there past the gateway and its keys",
    CLOSED_NETWORK: "replicas can call anything, so sensitive data has no place here",
}
"""What it means where a mechanism is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is in force for every replica, what is missing with the reason, and whether replicas may call out.
    `builder` is the user as whom sources are built, `closed_builder` the one who reaches package indexes only; None:
    there is none but the site's own."""

    mechanisms: tuple[str, ...]
    missing: tuple[tuple[str, str], ...] = ()
    egress: str = OPEN
    builder: int | None = None
    closed_builder: int | None = None


class Confiner:
    """Prepares what replicas are confined by, with all that was measured to work."""

    def __init__(self, facts: Facts, *, hidden: Iterable[Path] = ()) -> None:
        self._mechanisms = frozenset(facts.mechanisms)
        self._hidden = tuple(hidden)
        self._filter = seccomp.Filter(seccomp.program()) if SECCOMP in self._mechanisms else None
        self._closing = seccomp.Filter(seccomp.closed_program()) if CLOSED_NETWORK in self._mechanisms else None
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
    def can_close(self) -> bool:
        """Whether a replica without a network of its own can be kept from calling anything."""
        return self._closing is not None

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
        writable: tuple[Path, ...] = (),
        closed: bool = False,
    ) -> Confinement:
        """What to enter in one replica's process. `private` holds `tmp`, its /tmp; `user` is its own, where it has
        one; `stand_ins` are files of the machine, and what it sees instead; `volumes` are folders that it may write to,
        by the place in `private` where it finds each, and those that are `writable` it finds where they are. `closed`:
        it may call nothing, which its own network, where it has one, sees to."""
        seen = (*readable, *(source for _, source in stand_ins))
        return Confinement(
            ruleset=self._ruleset(seen, (private, private / "tmp", *pipes, *volumes.values(), *writable)),
            view=self._view(private, readable, user, stand_ins, volumes, writable) if self.own_mounts else None,
            filter=self._filter,
            closing=self._closing if closed and not self.own_network else None,
            user=user,
        )

    def _view(
        self,
        private: Path,
        readable: tuple[Path, ...],
        user: int | None,
        stand_ins: tuple[tuple[Path, Path], ...],
        volumes: Mapping[Path, Path],
        writable: tuple[Path, ...],
    ) -> mounts.View:
        kept = (*readable, *system.interpreter())
        closed = () if user is None else mounts.closed_parents((private, *writable, *kept))
        return mounts.View(
            private=private,
            readable=kept,
            hidden=(*closed, *self._hidden),
            replaced=stand_ins,
            volumes=tuple(volumes.items()),
            writable=writable,
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
    closing: seccomp.Filter | None = None
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
        if self.closing:
            landlock.close_off()
            self.closing.enter()
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
    wanted: list[tuple[str, Callable[[], None]]] = [
        (RLIMITS, limit),
        (CAPABILITIES, trials.no_privileges),
        (NO_NEW_PRIVILEGES, privileges.forbid_new),
        (SECCOMP, trials.system_calls),
        (LANDLOCK, trials.files),
        (SIGNAL_SCOPE, trials.signals),
        (MOUNTS, lambda: trials.own_mounts(scratch)),
        (OWN_USER, lambda: trials.own_user(scratch, user)),
        (OWN_PROCESSES, lambda: trials.own_processes(scratch)),
        (OWN_NETWORK, lambda: trials.own_network(street, user)),
    ]
    tried = [(name, lacking.get(name) or trials.attempt(trial)) for name, trial in wanted]
    limited = (OWN_NETWORK, "") in tried
    if not limited:
        tried.append((CLOSED_NETWORK, _cannot_close(dict(tried))))
    works = tuple(name for name, problem in tried if not problem)
    fails = tuple((name, f"{problem}: {WITHOUT.get(name, 'tried, and refused')}") for name, problem in tried if problem)
    egress = ENFORCED if limited else CLOSABLE if CLOSED_NETWORK in works else OPEN
    return Facts(mechanisms=works, missing=fails, egress=egress)


def _cannot_close(tried: Mapping[str, str]) -> str:
    """Why replicas without networks of their own cannot be kept from calling anything; "" where they can. What other
    programs listen on must be out of their sight."""
    for name in (SECCOMP, SIGNAL_SCOPE, MOUNTS):
        if tried[name]:
            return f"it needs {name}, which is missing"
    return trials.attempt(trials.no_calls)
