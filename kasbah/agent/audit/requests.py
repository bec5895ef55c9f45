"""Requests in the site's log: for each piece of the gateway's log one entry, with the root over its lines.

A leaf commits to a line (second, service and revision, key, status, counts) under a salt of its own, so that the log
says nothing of any request. That one is in it can be proved later by what is kept here for a while: the lines, and what
their salts are made from. Removing that is forgetting it; the entry and its tree stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog

from kasbah.agent.audit.log import SiteLog
from kasbah.decide.merkle import leaf_hash, prove_inclusion, root_of
from kasbah.decide.tiles import grow, nodes_in
from kasbah.domain.audit import SALT_BYTES, Entry, commit

log = structlog.get_logger()

SEED_BYTES = 32
MOST_BYTES = 64 * 2**20
"""What is kept to prove single requests: the oldest goes first."""
MOST_SERVICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedRequest:
    """A line, its salt, and the hashes between it and the root in its entry."""

    line: bytes
    salt: bytes
    index: int
    size: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a batch stands in the gateway's log: bytes `start` to `end` of a file that was read from `base` on."""

    sequence: int
    inode: int
    base: int
    start: int
    end: int


class Requests:
    """Tells `site` of the gateway's log, piece by piece, each once; keeps in `folder` what proves single lines."""

    def __init__(self, site: SiteLog, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._site = site
        self._folder = folder
        self._last = _place(site.last_requests())

    def tell(self, inode: int, position: int, lines: list[bytes]) -> int | None:
        """Log the lines that stand at a place of a file; the entry's number. What was logged before a kill, and is read
        again after it, is left out."""
        start, fresh = self._fresh(inode, position, lines)
        if not fresh:
            return None
        end = start + sum(len(line) + 1 for line in fresh)
        seed = secrets.token_bytes(SEED_BYTES)
        details = {
            "root": _tree(seed, fresh)[0].hex(),
            "requests": str(len(fresh)),
            "place": f"{inode} {position} {start} {end}",
        }
        sequence = self._site.say("requests", "gateway", details={**details, **_by_service(fresh)})
        if sequence < 0:
            return None
        self._last = Place(sequence=sequence, inode=inode, base=position, start=start, end=end)
        try:
            self._keep(sequence, seed, fresh)
        except OSError as error:  # they are logged all the same; what cannot be kept cannot be proved
            log.warning("single requests cannot be proved", entry=sequence, reason=str(error))
        return sequence

    def _fresh(self, inode: int, position: int, lines: list[bytes]) -> tuple[int, list[bytes]]:
        """The lines that are not logged yet, and where they begin. Read again is what begins where the last reading
        began; at the beginning of a file, which may be another with the same inode, the lines themselves tell."""
        last = self._last
        if last is None or (inode, position) != (last.inode, last.base):
            return position, lines
        known, fresh, place = [], [], position
        for line in lines:
            if place >= last.end:
                fresh.append(line)
            elif place >= last.start:
                known.append(line)
            place += len(line) + 1
        if position == 0 and known != self._kept(last.sequence):
            return position, lines
        return last.end, fresh

    def _kept(self, sequence: int) -> list[bytes]:
        try:
            return kept_lines(self._folder, sequence)[1]
        except LookupError:
            return []

    def _keep(self, sequence: int, seed: bytes, lines: list[bytes]) -> None:
        path = self._folder / f"{sequence:012}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed + zlib.compress(b"\n".join(lines), 1))
        if sequence % 64 == 0:
            self.forget()

    def forget(self, most: int = MOST_BYTES) -> None:
        """Remove the oldest of what is kept, beyond so many bytes."""
        kept = sorted(self._folder.iterdir(), reverse=True)
        total = 0
        for path in kept:
            total += path.stat().st_size
            if total > most:
                path.unlink(missing_ok=True)


def kept_lines(folder: Path, sequence: int) -> tuple[bytes, list[bytes]]:
    """What the salts of an entry's requests are made from, and their lines. Raises LookupError where it is not kept."""
    try:
        whole = (folder / f"{sequence:012}").read_bytes()
        return whole[:SEED_BYTES], zlib.decompress(whole[SEED_BYTES:]).split(b"\n")
    except (FileNotFoundError, zlib.error) as error:
        raise LookupError(f"the requests of entry {sequence} are not kept any more") from error


def prove_request(folder: Path, sequence: int, index: int) -> ProvedRequest:
    """What proves that a line is in an entry. Raises LookupError where it is not kept any more."""
    seed, lines = kept_lines(folder, sequence)
    if not 0 <= index < len(lines):
        raise LookupError(f"entry {sequence} has {len(lines)} requests")
    _, tiles = _tree(seed, lines)
    proof = prove_inclusion(index, len(lines), nodes_in(lambda level, number: tiles[level, number]))
    return ProvedRequest(line=lines[index], salt=_salt(seed, index), index=index, size=len(lines), proof=proof)


def _tree(seed: bytes, lines: list[bytes]) -> tuple[bytes, dict[tuple[int, int], bytes]]:
    """The root over the commitments to these lines, and the tree's tiles."""
    hashes = [leaf_hash(commit(_salt(seed, index), line).encode()) for index, line in enumerate(lines)]
    tiles = grow(0, lambda *_: b"", hashes)
    return root_of(len(hashes), nodes_in(lambda level, number: tiles[level, number])), tiles


def _place(entry: Entry | None) -> Place | None:
    if entry is None:
        return None
    inode, base, start, end = map(int, dict(entry.details)["place"].split(" "))
    return Place(sequence=entry.sequence, inode=inode, base=base, start=start, end=end)


def _salt(seed: bytes, index: int) -> bytes:
    return hashlib.sha256(seed + index.to_bytes(8, "big")).digest()[:SALT_BYTES]


def _by_service(lines: list[bytes]) -> dict[str, str]:
    """How many requests each service had; those with the most, and the others together."""
    counts = Counter(_service(line) for line in lines)
    most = counts.most_common(MOST_SERVICES)
    told = {service: str(count) for service, count in most}
    rest = len(lines) - sum(count for _, count in most)
    return {**told, **({"others": str(rest)} if rest else {})}


def _service(line: bytes) -> str:
    """The service that a line is about; `none` for what reached no service."""
    parts = line.split(b"\t", 2)
    service, slash, _ = parts[1].partition(b"/") if len(parts) > 2 else (b"", b"", b"")
    return service.decode("ascii", "replace") if slash else "none"
