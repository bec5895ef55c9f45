"""Signatures on what crosses between processes: desired states, the time, and tickets for a site's own door.

Ed25519 over the exact bytes that travel, with a context string, so that a ticket never passes for a desired state.
A ticket is `base64url(payload).base64url(signature)`: it names one act on one object at one site, and dies soon.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kasbah.domain.ids import InstallationId, SiteId
from kasbah.errors import Denied

DESIRED = b"kasbah desired state v1\n"
TICKET = b"kasbah ticket v1\n"
TIME = b"kasbah time v1\n"

ANEW = "ask the control plane for a new one; a site where that has expired too has a clock that is ahead: set it"
READ_LOGS, EXEC = "logs.read", "exec"
"""The acts on a service, which may last long."""
FREE = "site.free"
VOLUMES = "site.volumes"
"""The act of seeing what a site keeps and removing what it does not need; the object is the site."""


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """The private key in `path` (PEM, 0600), made there if there is none."""
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError(f"{path} holds no Ed25519 key")
        return key
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(pem)
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half as text, as a site pins it."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return "ed25519:" + base64.b64encode(raw).decode()


def parse_public(text: str) -> Ed25519PublicKey:
    """The public key written by `public_text`. Raises ValueError where it is none."""
    kind, _, encoded = text.strip().partition(":")
    if kind != "ed25519":
        raise ValueError("a public key starts with 'ed25519:'")
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded, validate=True))


def sign(key: Ed25519PrivateKey, context: bytes, body: bytes) -> str:
    """The signature of `body` in `context`, base64."""
    return base64.b64encode(key.sign(context + body)).decode()


def verify(key: Ed25519PublicKey, context: bytes, body: bytes, signature: str) -> bool:
    """Whether `signature` is that of `body` in `context`."""
    try:
        key.verify(base64.b64decode(signature, validate=True), context + body)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def sign_time(key: Ed25519PrivateKey, installation: InstallationId, now: datetime) -> str:
    """The control plane's word for what time it is: `TIME SIGNATURE`."""
    said = now.isoformat()
    return f"{said} {sign(key, TIME, f'{installation} {said}'.encode())}"


def read_time(key: Ed25519PublicKey, installation: InstallationId, text: str) -> datetime:
    """The time in what `sign_time` wrote. Raises Denied where it is not ours, or no time."""
    said, _, signature = text.partition(" ")
    if not verify(key, TIME, f"{installation} {said}".encode(), signature):
        raise Denied("this time is not signed by the pinned key", code="bad_signature")
    try:
        found = datetime.fromisoformat(said)
    except ValueError as error:
        raise Denied("this is no time") from error
    if found.tzinfo is None:
        raise Denied("this time has no zone")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Leave to do one thing at one site: `act` is `blob.put` (object: a digest), `logs.read` or `exec` (object: a
    service id), `site.free` or `site.volumes` (object: the site's id).

    `limit` bounds the bytes that may be sent. `holder` is the token that it was given for: what stays open asks whether
    that may still ("" in tickets of the version before).
    """

    act: str
    object: str
    site: SiteId
    expires_at: datetime
    limit: int = 0
    holder: str = ""


def write_ticket(key: Ed25519PrivateKey, ticket: Ticket) -> str:
    """The ticket as text, signed."""
    payload = json.dumps(
        {
            "act": ticket.act,
            "object": ticket.object,
            "site": ticket.site,
            "expires": int(ticket.expires_at.timestamp()),
            "limit": ticket.limit,
            "holder": ticket.holder,
        },
        separators=(",", ":"),
        sort_keys=True,
    ).encode()
    return f"{_text(payload)}.{_text(key.sign(TICKET + payload))}"


def read_ticket(key: Ed25519PublicKey, text: str, *, now: datetime) -> Ticket:
    """The ticket in `text`. Raises Denied where it is not ours, is damaged or has expired."""
    try:
        encoded, _, signature = text.partition(".")
        payload = _bytes(encoded)
        key.verify(_bytes(signature), TICKET + payload)
        fields = json.loads(payload)
        ticket = Ticket(
            act=fields["act"],
            object=fields["object"],
            site=SiteId(fields["site"]),
            expires_at=datetime.fromtimestamp(fields["expires"], UTC),
            limit=fields["limit"],
            holder=fields.get("holder", ""),
        )
    except (InvalidSignature, binascii.Error, ValueError, KeyError, TypeError) as error:
        raise Denied("this ticket is not valid here", hint="ask the control plane for a new one") from error
    if now >= ticket.expires_at:
        raise Denied("this ticket has expired", hint=ANEW, code="ticket_expired")
    return ticket


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
