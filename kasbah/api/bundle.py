"""A source bundle: a folder as one file that is the same wherever and whenever it is made.

`pack` writes a normalised tar (names sorted; no times, no owners; modes 0644 or 0755) and compresses it; the digest is
that of the tar, so that the compression may change. `unpack` trusts nothing: it verifies the digest on the way,
writes inside one new folder only, creates links last, and gives up at its limits. `ignore.py` says what travels.

Both stream: memory does not grow with the source. Both block, so an event loop calls them in a thread.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import heapq
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from kasbah.api.ignore import travelling
from kasbah.domain.ids import Digest
from kasbah.errors import Conflict, Invalid, KasbahError, TooLarge, Unavailable

CHUNK = 256 * 2**10
MOST_FILES = 200_000
LARGEST_UNPACKED = 8 * 2**30
"""The largest source, unpacked: above any that can be sent, below what fills a disk."""
DEEPEST = 100
"""Folders inside each other: removing a tree takes a call for each level, and Python has a thousand."""
LARGEST_HEADER = 2**20
"""tarfile reads a header's extension into memory in one piece; no name or link is longer than this."""
COMPRESSION = 1
"""The site is near and the user waits: speed over size."""
DAMAGED = (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, ValueError, OverflowError, RecursionError)
"""What reading a damaged or hostile archive raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A packed source. `path` is a temporary file that the caller removes; `size` is its length.

    `largest` are the largest files with their sizes; `skipped` are the sockets, pipes and devices left out.
    """

    digest: Digest
    path: Path
    size: int
    size_uncompressed: int
    files: int
    largest: tuple[tuple[str, int], ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is packed under one name: a file's mode and size, or a link's target."""

    name: str
    executable: bool = False
    size: int = 0
    target: str | None = None


def pack(folder: Path, *, may_be_empty: bool = False) -> Bundle:
    """The source in `folder`, packed into a temporary file. Raises Invalid where it cannot be, naming the file.

    `may_be_empty`: the command needs no file of its own.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise Invalid(f"the source folder {folder} {problem}", hint="`source:` is relative to kasbah.yaml")
    entries, skipped = _survey(folder)
    if not entries and not may_be_empty:
        raise Invalid(
            f"{folder} has nothing to deploy",
            hint="add the app's files, or check what .kasbahignore or .gitignore names",
        )
    handle, name = tempfile.mkstemp(prefix="kasbah-source-", suffix=".tar.gz")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as zipped:
            digest, length = _write_tar(folder, entries, zipped)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Bundle(
        digest=digest,
        path=path,
        size=path.stat().st_size,
        size_uncompressed=length,
        files=len(entries),
        largest=tuple((one.name, one.size) for one in heapq.nlargest(5, entries, key=lambda one: one.size)),
        skipped=skipped,
    )


def _survey(folder: Path) -> tuple[list[_Entry], tuple[str, ...]]:
    entries: list[_Entry] = []
    skipped: list[str] = []
    top = os.path.realpath(folder)
    for name in sorted(travelling(folder)):
        if name.count("/") >= DEEPEST:
            raise Invalid(f"{name[:100]} is more than {DEEPEST} folders deep", hint="name it in .kasbahignore")
        entry = _look_at(folder, top, name)
        if entry is None:
            skipped.append(name)
            continue
        entries.append(entry)
        if len(entries) > MOST_FILES:
            raise Invalid(
                f"{folder} has more than {MOST_FILES:,} files to send",
                hint="name what is not needed in .kasbahignore",
            )
    return entries, tuple(skipped)


def _look_at(folder: Path, top: str, name: str) -> _Entry | None:
    path = folder / name
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return _Entry(name, target=_inside(top, path))
    except OSError as error:
        raise Invalid(f"cannot read {name}: {error.strerror}", hint="make it readable, or ignore it") from error
    if not stat.S_ISREG(found.st_mode):
        return None
    return _Entry(name, executable=bool(found.st_mode & 0o111), size=found.st_size)


def _inside(top: str, link: Path) -> str:
    """The target of `link`, which must be relative and stay below `top`."""
    target = os.readlink(link)
    if os.path.isabs(target) or not _below(top, os.path.realpath(link)):
        raise Invalid(
            f"{os.path.relpath(link, top)} is a link to {target}, which is outside the source folder or absolute",
            hint="copy what it points to into the folder, or name the link in .kasbahignore",
        )
    return target


def _below(top: str, path: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _write_tar(folder: Path, entries: Iterable[_Entry], out: gzip.GzipFile) -> tuple[Digest, int]:
    hashed = _Hashed(out)
    with tarfile.open(fileobj=cast("IO[bytes]", hashed), mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            header = tarfile.TarInfo(entry.name)
            header.mode = 0o755 if entry.executable else 0o644
            if entry.target is not None:
                header.type, header.linkname = tarfile.SYMTYPE, entry.target
                tar.addfile(header)
                continue
            header.size = entry.size
            _add_file(tar, header, folder / entry.name)
    return Digest(f"sha256:{hashed.hash.hexdigest()}"), hashed.length


def _add_file(tar: tarfile.TarFile, header: tarfile.TarInfo, path: Path) -> None:
    changed = f"{header.name} changed while it was being packed"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid(f"cannot read {header.name}: {error.strerror}", hint="make it readable, or ignore it") from error
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_size != header.size:
            raise Invalid(changed, hint="deploy again once nothing writes to it, or ignore it")
        try:
            tar.addfile(header, file)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the file ended early
                raise Invalid(changed, hint="deploy again once nothing writes to it, or ignore it") from error
            raise _storage_error(error, path) from error


class _Hashed:
    """Passes on what is written, and knows its hash and length."""

    def __init__(self, out: gzip.GzipFile) -> None:
        self.hash = hashlib.sha256()
        self.length = 0
        self._out = out

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.length += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self.length


def unpack(bundle: Path, into: Path, *, limit_bytes: int, expected: Digest) -> int:
    """Write the source in `bundle` into the new folder `into`; the number of files. `into` appears whole or not at all.

    Raises Invalid where the bundle is damaged, is not `expected`, or would write outside; TooLarge past a limit.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    try:
        with _damage_named(work):
            count = _extract(bundle, work, limit_bytes, expected)
            work.chmod(0o755)
            work.rename(into)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return count


@contextmanager
def _damage_named(work: Path) -> Iterator[None]:
    """Turn what reading and writing raise into our own errors."""
    try:
        yield
    except DAMAGED as error:
        raise Invalid(f"the source bundle is damaged: {error}", hint="send it again") from error
    except OSError as error:
        raise _storage_error(error, work) from error


def _extract(bundle: Path, work: Path, limit_bytes: int, expected: Digest) -> int:
    links: list[tuple[Path, str]] = []
    folders: set[Path] = {work}
    count = 0
    with gzip.open(bundle, "rb") as zipped:
        reader = _Measured(cast("IO[bytes]", zipped), limit_bytes)
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as tar:
            while (member := tar.next()) is not None:
                cast("Any", tar).members.clear()  # tarfile keeps every header it has read
                count += 1
                if count + len(folders) > 2 * MOST_FILES or count > MOST_FILES:
                    raise TooLarge(f"the source has more than {MOST_FILES:,} files")
                _extract_one(tar, member, work, links, folders)
        reader.drain()
    if reader.digest != expected:
        raise Invalid(f"the source is {reader.digest}, not {expected}", hint="deploy again", code="digest_mismatch")
    _make_links(work, links)
    return count


def _extract_one(
    tar: tarfile.TarFile, member: tarfile.TarInfo, work: Path, links: list[tuple[Path, str]], folders: set[Path]
) -> None:
    path = work / _safe_name(member.name)
    _make_folder(path if member.isdir() else path.parent, member.name, folders)
    if member.isdir():
        return
    if member.issym():
        if not member.linkname:
            raise Invalid(f"{member.name!r} is a link to nothing")
        links.append((path, member.linkname))
    elif member.isreg() and not member.issparse():
        _write_file(tar, member, path)
    else:
        raise Invalid(f"{member.name!r} is neither a file, a folder nor a symbolic link")


def _make_folder(path: Path, name: str, folders: set[Path]) -> None:
    """Make a folder and those above it that are not made yet; `folders` holds all that are, for they count as well."""
    missing = []
    while path not in folders:
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        try:
            one.mkdir()
        except (FileExistsError, NotADirectoryError) as error:
            raise Invalid(f"{name!r} is below, or is, something that is no folder") from error
        folders.add(one)


def _safe_name(name: str) -> str:
    parts = PurePosixPath(name).parts
    if len(parts) > DEEPEST:
        raise Invalid(f"{name[:100]!r} is more than {DEEPEST} folders deep")
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise Invalid(f"{name!r} would be written outside the source folder")
    return name


def _write_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise Invalid(f"{member.name!r} has no contents")
    mode = 0o755 if member.mode & 0o111 else 0o644
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise Invalid(f"{member.name!r} is in the source twice") from error
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
        os.fchmod(handle, mode)  # whatever the umask is
        if file.tell() != member.size:
            raise EOFError(f"{member.name!r} ends early")


def _make_links(work: Path, links: list[tuple[Path, str]]) -> None:
    """Links come after all files, so that none is ever written through."""
    for path, target in links:
        try:
            path.symlink_to(target)
        except FileExistsError as error:
            raise Invalid(f"{path.relative_to(work)} is in the source twice") from error
    top = os.path.realpath(work)
    for path, target in links:
        if os.path.isabs(target) or not _below(top, os.path.realpath(path)):
            raise Invalid(f"{path.relative_to(work)} is a link that leaves the source folder")


class _Measured:
    """Reads a stream forward only, hashing everything, and stops at a limit: a small bundle may unpack to anything."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._limit = limit
        self._hash = hashlib.sha256()
        self._at = 0

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def read(self, size: int) -> bytes:
        if size > LARGEST_HEADER:
            raise Invalid("the source bundle has a header that is far too long")
        data = self._source.read(size)
        self._hash.update(data)
        self._at += len(data)
        if self._at > self._limit:
            raise TooLarge(
                f"the source is larger than {self._limit:,} bytes unpacked", hint="ignore what the app does not need"
            )
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> int:
        while self._at < position and self.read(min(CHUNK, position - self._at)):
            pass
        if self._at != position:
            raise tarfile.ReadError("the archive ends early")
        return self._at

    def drain(self) -> None:
        """Read to the end: the digest is that of everything."""
        while self.read(CHUNK):
            pass


def _storage_error(error: OSError, where: Path) -> KasbahError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"no space left for the source in {where.parent}", hint="free some disk space")
    if error.errno == errno.ENAMETOOLONG:
        return Invalid("a file name in the source is too long for this machine", hint="shorten it")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        return Conflict(f"{where.parent} already holds this source")
    return Unavailable(f"cannot store the source in {where.parent}: {error.strerror or error}")
