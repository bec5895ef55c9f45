"""Landlock: what a replica may open. Everything it was not given is refused by the kernel, and signals and abstract
sockets stay inside.

A ruleset is made before the fork and entered by the child, so that the child has one system call left to make.
Landlock hides contents and listings; that a path exists, and its size, can still be asked.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from kasbah.agent.confine.kernel import StepFailed, call

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FIRST_RIGHTS = (1 << 13) - 1
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
SCOPES_SINCE = 6
READ = EXECUTE | READ_FILE | READ_DIR
CONNECT_TCP = 1 << 1
CONNECTING_SINCE = 4
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
RULE_PATH_BENEATH = 1


def abi() -> int:
    """The version of Landlock this kernel offers. Raises StepFailed where it has none."""
    return call("landlock_create_ruleset", None, 0, 1)


def all_rights(version: int) -> int:
    """Every right on files that this version knows."""
    return (
        FIRST_RIGHTS
        | (REFER if version >= 2 else 0)
        | (TRUNCATE if version >= 3 else 0)
        | (IOCTL_DEV if version >= 5 else 0)
    )


class Grant:
    """A right below one path, opened once and good for many rulesets."""

    def __init__(self, path: Path, rights: int) -> None:
        self.fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        is_folder = stat.S_ISDIR(os.fstat(self.fd).st_mode)
        self.rule = struct.pack("=Qi", rights if is_folder else rights & FILE_RIGHTS, self.fd)
        self.path = path

    def close(self) -> None:
        """Let go of the path; rulesets it was given to keep it."""
        os.close(self.fd)


def grants(paths: Iterable[Path], rights: int) -> list[Grant]:
    """The same rights for each path that exists."""
    found = []
    for path in paths:
        try:
            found.append(Grant(path, rights))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


class Ruleset:
    """What may be opened. `fd` is entered with `enter`, in the process to be confined."""

    def __init__(self, version: int) -> None:
        self.all = all_rights(version)
        scopes = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= SCOPES_SINCE else 0
        # Older versions know fewer fields, and accept a longer structure only where the rest of it is zero.
        attributes = struct.pack("QQQ", self.all, 0, scopes)
        self.fd = call("landlock_create_ruleset", attributes, len(attributes), 0)
        os.set_inheritable(self.fd, False)

    def allow(self, granted: Iterable[Grant]) -> None:
        """Add grants; none of them may name a right that this version lacks."""
        for one in granted:
            try:
                call("landlock_add_rule", self.fd, RULE_PATH_BENEATH, one.rule, 0)
            except StepFailed as failure:
                raise StepFailed(failure.errno, failure.strerror, f"landlock_add_rule for {one.path}") from None

    def allow_once(self, paths: Iterable[Path], rights: int) -> None:
        """The same rights below each path that exists, for this ruleset only."""
        for one in grants(paths, rights):
            try:
                self.allow((one,))
            finally:
                one.close()


def close_off() -> None:
    """Let this process, for good, make no TCP connection. Needs no-new-privileges. Raises StepFailed where the kernel
    cannot."""
    attributes = struct.pack("QQ", 0, CONNECT_TCP)
    fd = call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        enter(fd)
    finally:
        os.close(fd)


def enter(ruleset_fd: int) -> None:
    """Enter a ruleset, for good. Needs no-new-privileges."""
    call("landlock_restrict_self", ruleset_fd, 0)
