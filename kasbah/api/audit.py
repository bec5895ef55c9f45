"""The audit log's shapes in the public API. Roots, hashes and proofs are base64, as in C2SP's formats."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from kasbah.api.shape import Shape
from kasbah.domain.audit import Entry, Outcome


class AuditEntryView(Shape):
    """Who did what to which object. An entry of the installation's own has no credential."""

    sequence: int
    at: datetime
    actor: str
    credential: str = ""
    act: str
    object: str
    outcome: Outcome
    reason: str = ""
    details: dict[str, str]
    commitment: str = Field(default="", description="What commits to the request as it was sent, and does not tell it.")


class AuditEntryDetail(AuditEntryView):
    """An entry with the proof that it is in the log: its exact bytes, a signed checkpoint, and the hashes between."""

    leaf: str
    checkpoint: str
    proof: list[str]
    salt: str | None = Field(default=None, description="Opens the commitment; for administrators, until it is erased.")


class ShownLog(Shape):
    """What a refused log shows in the place of what was known."""

    origin: str
    public_key: str
    size: int
    root: str


class LogBreakView(Shape):
    """A break in a site's log that somebody accepted. `checkpoint` and `cosigned` are the last of the log before it."""

    accepted_at: datetime
    accepted_by: str
    reason: str
    trouble: str
    public_key: str
    checkpoint: str
    size: int
    cosigned: str
    cosigned_size: int


class AuditLogView(Shape):
    """An audit log: its newest checkpoint, and the newest that witnesses have cosigned. `trouble` says what is wrong
    with its growth, empty where nothing is."""

    log: str = Field(description="`control`, or the site's name.")
    origin: str
    public_key: str
    checkpoint: str
    size: int
    signed_at: datetime
    cosigned: str
    cosigned_size: int
    witnesses: dict[str, str] = Field(description="The public key of each witness, by the name it signs with.")
    trouble: str = Field(default="", description="Why it is refused, until somebody accepts that.")
    shown: ShownLog | None = None
    breaks: list[LogBreakView] = Field(default=[], description="Those that somebody accepted, the first first.")


class AcceptLogRequest(Shape):
    """Accept what a refused log shows. `public_key` and `root` are those in `shown`, as whoever accepts it has seen
    them: where the site shows another log by then, nothing is accepted."""

    public_key: str = Field(max_length=60)
    root: str = Field(max_length=60)
    reason: str = Field(min_length=1, max_length=2_000, description="What broke the log, and where that is recorded.")


class AuditBundle(Shape):
    """At most 256 entries, each as its exact bytes; `number` counts bundles from 0."""

    number: int
    entries: list[str]


def entry_view(entry: Entry) -> AuditEntryView:
    """An entry as it is shown."""
    return AuditEntryView.model_validate(entry_fields(entry))


def entry_fields(entry: Entry) -> dict[str, object]:
    """What is shown of an entry, by name."""
    return {
        "sequence": entry.sequence,
        "at": entry.at,
        "actor": entry.actor,
        "credential": entry.credential,
        "act": entry.act,
        "object": entry.object,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "details": dict(entry.details),
        "commitment": entry.commitment,
    }
