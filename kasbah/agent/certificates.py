"""The certificates of this site: read from files, renewed when these change, the last good ones kept.

The folder holds pairs, `NAME.crt` (the certificate, then those that vouch for it) and `NAME.key`, both PEM. Which of
them serve which hosts is decided in `decide/certificates.py`; the gateway has the last word, on trying. What serves is
copied into the data folder, so that a file that was spoilt while nobody looked takes nothing away at the next start.

Keys are read, handed to the gateway and kept in a private folder; they are in no log, error or status.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import structlog

from kasbah.agent.pem import CertificateError, read_pair
from kasbah.clock import Clock
from kasbah.decide.certificates import Choice, choose
from kasbah.domain.certificate import Certificate

log = structlog.get_logger()

MOST_FILES = 500
LARGEST_FILE = 2**20
UNREADABLE = "it is no PEM certificate with its key beside it"
Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate's chain and its key, as PEM."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """Of both."""
        return hashlib.sha256(self.chain + b"\0" + self.key).hexdigest()


Serve = Callable[[Mapping[str, Pair]], Awaitable[None]]
"""Has the gateway serve these hosts. Raises `Refused` where it will not."""


class Refused(Exception):
    """The gateway refuses a certificate; what served before goes on."""


class Certificates:
    """See the module. `notes` say what its owner should look after."""

    def __init__(self, folder: Path, kept: Path, clock: Clock) -> None:
        self.notes: tuple[str, ...] = ()
        self.hosts: frozenset[str] = frozenset()
        self._folder = folder
        self._clock = clock
        self._store = _Kept(kept)
        self._read_before: dict[str, tuple[object, Certificate]] = {}
        self._pairs: dict[str, Pair] = {}
        self._refused: dict[str, str] = {}
        self._kept: tuple[Certificate, ...] | None = None
        self._stored: tuple[Certificate, ...] | None = None
        self._served: dict[str, str] = {}

    async def renew(self, serve: Serve) -> bool:
        """Look at the files, and have the gateway serve what is good; whether the hosts that have a certificate
        changed, or what must be said of them."""
        before = (self.hosts, self.notes)
        if self._kept is None:
            self._kept = await asyncio.to_thread(self._recall)
        found, warnings = await asyncio.to_thread(self._look)
        choice = self._choose(found)
        while not await self._serve(choice, serve):
            choice = self._choose(found)
        self.hosts = frozenset(choice.hosts)
        unkept = await asyncio.to_thread(self._keep, choice)
        self._tell((*choice.notes, *warnings, *unkept))
        return (self.hosts, self.notes) != before

    def _choose(self, found: tuple[Certificate, ...]) -> Choice:
        """What serves, but for what the gateway has refused."""
        tried = [
            replace(one, problem=f"the gateway refuses it ({self._refused[one.digest]}): have another issued")
            if one.digest in self._refused
            else one
            for one in found
        ]
        return choose(tried, self._kept or (), self._clock.now())

    async def _serve(self, choice: Choice, serve: Serve) -> bool:
        """Hand the gateway what changed, a certificate at a time; whether it took them all."""
        changed: dict[str, list[str]] = {}
        for host, one in choice.hosts.items():
            if self._served.get(host) != one.digest:
                changed.setdefault(one.digest, []).append(host)
        for digest, hosts in changed.items():
            try:
                await serve(dict.fromkeys(hosts, self._pairs[digest]))
            except Refused as refused:
                self._refused[digest] = str(refused)
                return False
            self._served |= dict.fromkeys(hosts, digest)
        self._served = {host: digest for host, digest in self._served.items() if host in choice.hosts}
        return True

    def _tell(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self.notes:
                log.warning("certificate", note=note)
        self.notes = notes

    # --- files ----------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[tuple[Certificate, ...], tuple[str, ...]]:
        """What the folder holds now, and what must be said of the files themselves. A folder that cannot be read takes
        nothing away."""
        try:
            names = _pairs_in(self._folder)
        except OSError as error:
            note = f"{self._folder} cannot be read ({error.strerror}): make it, readable by Kasbah, for certificates"
            return self._kept or (), (note,)
        warnings = [f"{self._folder} holds more than {MOST_FILES} certificates: only the first count"]
        warnings = warnings if len(names) > MOST_FILES else []
        names = names[:MOST_FILES]
        self._read_before = {name: known for name, known in self._read_before.items() if name in names}
        return tuple(map(self._one, names)), (*warnings, *filter(None, map(self._open_to_others, names)))

    def _one(self, name: str) -> Certificate:
        """A file's certificate; read again only when one of the two files changed."""
        crt, key = (self._folder / f"{name}{ending}" for ending in (".crt", ".key"))
        stamp = (_stamp(crt), _stamp(key))
        known = self._read_before.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            pair = Pair(_contents(crt), _contents(key))
            found = replace(read_pair(name, pair.chain, pair.key), digest=pair.digest)
            self._pairs[pair.digest] = pair
        except CertificateError as error:
            found = Certificate(file=name, problem=str(error))
        self._read_before[name] = (stamp, found)
        return found

    def _open_to_others(self, name: str) -> str:
        key = self._folder / f"{name}.key"
        with contextlib.suppress(OSError):
            mode = key.stat().st_mode
            if mode & 0o077:
                return f"{name}.key can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {key}"
        return ""

    def _recall(self) -> tuple[Certificate, ...]:
        """The last good ones of an earlier agent."""
        found = []
        for file, pair in self._store.read():
            with contextlib.suppress(CertificateError):
                found.append(replace(read_pair(file, pair.chain, pair.key), digest=pair.digest))
                self._pairs[pair.digest] = pair
        return tuple(found)

    def _keep(self, choice: Choice) -> tuple[str, ...]:
        """Keep the last good ones, and forget the rest; what must be said where that fails: the next pass tries
        again."""
        wanted = {one.digest for one in choice.kept}
        self._kept = choice.kept
        failed: tuple[str, ...] = ()
        if self._stored != choice.kept:
            try:
                self._store.write({one.file: self._pairs[one.digest] for one in choice.kept})
                self._stored = choice.kept
            except OSError as error:
                failed = (f"certificates serve, but are not kept for the next start ({error.strerror}): free the disk",)
        seen = wanted | {one.digest for _, one in self._read_before.values()}
        self._pairs = {digest: pair for digest, pair in self._pairs.items() if digest in seen}
        self._refused = {digest: why for digest, why in self._refused.items() if digest in seen}
        return failed


