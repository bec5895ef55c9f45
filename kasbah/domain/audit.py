"""An entry of an audit log: who did what to which object, when, with what outcome and why. Never content.

Its canonical bytes are the log's leaf: one spelling for each entry, so that whoever holds an entry can find it in the
tree. Names, ids, digests and counts are in it; what somebody sent is there as a salted commitment at most, which says
nothing to those who do not have the salt, and to nobody once the salt is erased.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

FORMAT = 1
SALT_BYTES = 16
COMMITMENT = b"kasbah audit commitment v1\n"
LONGEST_REASON, LONGEST_TEXT, MOST_DETAILS = 1_000, 200, 12
"""With every character written as an escape, an entry of these still is below the 64 KiB that a bundle's entry has."""

ITSELF = "kasbah"
"""The actor of what the installation does on its own. An entry of a caller has a credential, one of these has none."""


class Outcome(StrEnum):
    """What became of it."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. `sequence` is its place in the log, from 0; `credential` is the id of what the actor showed.

    `commitment` is that of the request as it was sent; see `commit`."""

    sequence: int
    at: datetime
    actor: str
    act: str
    object: str
    outcome: Outcome = Outcome.DONE
    credential: str = ""
    reason: str = ""
    details: tuple[tuple[str, str], ...] = ()
    commitment: str = ""


def encode(entry: Entry) -> bytes:
    """The entry's canonical bytes: JSON in ASCII, keys in order, nothing that is empty, on one line."""
    fields: dict[str, object] = {
        "v": FORMAT,
        "sequence": entry.sequence,
        "at": entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "actor": _short(entry.actor, LONGEST_TEXT),
        "act": _short(entry.act, LONGEST_TEXT),
        "object": _short(entry.object, LONGEST_TEXT),
        "outcome": entry.outcome.value,
    }
    more = {
        "credential": _short(entry.credential, LONGEST_TEXT),
        "reason": _short(entry.reason, LONGEST_REASON),
        "details": {_short(name, 40): _short(value, LONGEST_TEXT) for name, value in entry.details[:MOST_DETAILS]},
        "commitment": entry.commitment,
    }
    fields |= {name: value for name, value in more.items() if value}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode(leaf: bytes) -> Entry:
    """The entry with these canonical bytes. Raises ValueError for bytes that are none of any entry."""
    try:
        fields = json.loads(leaf)
        version = fields["v"]
        if version != FORMAT:
            raise ValueError(f"an entry of format {version}; this version knows {FORMAT}")
        entry = Entry(
            sequence=int(fields["sequence"]),
            at=datetime.strptime(fields["at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC),
            actor=fields["actor"],
            act=fields["act"],
            object=fields["object"],
            outcome=Outcome(fields["outcome"]),
            credential=fields.get("credential", ""),
            reason=fields.get("reason", ""),
            details=tuple(fields.get("details", {}).items()),
            commitment=fields.get("commitment", ""),
        )
        texts = (entry.actor, entry.act, entry.object, entry.credential, entry.reason, entry.commitment)
        if not all(isinstance(one, str) for one in (*texts, *(value for _, value in entry.details))):
            raise ValueError("an entry's fields are text")
        canonical = encode(entry)
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"no entry of an audit log ({type(error).__name__})") from error
    if canonical != leaf:
        raise ValueError("not the canonical bytes of an entry")
    return entry


def commit(salt: bytes, value: bytes) -> str:
    """What commits to `value` and does not tell it. The salt has a fixed length, so that salt and value never mix."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    return "sha256:" + hashlib.sha256(COMMITMENT + salt + value).hexdigest()


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
