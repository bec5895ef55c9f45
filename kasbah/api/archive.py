"""A tar that has one spelling: what is in it decides every byte. So each byte that is changed is found, and where.

Plain files only, owned by nobody, of no time. Any tar program reads it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

BLOCK = 512
END = bytes(2 * BLOCK)
LARGEST = 32 * 2**20


class Damaged(Exception):
    """It is not as it was written, at `where`."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


def pack(files: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The archive of these files, piece by piece."""
    for name, data in files:
        yield _header(name, len(data))
        yield data + bytes(-len(data) % BLOCK)
    yield END


class Reader:
    """Reads an archive whose files come in the order that is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._place = 0

    def take(self, name: str) -> bytes:
        """The next file, which has to be this one. Raises Damaged where it is not, or is not whole."""
        start = self._place
        header = self._read(BLOCK)
        size = _size(header)
        if size is None or header != _header(name, size):
            raise Damaged(f"{name}, byte {start} and on", f"the archive has no sound header of {name} there")
        data = self._read(size)
        padding = self._read(-size % BLOCK)
        if len(data) < size or len(padding) < -size % BLOCK:
            raise Damaged(name, "the archive ends in it")
        if any(padding):
            raise Damaged(f"after {name}, byte {start + BLOCK + size} and on", "there is something behind the file")
        return data

    def end(self) -> None:
        """See that nothing follows. Raises Damaged where something does."""
        start = self._place
        if self._read(len(END) + 1) != END:
            raise Damaged(f"byte {start} and on", "the archive does not end as it should")

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._place += len(data)
        return data


def _header(name: str, size: int) -> bytes:
    """The header that a file of this name and size has."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member.tobuf(tarfile.USTAR_FORMAT)


def _size(header: bytes) -> int | None:
    """The size that a header names; None where it names none."""
    digits = header[124:136].rstrip(b"\0 ")
    if not digits or not digits.isdigit() or not set(digits) <= set(b"01234567"):
        return None
    size = int(digits, 8)
    return size if size <= LARGEST else None
