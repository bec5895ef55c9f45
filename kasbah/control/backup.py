"""A backup of the control plane in one file, and the way back: everything it knows, and no key.

The file is a tar of the database, as it stood at one moment, and a manifest that says whose it is. The keys beside the
database (`*.key`) are not in it, so that a stolen backup opens nothing; their fingerprints are, so that a restore finds
out before it changes anything that it has the right ones.

A restore raises the epoch. Sites take what has a higher epoch though its generation is lower, so that they go back to
what the backup says. What it replaced is kept aside.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from kasbah.control.folder import Folder
from kasbah.control.store.migrate import HEAD, KNOWN
from kasbah.errors import Conflict, Invalid, NotFound, Unavailable

FORMAT = 1
MANIFEST, DATABASE = "manifest.json", "kasbah.db"
LARGEST_MANIFEST = 64 * 1024
PIECE = 2**20
KEY_FILE = re.compile(r"[a-z][a-z-]*\.key")
DAMAGED = (
    *(tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError),
    *(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
)
"""What reading a file that is no backup, or half of one, raises."""
BUSY_SECONDS = 10.0

WITHOUT = {
    "signing.key": "no site trusts this control plane",
    "secrets.key": "no secret opens",
    "ca.key": "no site that joined can dial in",
    "audit.key": "nobody can tell that the audit log goes on",
}
MADE_AGAIN = frozenset({"tls.key"})
"""Keys that no restore needs: another is made at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself. `keys` holds the fingerprints of the keys it needs, by the name of their file."""

    format: int
    installation: str
    epoch: int
    schema: str
    created_at: str
    sha256: str
    keys: dict[str, str]


def back_up(folder: Folder, file: Path, now: datetime) -> Manifest:
    """Write a backup of the control plane of `folder`, which may run meanwhile. Raises Conflict where there is a file
    of that name already."""
    if not folder.database.exists():
        raise NotFound(
            f"{folder.database} does not exist: there is nothing to back up",
            hint="name the data folder with --data-dir; a database given by its URL is backed up by its owner",
        )
    if file.exists():
        raise Conflict(f"{file} exists already", hint="choose another name: a backup overwrites nothing")
    copy, fresh = file.with_name(f".{file.name}.db"), file.with_name(f".{file.name}.new")
    try:
        with _readable("backed up", folder.database):
            copy.touch(mode=0o600)
            with _open(folder.database) as source, _open(copy) as target:
                source.backup(target)
            manifest = _describe(copy, folder, now)
            _pack(fresh, copy, manifest)
        os.link(fresh, file)
    except FileExistsError:
        raise Conflict(f"{file} exists already", hint="choose another name: a backup overwrites nothing") from None
    except OSError as error:
        raise Unavailable(
            f"{file} cannot be written: {error.strerror}", hint="choose a folder that exists and has room"
        ) from error
    finally:
        for path in (copy, fresh):
            path.unlink(missing_ok=True)
    return manifest


def restore(folder: Folder, file: Path, now: datetime) -> tuple[Manifest, int]:
    """Put the database of a backup in the place of the one in `folder`; the backup's manifest and the new epoch.

    Raises Conflict where a control plane runs there, or where the backup is another installation's or a newer
    version's, and Invalid where it is damaged. Then nothing has changed."""
    folder.make()
    with folder.held():
        fresh = folder.root / f".{DATABASE}.restored"
        try:
            manifest = _unpack(file, fresh)
            _check(folder, manifest)
            epoch = _raise_epoch(folder, fresh, manifest, now)
            _replace(folder, fresh, now)
        except OSError as error:
            raise Unavailable(
                f"{folder.root} cannot be written: {error.strerror}", hint="see that the disk has room, and try again"
            ) from error
        finally:
            fresh.unlink(missing_ok=True)
    return manifest, epoch


# --- writing ----------------------------------------------------------------------------------------------------------


def _describe(copy: Path, folder: Folder, now: datetime) -> Manifest:
    installation, epoch = _identity(copy)
    return Manifest(
        format=FORMAT,
        installation=installation,
        epoch=epoch,
        schema=_schema(copy),
        created_at=now.isoformat(),
        sha256=_digest(copy),
        keys={
            path.name: _fingerprint(path) for path in sorted(folder.root.glob("*.key")) if path.name not in MADE_AGAIN
        },
    )


def _pack(fresh: Path, copy: Path, manifest: Manifest) -> None:
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as tar:
            text = json.dumps(asdict(manifest), indent=1).encode()
            tar.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
            with copy.open("rb") as database:
                tar.addfile(_member(DATABASE, copy.stat().st_size), database)
        out.flush()
        os.fsync(out.fileno())


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


# --- reading ----------------------------------------------------------------------------------------------------------


def _unpack(file: Path, fresh: Path) -> Manifest:
    """Write the backup's database to `fresh`, once its manifest is read and its digest is right."""
    try:
        with tarfile.open(file, "r:gz") as tar:
            manifest = _read_manifest(_member_of(tar, MANIFEST).read(LARGEST_MANIFEST))
            digest = hashlib.sha256()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                for piece in _pieces(_member_of(tar, DATABASE)):
                    digest.update(piece)
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
    except FileNotFoundError:
        raise NotFound(f"{file} does not exist", hint="name a file that `kasbah backup` wrote") from None
    except DAMAGED as error:
        raise Invalid(
            f"{file} is no backup of Kasbah, or is damaged: {error}",
            hint="name a file that `kasbah backup` wrote; nothing here has changed",
            code="bad_backup",
        ) from error
    if digest.hexdigest() != manifest.sha256:
        raise Invalid(f"{file} is damaged: its database is not the one its manifest names", code="bad_backup")
    return manifest


