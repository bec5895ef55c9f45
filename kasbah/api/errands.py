"""An errand on its way to a site, signed: `kasbah-errand`, base64 of its key, its text and the signature of that."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.owner import read_document, sign_document
from kasbah.api.signing import parse_public, public_text, verify
from kasbah.domain.errand import Errand, SignedErrand
from kasbah.domain.ids import Digest
from kasbah.errors import Invalid

ERRAND = b"kasbah errand v1\n"
ERRAND_HEADER = "kasbah-errand"
"""Not `x-kasbah-...`: of those the gateway takes none from callers."""
LONGEST = 8_000
"""Characters of the header."""


def write_errand(key: Ed25519PrivateKey, errand: Errand) -> str:
    """The header's value, signed with a deployer's key."""
    signed = sign_document(key, ERRAND, errand)
    said = {"key": public_text(key), "document": signed.document, "signature": signed.signature}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def read_errand(text: str) -> SignedErrand | None:
    """What was signed with the key that it names; None where it was not. Whose key that is, is not asked here."""
    try:
        said = json.loads(base64.urlsafe_b64decode(text[:LONGEST].encode()))
        key, document, signature = str(said["key"]), str(said["document"]), str(said["signature"])
        if not verify(parse_public(key), ERRAND, document.encode(), signature):
            return None
        return SignedErrand(key=key, errand=read_document(document, Errand))
    except (ValueError, KeyError, TypeError, Invalid):
        return None


def words_of(argv: Sequence[str]) -> Digest:
    """The digest of a command and its arguments."""
    return _digest(json.dumps(list(argv)).encode())


def ticket_of(text: str) -> Digest:
    """The digest of a ticket."""
    return _digest(text.encode())


def _digest(raw: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(raw).hexdigest())
