"""An errand on its way to a site, signed: `kasbah-errand`, base64 of its key, its text and the signature of that."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.owner import read_signed, sign_as
from kasbah.domain.attestation import Attested
from kasbah.domain.charter import Signed
from kasbah.domain.errand import Errand, SignedErrand
from kasbah.domain.ids import Digest

ERRAND = b"kasbah errand v1\n"
ERRAND_HEADER = "kasbah-errand"
"""Not `x-kasbah-...`: of those the gateway takes none from callers."""
LONGEST = 8_000
"""Characters of the header."""


def write_errand(key: Ed25519PrivateKey, errand: Errand) -> str:
    """The header's value, signed with a deployer's key."""
    made = sign_as(key, ERRAND, errand)
    said = {"key": made.key, "document": made.signed.document, "signature": made.signed.signature}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def read_errand(text: str) -> SignedErrand | None:
    """What was signed with the key that it names; None where it was not. Whose key that is, is not asked here."""
    try:
        said = json.loads(base64.urlsafe_b64decode(text[:LONGEST].encode()))
        signed = Signed(document=str(said["document"]), signature=str(said["signature"]))
        attested = Attested(key=str(said["key"]), signed=signed)
    except (ValueError, KeyError, TypeError):
        return None
    errand = read_signed(attested, ERRAND, Errand)
    return None if errand is None else SignedErrand(key=attested.key, errand=errand)


def words_of(argv: Sequence[str]) -> Digest:
    """The digest of a command and its arguments."""
    return _digest(json.dumps(list(argv)).encode())


def ticket_of(text: str) -> Digest:
    """The digest of a ticket."""
    return _digest(text.encode())


def _digest(raw: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(raw).hexdigest())