def _of_its_kind(found: dict[str, Any]) -> bool:
    """Whether each field holds what it should: it is a file that anybody may have written."""
    keys = found["keys"]
    return (
        all(isinstance(found[name], str) for name in ("installation", "schema", "created_at", "sha256"))
        and all(type(found[name]) is int and 0 <= found[name] < 2**53 for name in ("format", "epoch"))
        and isinstance(keys, dict)
        and all(KEY_FILE.fullmatch(name) and isinstance(mark, str) for name, mark in keys.items())
    )


def _read_manifest(text: bytes) -> Manifest:
    found = json.loads(text)
    if int(found["format"]) > FORMAT:
        raise Conflict(
            f"the backup was written by a newer version of Kasbah (format {found['format']}, this one knows {FORMAT})",
            hint="restore it with that version",
            code="backup_newer",
        )
    if not _of_its_kind(found):
        raise ValueError("its manifest is not one of ours")
    return Manifest(**{name: found[name] for name in Manifest.__dataclass_fields__})


def _member_of(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    """A member's bytes; never is anything of a tar written where its own names say."""
    found = tar.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


# --- may it be restored here? -----------------------------------------------------------------------------------------


def _check(folder: Folder, manifest: Manifest) -> None:
    if manifest.schema not in KNOWN:
        raise Conflict(
            f"the backup was made by a newer version of Kasbah (its tables are at {manifest.schema}, ours at {HEAD})",
            hint="a restore is no downgrade: install that version, and restore with it",
            code="backup_newer",
        )
    known = _current(folder)
    if known is not None and known[0] != manifest.installation:
        raise Conflict(
            f"the backup is of installation {manifest.installation}, and {folder.data_dir} belongs to {known[0]}",
            hint="name the right data folder with --data-dir, or an empty one",
            code="another_installation",
        )
    needed = {name: mark for name, mark in manifest.keys.items() if name not in MADE_AGAIN}
    if missing := [name for name in needed if not (folder.root / name).exists()]:
        without = "; ".join(f"without {name} {WITHOUT.get(name, 'something does not open')}" for name in missing)
        raise Conflict(
            f"{folder.root} lacks keys that no backup holds: {without}",
            hint=f"put {', '.join(missing)} of installation {manifest.installation} there (mode 0600), and restore "
            "again",
            code="key_missing",
        )
    for name, fingerprint in needed.items():
        _check_key(folder.root / name, fingerprint, manifest)


def _check_key(path: Path, fingerprint: str, manifest: Manifest) -> None:
    if _fingerprint(path) != fingerprint:
        raise Conflict(
            f"{path} is not the key of installation {manifest.installation}, whose backup this is",
            hint="name the right data folder with --data-dir, or put the right key there",
            code="another_installation",
        )


def _current(folder: Folder) -> tuple[str, int] | None:
    """The installation and epoch of the database that is there; None where none is, or none that can be read: then
    the keys say whose folder it is."""
    if not folder.database.exists():
        return None
    with suppress(sqlite3.Error, LookupError):
        return _identity(folder.database)
    return None


# --- putting it in place ----------------------------------------------------------------------------------------------


def _raise_epoch(folder: Folder, fresh: Path, manifest: Manifest, now: datetime) -> int:
    """Above every epoch that a site may have seen. Where the database that knew the last one is lost, there may have
    been restores that nobody here knows of: the time in seconds is above all of theirs."""
    current = _current(folder)
    epoch = max(manifest.epoch, current[1]) + 1 if current else max(manifest.epoch + 1, int(now.timestamp()))
    try:
        with _open(fresh) as database, database:
            (found,) = database.execute("PRAGMA quick_check").fetchone()
            if found != "ok" or _identity_of(database) != (manifest.installation, manifest.epoch):
                raise sqlite3.DatabaseError(found)
            database.execute("UPDATE installation SET epoch = ?", (epoch,))
    except (sqlite3.Error, LookupError) as error:
        raise Invalid(f"the backup is damaged: its database cannot be read ({error})", code="bad_backup") from error
    return epoch


def _replace(folder: Folder, fresh: Path, now: datetime) -> None:
    """Each step leaves a database that opens: the old one, all its changes in its one file, or the new one."""
    aside = folder.root / "backups"
    aside.mkdir(mode=0o700, exist_ok=True)
    kept = aside / f"replaced-{now:%Y%m%dT%H%M%S%f}.db"
    if folder.database.exists():
        with suppress(sqlite3.Error), _open(folder.database) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.link(folder.database, kept)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{folder.database}{suffix}", f"{kept}{suffix}")
    os.replace(fresh, folder.database)
    directory = os.open(folder.root, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# --- the database -----------------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as database:
        yield database


@contextmanager
def _readable(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, LookupError) as error:
        raise Unavailable(
            f"{path} cannot be {what}: {error}",
            hint="see that the disk has room, and that a control plane has run here",
        ) from error


def _identity(path: Path) -> tuple[str, int]:
    with _open(path) as database:
        return _identity_of(database)


def _identity_of(database: sqlite3.Connection) -> tuple[str, int]:
    """Raises LookupError where no installation was made in it yet."""
    row = database.execute("SELECT id, epoch FROM installation").fetchone()
    if row is None:
        raise LookupError("it holds no installation")
    return str(row[0]), int(row[1])


def _schema(path: Path) -> str:
    with _open(path) as database:
        row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise LookupError("its tables have no version")
    return str(row[0])


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _fingerprint(path: Path) -> str:
    """Tells a key from another, and says nothing of it."""
    return hashlib.sha256(b"kasbah key fingerprint v1\n" + path.read_bytes()).hexdigest()[:32]
