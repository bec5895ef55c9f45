"""Runs `ip` and `nft`, the two programs that own networks are made with, and says what they complained about."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from kasbah.agent.confine.kernel import StepFailed

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
IP, NFT = "ip", "nft"


def absent() -> tuple[str, ...]:
    """Those that are not installed."""
    return tuple(name for name in (IP, NFT) if shutil.which(name, path=PATH) is None)


def ip(commands: str) -> None:
    """Run `ip` commands, one a line. Raises StepFailed at the first that fails."""
    _run(IP, ("-batch", "-"), commands)


def nft(rules: str) -> None:
    """Bring `nft` rules into force, all or none. Raises StepFailed."""
    _run(NFT, ("-f", "-"), rules)


def told(name: str, *arguments: str) -> str:
    """What a program says. Raises StepFailed."""
    return _run(name, arguments, "")


def _run(name: str, arguments: tuple[str, ...], text: str) -> str:
    program = shutil.which(name, path=PATH)
    if program is None:
        raise StepFailed(errno.ENOENT, "it is not installed", name)
    with _file(text) as given, _file("") as said, _file("") as complaint:
        files = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate((given, said, complaint))]
        child = os.posix_spawn(program, (name, *arguments), {"PATH": PATH, "LC_ALL": "C"}, file_actions=files)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            first = _contents(complaint).strip().splitlines()[:1]
            raise StepFailed(errno.EIO, " ".join(first) or f"it ended with {code}", name)
        return _contents(said)


@contextmanager
def _file(text: str) -> Iterator[int]:
    """A file in memory that holds `text`, read from its start."""
    fd = os.memfd_create("kasbah")
    try:
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _contents(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, 2**20).decode(errors="replace")
