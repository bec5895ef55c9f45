"""Which numbers of the machine are this installation's: a block of users and of addresses, unlike any other's.

Two installations on one machine must not give two replicas the same user or the same address. Each claims a block, by
a file that names its home; a block whose home is gone may be claimed again. The files live where a restart of the
machine clears them, as it ends every replica.

    block N    users 2_000_000_000 + N * 4096 + slot, addresses as `confine/network.py` counts them

Slots are replicas', but for the first, with which mechanisms are tried, and the last two: sources are built as their
users.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kasbah.agent.confine import network

FOLDER = Path("/run/kasbah")
BLOCKS = 1024
SLOTS = network.SIZE - 2
"""The last two addresses of a block are the machine's own."""

TRIAL_SLOT = 0
"""No replica's: what is tried is tried with it."""

BUILDER_SLOT, CLOSED_BUILDER_SLOT = SLOTS - 2, SLOTS - 1
"""No replica's: builds have their users. The second reaches package indexes and nothing else."""

FIRST_USER = 2_000_000_000
NAMED = (Path("/etc/passwd"), Path("/etc/group"))
DELEGATED = (Path("/etc/subuid"), Path("/etc/subgid"))


class NoClaim(OSError):
    """No block could be claimed; `str()` says why."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(slots=True, kw_only=True)
class Claim:
    """A block, and which of its slots are in use. Slots go round, so that one is used again as late as can be."""

    block: int
    file: Path
    _taken: set[int] = field(default_factory=set)
    _last: int = field(default_factory=lambda: secrets.randbelow(BUILDER_SLOT))

    def take(self) -> int:
        """A slot that no replica has. Raises NoClaim where all are taken."""
        for step in range(1, BUILDER_SLOT):
            slot = (self._last + step - 1) % (BUILDER_SLOT - 1) + 1  # past the trial's, before the builders'
            if slot not in self._taken:
                self._last = slot
                self._taken.add(slot)
                return slot
        raise NoClaim(f"all {BUILDER_SLOT - 1} users of this site are taken")

    def keep(self, slot: int) -> None:
        """Count a slot as taken: a replica of an earlier runner has it."""
        self._taken.add(slot)

    def give_back(self, slot: int) -> None:
        """The replica that had it is gone."""
        self._taken.discard(slot)

    def user(self, slot: int) -> int:
        """The user, and group, of a slot."""
        return FIRST_USER + self.block * network.SIZE + slot

    def slot(self, user: int) -> int | None:
        """The slot of a user; None where it is not of this block."""
        slot = user - FIRST_USER - self.block * network.SIZE
        return slot if 0 < slot < SLOTS else None

    def release(self) -> bool:
        """Give the block back: nothing of this installation runs any more. Whether it was the machine's last."""
        self.file.unlink(missing_ok=True)
        return not any(FOLDER.iterdir())


@contextmanager
def alone() -> Iterator[None]:
    """Within the block no other installation comes or leaves: they share what the first to come sets up."""
    folder = os.open(FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def claim(home: Path, preferred: int) -> Claim:
    """The block that is this home's already, or a free one. Raises NoClaim."""
    if os.getuid() != 0:
        raise NoClaim("only root can do this: run the agent as root")
    try:
        FOLDER.mkdir(mode=0o755, exist_ok=True)
        for block in _order(home, preferred):
            if _ours(FOLDER / str(block), home) and not _is_named(block):
                return Claim(block=block, file=FOLDER / str(block))
    except OSError as error:
        raise NoClaim(f"{FOLDER} cannot be used: {error.strerror}") from error
    raise NoClaim(f"all {BLOCKS} blocks of users are taken: see {FOLDER}")


def _order(home: Path, preferred: int) -> Iterator[int]:
    """Blocks to try: what is ours already, then from the preferred one on."""
    for file in FOLDER.iterdir():
        if file.name.isdigit() and int(file.name) < BLOCKS and _text(file) == str(home):
            yield int(file.name)
    yield from ((preferred + step) % BLOCKS for step in range(BLOCKS))


def _ours(file: Path, home: Path) -> bool:
    """Whether the block of this file is ours now."""
    owner = _text(file)
    if owner and owner != str(home) and not Path(owner).exists():
        file.unlink(missing_ok=True)
    try:
        with file.open("x") as claimed:
            claimed.write(str(home))
    except FileExistsError:
        return _text(file) == str(home)
    return True


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _is_named(block: int) -> bool:
    """Whether the machine uses a number of the block for somebody else."""
    first, last = FIRST_USER + block * network.SIZE, FIRST_USER + (block + 1) * network.SIZE - 1
    named = ((number, 1) for file in NAMED for number in _numbers(file, 2))
    delegated = (pair for file in DELEGATED for pair in zip(_numbers(file, 1), _numbers(file, 2), strict=True))
    return any(start <= last and start + count > first for start, count in (*named, *delegated))


def _numbers(file: Path, column: int) -> list[int]:
    rows = [line.split(":") for line in _text(file).splitlines()]
    return [int(row[column]) for row in rows if len(row) > column and row[column].isdigit()]
