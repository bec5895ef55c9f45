"""The protocol between an agent and the control plane: HTTP, the agent dials, and what travels is the domain itself.

    GET  /agent/v1/desired?epoch=E&generation=G&wait=S   200: the document, signed in a header; 204: nothing newer
    POST /agent/v1/status   SiteStatus                   204
    POST /agent/v1/still    nothing                      204: the last status is still true; 409: send it whole
    POST /agent/v1/usage    UsageBatch                   200 {"acknowledged": SEQUENCE}
    GET  /agent/v1/secrets/SECRET/VERSION                200: the value's bytes, if the desired state names it
    POST /agent/v1/visitors [Visitor]                    200: those of them who still may; 404: nobody is asked about
    POST /agent/v1/audit    AuditWord                    200: AuditAnswer; each shows its log and cosigns the other's
    GET  /agent/v1/identity                              the installation, the site's id and the public key to pin

A status carries its mark, `x-kasbah-status`, and `still` names the mark of the status it confirms: thousands of
services that sleep are not told over and over. A control plane that has another status, or was started since, answers
409; one that does not know the call answers 404. Either is sent the whole status.

Each answer to `desired` carries `x-kasbah-time`, the control plane's time with its signature: a site's clock is the
later of its own and the newest signed. A control plane of the version before sends none; the site does without.

Each call carries `Authorization: Bearer SITE_TOKEN` and, as `x-kasbah-protocol`, the version it speaks. The desired
state's signature covers the exact bytes of the body.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, NewType

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.observed import SiteStatus, UsageBatch

SIGNATURE_HEADER = "x-kasbah-signature"
PROTOCOL_HEADER = "x-kasbah-protocol"
STATUS_HEADER = "x-kasbah-status"
TIME_HEADER = "x-kasbah-time"
MAX_WAIT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the agent is to the installation, and the public keys it pins: the control plane's, and the owner's ("": it
    knows none)."""

    installation: InstallationId
    site: SiteId
    site_name: str
    public_key: str
    owner_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWord:
    """A site's log as it is: its checkpoint, signed, and the proof that it grew from the `told` entries that the
    control plane knew last. `seen` entries of the control plane's log were seen; `cosigned` is that checkpoint with the
    site's word for it."""

    public_key: str
    checkpoint: str
    told: int
    proof: tuple[str, ...]
    seen: int
    cosigned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAnswer:
    """How many of the site's entries are known and believed, what is wrong with the rest, and the control plane's own
    log: its checkpoint, and the proof that it grew from what the site has seen."""

    known: int
    trouble: str
    public_key: str
    checkpoint: str
    proof: tuple[str, ...]


MOST_VISITORS = 500
"""So many may follow logs and run commands at a site at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Visitor:
    """Who has something open at a site's door: the token that it was given for, the act, and the service. Whoever may
    it no more is sent away."""

    holder: str
    act: str
    object: str


def witness_name(log: str) -> str:
    """The name that the owner of a log (`control`, or a site's id) cosigns others' logs with."""
    return f"kasbah/witness/{log}"


EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond these, a moment may have no counterpart in another time zone."""


def _timely_status(status: SiteStatus) -> SiteStatus:
    _refuse_untimely(_moments_in(status))
    return status


def _timely_batch(batch: UsageBatch) -> UsageBatch:
    _refuse_untimely(key.minute for key, _ in batch.usage)
    _refuse_untimely(key.hour for key, _ in batch.entries)
    return batch


def _moments_in(status: SiteStatus) -> Iterator[datetime]:
    yield status.observed_at
    for service in status.services:
        yield from (replica.since for replica in service.replicas)
        yield from (wake.at for wake in service.wakes)


def _refuse_untimely(moments: Iterator[datetime]) -> None:
    for moment in moments:
        if moment.tzinfo is None or not EARLIEST <= moment < LATEST:
            raise ValueError(f"{moment.isoformat()} is no moment: it has a time zone, and is between 1970 and 9000")


_Finite = NewType("_Finite", SiteStatus)
"""A status by another name, as pydantic takes rules for all that is in a dataclass only beside one."""

DESIRED_STATE = TypeAdapter(DesiredState)
SITE_STATUS: TypeAdapter[SiteStatus] = TypeAdapter(
    Annotated[_Finite, AfterValidator(_timely_status)], config=ConfigDict(allow_inf_nan=False)
)
"""Its numbers are finite: what passes for JSON has words for others, and what is kept of those cannot be read again."""
USAGE_BATCH: TypeAdapter[UsageBatch] = TypeAdapter(Annotated[UsageBatch, AfterValidator(_timely_batch)])
IDENTITY = TypeAdapter(Identity)
AUDIT_WORD = TypeAdapter(AuditWord)
AUDIT_ANSWER = TypeAdapter(AuditAnswer)
VISITORS: TypeAdapter[tuple[Visitor, ...]] = TypeAdapter(
    Annotated[tuple[Visitor, ...], Field(max_length=MOST_VISITORS)]
)