class _Kept:
    """The last good pairs, a private file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> list[tuple[str, Pair]]:
        """What was kept; a file that cannot be read is as if it were not there."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                kept = json.loads(path.read_text())
                found.append((kept["file"], Pair(kept["chain"].encode(), kept["key"].encode())))
        return found

    def write(self, pairs: Mapping[str, Pair]) -> None:
        """Keep these and no others."""
        names = {self._name(file): (file, pair) for file, pair in pairs.items()}
        for path in self._folder.glob("*.json"):
            if path.name not in names:
                path.unlink(missing_ok=True)
        for name, (file, pair) in names.items():
            text = json.dumps({"file": file, "chain": pair.chain.decode(), "key": pair.key.decode()})
            fresh = self._folder / f"{name}.new"
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:
                writing.write(text)
            fresh.replace(self._folder / name)

    @staticmethod
    def _name(file: str) -> str:
        return hashlib.sha256(os.fsencode(file)).hexdigest()[:32] + ".json"


def _pairs_in(folder: Path) -> list[str]:
    """The names of its pairs, whole or not, in order."""
    with os.scandir(folder) as entries:
        names = {entry.name for entry in islice(entries, 100 * MOST_FILES)}
    return sorted({name[:-4] for name in names if name.endswith((".crt", ".key")) and len(name) > 4})


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _contents(path: Path) -> bytes:
    """A regular file's bytes. Raises CertificateError that says why there are none."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            raise CertificateError(f"{path.name} is no file of {LARGEST_FILE >> 10} KiB at most: {UNREADABLE}")
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path.name} cannot be read ({error.strerror}): put it there, readable by Kasbah"
        ) from error
