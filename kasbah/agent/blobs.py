"""The site's source bundles, by digest: what is stored here is whole and is what its name says.

A bundle is verified as it arrives, in pieces and off the event loop: its digest is that of the unpacked tar
(`api/bundle.py`), so it is unpacked in memory, a piece at a time, while the compressed bytes are written. It gets its
name once it has proved right and is on the disk; until then it is a partial file, removed when the upload ends badly
and, where the agent was killed, at the next start. How long an upload may take is the caller's to bound.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from kasbah.agent.paths import Paths
from kasbah.api.bundle import LARGEST_UNPACKED
from kasbah.domain.ids import Digest
from kasbah.errors import Invalid, TooLarge, Unavailable
from kasbah.settings import Limits

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PARTIAL = ".partial-"
SUFFIX = ".tar.gz"
PIECE = 2**20
"""Bytes gathered before a thread is asked to write them: a hop costs more than a small write."""
GZIP = 31
"""zlib's name for the gzip format."""

Result = TypeVar("Result")


class BlobStore:
    """The bundles in `paths.blobs`. One agent owns the folder."""

    def __init__(self, paths: Paths, limits: Limits) -> None:
        self._folder = paths.blobs
        self._limits = limits
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob(f"{PARTIAL}*"):
            leftover.unlink(missing_ok=True)

    def has(self, digest: Digest) -> bool:
        """Whether the bundle is here, whole."""
        return self.path(digest).exists()

    def renew(self, digest: Digest) -> bool:
        """Whether the bundle is here; it counts as having arrived now, since somebody is about to rely on it."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def path(self, digest: Digest) -> Path:
        """Where the bundle is, or would be. Raises Invalid where `digest` is none."""
        if not DIGEST.fullmatch(digest):
            raise Invalid(f"{digest[:100]!r} is no digest", hint="a digest is sha256: and 64 hexadecimal digits")
        return self._folder / f"{digest.removeprefix('sha256:')}{SUFFIX}"

    async def put(self, digest: Digest, chunks: AsyncIterator[bytes], *, limit: int) -> bool:
        """Store the bundle that `chunks` carry; False where it was here already and nothing was read.

        Raises TooLarge past `limit` compressed bytes, Invalid where it is not `digest`, Unavailable on a full disk.
        """
        wanted = self.path(digest)
        if self.renew(digest):
            return False
        limit = min(limit, self._limits.source_bytes)
        with _Arriving(self._folder) as arriving:
            async for piece in _pieces(chunks):
                if arriving.length + len(piece) > limit:
                    raise TooLarge(
                        f"the source is larger than {limit:,} bytes, compressed",
                        hint="name what the app does not need in .kasbahignore",
                    )
                await _in_thread(partial(arriving.add, piece))
            await _in_thread(arriving.settle)
            _check(digest, arriving)
            await _in_thread(partial(arriving.keep, wanted))
        return True

    def digests(self) -> frozenset[Digest]:
        """What is here."""
        return frozenset(map(digest_of, stored(self._folder)))

    def size(self) -> int:
        """The bytes all bundles take."""
        return sum(path.stat().st_size for path in stored(self._folder))


def stored(folder: Path) -> list[Path]:
    """The bundles in a store's folder."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def digest_of(path: Path) -> Digest:
    """The digest of the bundle that is kept there."""
    return Digest(f"sha256:{path.name.removesuffix(SUFFIX)}")


class _Arriving:
    """A bundle being received: a partial file, and what is known of it so far."""

    def __init__(self, folder: Path) -> None:
        try:
            handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=folder)
        except OSError as error:
            raise _storage_error(error) from error
        self.length = 0
        self._path = Path(name)
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._unzip = zlib.decompressobj(GZIP)
        self._hash = hashlib.sha256()
        self._unpacked = 0

    def __enter__(self) -> _Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk refuses the rest once more; what matters was settled before
            self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def complete(self) -> bool:
        """Whether the stream has ended where it says it does."""
        return self._unzip.eof and not self._unzip.unused_data

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def add(self, piece: bytes) -> None:
        """Write a piece, and unpack it to know what it holds."""
        self._file.write(piece)
        self.length += len(piece)
        while piece and not self._unzip.eof:  # PIECE at a time: a megabyte may unpack to a gigabyte
            data = self._unzip.decompress(piece, PIECE)
            piece = self._unzip.unconsumed_tail
            self._hash.update(data)
            self._unpacked += len(data)
            if self._unpacked > LARGEST_UNPACKED:
                raise TooLarge(f"the source is larger than {LARGEST_UNPACKED:,} bytes unpacked")

    def settle(self) -> None:
        """See to it that all pieces are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def keep(self, path: Path) -> None:
        """Give it its name, for good."""
        self._path.replace(path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Let a thread do it, and leave only once it has ended: what it works on is closed right after."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
    except zlib.error as error:
        raise Invalid(f"the source bundle is damaged: {error}", hint="send it again") from error
    except OSError as error:
        raise _storage_error(error) from error


def _check(digest: Digest, arriving: _Arriving) -> None:
    if not arriving.complete:
        raise Invalid("the source bundle is cut short, or something follows it", hint="send it again")
    if arriving.digest != digest:
        raise Invalid(f"what was sent is {arriving.digest}, not {digest}", hint="deploy again", code="digest_mismatch")


def _storage_error(error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("the site has no space left for this source", hint="free some disk space at the site")
    return Unavailable(f"the site cannot store this source: {error.strerror or error}")
