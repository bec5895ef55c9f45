"""A mount namespace per replica: a /tmp and a /dev/shm of its own, and the sockets of others out of sight.

Landlock does not stop a connection to a Unix socket whose path is known: the machine's own daemons, or the gateway's
administration, would answer a replica that runs as their user. Where the kernel lets us make a mount namespace (as
root, or through a user namespace), folders that hold such sockets are covered with empty ones.

A replica with a user of its own cannot pass the folders that are closed to others, where its interpreter or its build
may live. They are covered too, and what it must read is bound back at its place: nothing else below them is there.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.confine import users
from kasbah.agent.confine.kernel import call, checked, libc

NEW_MOUNTS, NEW_IPC = 0x0002_0000, 0x0800_0000
NO_SETUID, NO_DEVICES, NO_EXECUTION = 2, 4, 8
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x4_0000
READ_ONLY, REMOUNT = 0x1, 0x20
PASSABLE = 0o001

SHARED_MEMORY = Path("/dev/shm")
TEMPORARY = Path("/tmp")
PROCESSES = Path("/proc")
RUN = Path("/run")
RESOLVER = Path("/etc/resolv.conf")
BEHIND_THE_STUB = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a replica sees instead. `private/tmp` becomes its /tmp; `hidden` are covered; `private` and what is
    `readable` stay where they are, even below something that is covered. `replaced` are files that another's contents
    stand in for. `volumes` are folders that come to lie in `private`, by their place there; those that are `writable`
    stay where they are. `own_processes`: it is in a pid namespace (without root in that one's user namespace too),
    whose /proc it gets; processes that it may not look into are not in that. `own_network`: what listens on the
    machine's loopback, name servers too, is not there for it.
    """

    private: Path
    readable: tuple[Path, ...]
    hidden: tuple[Path, ...]
    replaced: tuple[tuple[Path, Path], ...] = ()
    volumes: tuple[tuple[Path, Path], ...] = ()
    writable: tuple[Path, ...] = ()
    own_processes: bool = False
    own_network: bool = False


def closed_parents(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The outermost folders above these paths that another user cannot pass."""
    found: dict[Path, None] = {}
    for path in paths:
        for parent in reversed(path.parents):
            if not os.stat(parent).st_mode & PASSABLE:
                found[parent] = None
                break
    return tuple(found)


def enter(view: View) -> None:
    """Give this process the view. Raises StepFailed or OSError. Needs a single thread."""
    if os.getuid() == 0 or view.own_processes:
        call("unshare", NEW_MOUNTS | NEW_IPC)
    else:
        users.enter(NEW_MOUNTS | NEW_IPC)
    _mount(None, Path("/"), None, RECURSIVE | PRIVATE)
    before = os.umask(0o022)  # the folders on the way to what is kept must be passable
    try:
        _look_different(view)
    finally:
        os.umask(before)


def _look_different(view: View) -> None:
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in _covered(view) if path.is_dir()]
    replaced = [(target, os.open(source, os.O_PATH | os.O_CLOEXEC)) for target, source in view.replaced]
    volumes = [(target, os.open(source, os.O_PATH | os.O_CLOEXEC)) for target, source in view.volumes]
    resolver = _resolver(view.own_network)
    _mount(view.private / "tmp", TEMPORARY, None, BIND)
    _cover(SHARED_MEMORY, "mode=1777")
    for folder in (RUN, *view.hidden):
        _cover(folder, "mode=0755")
    for path, fd in kept:
        path.mkdir(parents=True, exist_ok=True)
        _keep(path, fd, read_only=path not in (view.private, *view.writable))
    for path, fd in replaced:
        if path.exists():
            _keep(path, fd, read_only=True)
        else:
            os.close(fd)
    for path, fd in volumes:
        _keep(path, fd, read_only=False)
        _mount(None, path, None, BIND | REMOUNT | NO_SETUID | NO_DEVICES | _flags(path))
    if resolver is not None:
        resolver[0].parent.mkdir(parents=True, exist_ok=True)
        resolver[0].write_bytes(resolver[1])
    if view.own_processes:
        _mount("proc", PROCESSES, "proc", NO_SETUID | NO_DEVICES | NO_EXECUTION, "hidepid=2")


def _cover(folder: Path, options: str) -> None:
    if folder.is_dir():
        _mount("tmpfs", folder, "tmpfs", NO_SETUID | NO_DEVICES | NO_EXECUTION, options)


def _keep(path: Path, fd: int, *, read_only: bool) -> None:
    """Mount what `fd` names at `path`, and close it."""
    _mount(Path(f"/proc/self/fd/{fd}"), path, None, BIND | RECURSIVE)
    os.close(fd)
    if read_only:
        # Landlock adds up the rights along a path, and the mount's own parent is now the writable /tmp.
        _mount(None, path, None, BIND | REMOUNT | READ_ONLY | _flags(path))


def _covered(view: View) -> Iterable[Path]:
    """The paths to keep that a cover would hide, the outer before the inner."""
    covers = (TEMPORARY, RUN, *view.hidden)
    kept = {view.private, *view.readable, *view.writable}
    return sorted(path for path in kept if any(path.is_relative_to(cover) for cover in covers))


def _flags(path: Path) -> int:
    """The flags a mount has and must keep: a user namespace may not take them away."""
    return os.statvfs(path).f_flag & (NO_SETUID | NO_DEVICES | NO_EXECUTION)


def _resolver(own_network: bool) -> tuple[Path, bytes] | None:
    """The resolver's configuration where it lives below /run, as it does under systemd; from a network of its own not
    the stub that listens on the machine's loopback, but the servers behind it."""
    try:
        target = RESOLVER.resolve(strict=True)
        source = BEHIND_THE_STUB if own_network and BEHIND_THE_STUB.exists() else target
        return (target, source.read_bytes()) if target.is_relative_to(RUN) else None
    except OSError:
        return None


def _mount(source: Path | str | None, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = (
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if options is None else options.encode(),
    )
    checked(libc.mount(*arguments), f"mounting over {target}")
