"""A caller's key as its deployer signs it: made where he is, so that the control plane knows its SHA-256 alone."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.owner import read_signed, sign_as
from kasbah.domain.attestation import Attested
from kasbah.domain.caller import CallersKey, SignedKey

CALLERS_KEY = b"kasbah caller's key v1\n"


def sign_key(key: Ed25519PrivateKey, said: CallersKey) -> Attested:
    """What is said of a caller's key, signed with a deployer's."""
    return sign_as(key, CALLERS_KEY, said)


def read_key(attested: Attested) -> SignedKey | None:
    """What was signed with the key that it names; None where it was not. Whose key that is, is not asked here."""
    said = read_signed(attested, CALLERS_KEY, CallersKey)
    if said is None or said.signed_at.tzinfo is None:
        return None
    zoned = said.expires_at is None or said.expires_at.tzinfo is not None
    return SignedKey(key=attested.key, said=said) if zoned else None
