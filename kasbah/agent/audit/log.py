"""The site's audit log: says what the site was told and did, signs it, and answers for it to the control plane.

Two logs watch each other. The site shows its checkpoint with the proof that it only grew, and the control plane cosigns
it; the control plane shows its own, and the site cosigns that. What did not just grow is never cosigned, and is said in
the log of the one who noticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import structlog

from kasbah.agent.audit.file import EntryFile
from kasbah.agent.files import replace_whole
from kasbah.api.agent import AuditAnswer, AuditWord, witness_name
from kasbah.api.checkpoints import Checkpoint, Note, cosign, is_signed, life_of, origin_of, read_note, sign_checkpoint
from kasbah.api.signing import load_or_make_key, parse_public, public_text
from kasbah.decide.merkle import is_consistent, prove_consistency, root_of
from kasbah.decide.tiles import nodes_in
from kasbah.domain.audit import ITSELF, Entry, Outcome, decode, encode
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ServiceId
from kasbah.domain.label import Label, label_text

log = structlog.get_logger()

LOOK_BACK = 10_000
"""Entries that are looked through for the last one about requests."""


@dataclass(slots=True)
class Seen:
    """What this site last saw of the control plane's log, and how much of its own that has seen."""

    key: str = ""
    checkpoint: str = ""
    told: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An entry before it has its place."""

    act: str
    object: str
    outcome: Outcome = Outcome.DONE
    reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    def entry(self, sequence: int, now: datetime) -> Entry:
        """The entry at a place."""
        return Entry(
            sequence=sequence,
            at=now,
            actor=ITSELF,
            act=self.act,
            object=self.object,
            outcome=self.outcome,
            reason=self.reason,
            details=tuple(sorted((name, value) for name, value in self.details.items() if value)),
        )


class SiteLog:
    """The log in `folder`, of the site with this id. May be used from several threads."""

    def __init__(self, folder: Path, installation: str, site: str, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._site = site
        self._now = now
        self._turn = threading.RLock()
        self._file = EntryFile(folder)
        self._key = load_or_make_key(folder / "audit.key")
        self._seen = self._read_seen()
        self.trouble = ""
        self._lost = 0
        life = self._resume()
        self._origin = origin_of(installation, f"site/{site}", life)

    def say(
        self,
        act: str,
        object: str,
        *,
        outcome: Outcome = Outcome.DONE,
        reason: str = "",
        details: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        """Add an entry; its number. It is on the disk when this returns."""
        return self.tell(Told(act=act, object=object, outcome=outcome, reason=reason, details=details))

    def tell(self, *several: Told) -> int:
        """Add entries, with one wait for the disk; the number of the first. Where the disk takes none, the site goes on
        serving, and the next entry says how many were lost. Then: -1."""
        with self._turn:
            lost = {"entries": str(self._lost)}
            said = (Told(act="lose_entries", object="audit", details=lost), *several) if self._lost else several
            first, now = self._file.size, self._now()
            try:
                self._file.append(*(encode(one.entry(first + place, now)) for place, one in enumerate(said)))
            except OSError as error:
                self._lost += len(several)
                log.error("the audit log cannot be written", reason=str(error), lost=self._lost)
                return -1
            self._lost = 0
            return first + len(said) - len(several)

    def word(self) -> AuditWord:
        """What the control plane is told: the log as it is now, and the control plane's own as it was seen last."""
        with self._turn:
            note = self._sign()
            size = note.checkpoint.size
            start = min(self._seen.told, size)
            seen = read_note(self._seen.checkpoint) if self._seen.checkpoint else None
            return AuditWord(
                public_key=public_text(self._key),
                checkpoint=note.text,
                told=start,
                proof=_texts(prove_consistency(start, size, nodes_in(self._file.tile))),
                seen=seen.checkpoint.size if seen is not None else 0,
                cosigned=self._cosigned(seen) if seen is not None else "",
            )

    def hear(self, answer: AuditAnswer) -> bool:
        """Take the answer; whether there is something to say at once: what was just seen is cosigned with that."""
        with self._turn:
            if answer.trouble and answer.trouble != self.trouble:
                log.error("the control plane does not believe this site's audit log", reason=answer.trouble)
            self.trouble = answer.trouble
            again = answer.known != self._file.size and answer.known != self._seen.told and not answer.trouble
            self._seen.told = answer.known
            news = bool(answer.checkpoint) and self._take(answer)
            self._write_seen()
            return news or again

    def accept(self, before: DesiredState | None, desired: DesiredState, document: bytes) -> None:
        """Log that a desired state is taken, which services are routed from now on, with which labels, and which are
        not any more; before anything acts on it."""
        old = {one.id: one.label for one in before.services} if before is not None else {}
        new = {one.id: one.label for one in desired.services}
        accepted = {
            "epoch": str(desired.epoch),
            "generation": str(desired.generation),
            "document": "sha256:" + hashlib.sha256(document).hexdigest(),
            "services": str(len(new)),
        }
        routed = {one: label for one, label in new.items() if old.get(one) != label}
        gone = {one: label for one, label in old.items() if one not in new}
        self.tell(
            Told(act="accept_desired", object="desired", details=accepted),
            *(_of_service("route", one, label) for one, label in routed.items()),
            *(_of_service("unroute", one, label) for one, label in gone.items()),
        )

    def last_requests(self) -> Entry | None:
        """The newest entry about requests."""
        with self._turn:
            newest = (decode(leaf) for leaf in self._file.newest(LOOK_BACK))
            return next((entry for entry in newest if entry.act == "requests"), None)

    def leaves(self) -> list[bytes]:
        """Every entry."""
        with self._turn:
            return list(self._file.leaves())

    def close(self) -> None:
        """Close its files."""
        self._file.close()

    def _take(self, answer: AuditAnswer) -> bool:
        """Take the control plane's checkpoint, if its log only grew."""
        try:
            note, key = read_note(answer.checkpoint), parse_public(answer.public_key)
        except ValueError as error:
            return self._refuse(f"its checkpoint cannot be read: {error}")
        if not is_signed(note, key):
            return self._refuse("its checkpoint is not signed by its key")
        before = read_note(self._seen.checkpoint) if self._seen.checkpoint else None
        if before is not None and before.checkpoint == note.checkpoint:
            return False
        if before is None:
            pinned = {"public_key": answer.public_key, "entries": str(note.checkpoint.size)}
            self.say("pin_log", "control", details=pinned)
        elif life_of(note.checkpoint.origin) > life_of(before.checkpoint.origin):
            self._say_cut(before, note, answer.public_key)
        elif answer.public_key != self._seen.key or not _only_grew(before, note, answer.proof):
            return self._refuse(
                f"its {note.checkpoint.size} entries do not begin with the {before.checkpoint.size} seen"
            )
        self._seen.key, self._seen.checkpoint = answer.public_key, answer.checkpoint
        return True

    def _say_cut(self, before: Note, after: Note, key: str) -> None:
        self.say(
            "see_log_cut",
            "control",
            reason="the control plane's log goes on under another life",
            details={
                "seen_entries": str(before.checkpoint.size),
                "seen_root": _text(before.checkpoint.root),
                "entries": str(after.checkpoint.size),
                "public_key": key,
            },
        )

    def _refuse(self, why: str) -> bool:
        """Say once that the control plane's log is not what it was."""
        if why != getattr(self, "_refused", ""):
            self._refused = why
            log.error("the control plane's audit log is not what it was", reason=why)
            self.say("refuse_log", "control", outcome=Outcome.REFUSED, reason=why)
        return False

    def _cosigned(self, seen: Note) -> str:
        line = cosign(self._key, witness_name(self._site), seen.checkpoint, self._now())
        return Note(checkpoint=seen.checkpoint, lines=(*seen.lines[:1], line)).text

    def _sign(self) -> Note:
        """The log as it is now, signed; kept beside it, so that the next start finds out whether it still is."""
        size = self._file.size
        known = self._kept()
        if known is not None and (known.checkpoint.origin, known.checkpoint.size) == (self._origin, size):
            return known
        root = root_of(size, nodes_in(self._file.tile))
        note = sign_checkpoint(self._key, Checkpoint(origin=self._origin, size=size, root=root))
        replace_whole(self._folder / "checkpoint", note.text)
        return note

    def _resume(self) -> int:
        """Say what was found at the start; the life the log goes on under."""
        kept, found = self._kept(), self._file.size
        life = life_of(kept.checkpoint.origin) if kept is not None else 1
        cut = kept is not None and not self._goes_on(kept)
        if self._file.torn:
            torn = {"bytes": str(self._file.torn)}
            self.say("cut_torn_entry", "audit", reason="it was not finished: the agent ended", details=torn)
        if cut and kept is not None:
            self.say(
                "cut_log",
                "audit",
                reason="the log is not the one that was signed last",
                details={
                    "entries": str(found),
                    "signed_entries": str(kept.checkpoint.size),
                    "signed_root": _text(kept.checkpoint.root),
                },
            )
        return life + 1 if cut else life

    def _goes_on(self, kept: Note) -> bool:
        size = kept.checkpoint.size
        if not is_signed(kept, self._key.public_key()) or size > self._file.size:
            return False
        return root_of(size, nodes_in(self._file.tile)) == kept.checkpoint.root

    def _kept(self) -> Note | None:
        try:
            return read_note((self._folder / "checkpoint").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _read_seen(self) -> Seen:
        try:
            found = json.loads((self._folder / "seen.json").read_text())
            return Seen(key=str(found["key"]), checkpoint=str(found["checkpoint"]), told=int(found["told"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Seen()

    def _write_seen(self) -> None:
        replace_whole(self._folder / "seen.json", json.dumps(asdict(self._seen)))


def _of_service(act: str, service: ServiceId, label: Label) -> Told:
    return Told(act=act, object=f"services/{service}", details={"label": label_text(label)})


def _only_grew(before: Note, after: Note, proof: tuple[str, ...]) -> bool:
    try:
        steps = [base64.b64decode(one, validate=True) for one in proof]
    except (binascii.Error, ValueError):
        return False
    old, new = before.checkpoint, after.checkpoint
    return old.origin == new.origin and is_consistent(old.size, new.size, steps, old.root, new.root)


def _texts(hashes: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(_text(one) for one in hashes)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
