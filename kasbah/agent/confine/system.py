"""The parts of a machine that every replica may read: what interpreters, loaders and libraries need, and no secrets.

For an ordinary user the files' own permissions keep the rest away. Replicas of a root agent own root's files, so below
/etc only what everybody may read is given to them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ETC = Path("/etc")

READABLE = (
    *(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")),
    # What language runtimes ask about the machine: processors, memory, their own limits, time zones, name resolution.
    *(Path(name) for name in ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm")),
    *(Path(name) for name in ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf")),
)

WRITABLE_DEVICES = tuple(Path(name) for name in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"))


def interpreter() -> tuple[Path, ...]:
    """The folders of the Python that runs this; virtual environments made from it need them."""
    prefixes = {Path(os.path.realpath(prefix)) for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    return tuple(sorted(prefix for prefix in prefixes if len(prefix.parts) > 1))


def private_parts_left_out(folder: Path = ETC) -> tuple[Path, ...]:
    """The largest subtrees of a folder that hold nothing private, for a root agent; for others all of it."""
    if os.getuid() != 0:
        return (folder,)
    private, parts = _split(folder)
    return tuple(parts) if private else (folder,)


def _split(folder: Path) -> tuple[bool, list[Path]]:
    """Whether anything below `folder` is private, and the parts of it that are not."""
    private, parts = False, []
    for entry in _entries(folder):
        mode = entry.stat(follow_symlinks=False).st_mode
        if entry.is_symlink():
            continue  # what it points at has rules of its own
        if entry.is_dir(follow_symlinks=False):
            inner_private, inner = _split(Path(entry.path)) if mode & 0o005 == 0o005 else (True, [])
            private |= inner_private
            parts += inner if inner_private else [Path(entry.path)]
        elif mode & 0o004:
            parts.append(Path(entry.path))
        else:
            private = True
    return private, parts


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return
