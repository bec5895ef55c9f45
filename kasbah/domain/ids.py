"""Identifiers: every object has an opaque id besides its name, so that a site id never passes for a replica id.

Names are for people; ids go into ledgers, clusters and logs. An id is a prefix that names its kind and 16 lower-case
base-32 characters (80 random bits); a revision's id is derived from its contents instead (see `revision.py`).
"""

from __future__ import annotations

from typing import NewType

InstallationId = NewType("InstallationId", str)
SiteId = NewType("SiteId", str)
ProjectId = NewType("ProjectId", str)
ServiceId = NewType("ServiceId", str)
RevisionId = NewType("RevisionId", str)
ReplicaId = NewType("ReplicaId", str)
RolloutId = NewType("RolloutId", str)
KeyId = NewType("KeyId", str)
TokenId = NewType("TokenId", str)
WakeId = NewType("WakeId", str)
SecretId = NewType("SecretId", str)
JoiningId = NewType("JoiningId", str)
GrantId = NewType("GrantId", str)

Digest = NewType("Digest", str)
"""A content address, `sha256:` and 64 hexadecimal digits."""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o or u, so an id reads aloud without a mistake."""

PREFIXES = {
    "installation": "in",
    "site": "st",
    "project": "pr",
    "service": "sv",
    "revision": "rv",
    "replica": "rp",
    "rollout": "ro",
    "key": "ky",
    "token": "tk",
    "wake": "wk",
    "secret": "sc",
    "joining": "jn",
    "grant": "gr",
}


def make_id(kind: str, entropy: bytes) -> str:
    """An opaque id of `kind` from 10 bytes of entropy, which the caller draws: the domain has no chance of its own.

    >>> make_id("site", bytes(10))
    'st-0000000000000000'
    """
    if len(entropy) != 10:
        raise ValueError(f"an id takes 10 bytes of entropy, not {len(entropy)}")
    number = int.from_bytes(entropy, "big")
    letters = [ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5)]
    return f"{PREFIXES[kind]}-{''.join(letters)}"
