"""Whose installation is this? The owner's key, where it is at hand, and its public half, which is pinned.

The private key is made in the data folder by the first start, and its owner may take it away: only signing needs it.
The public half stands in the store and, so that a store that somebody wrote to cannot name another owner, in a file
beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kasbah.api import owner
from kasbah.api.signing import parse_public, public_text
from kasbah.control.folder import Folder
from kasbah.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """The owner's public key, as text, and the private one where it is at hand."""

    public: str
    key: Ed25519PrivateKey | None

    @property
    def verifier(self) -> Ed25519PublicKey:
        """The public key."""
        return parse_public(self.public)


def ownership(folder: Folder, recorded: str | None) -> Ownership:
    """The owner of the installation in this data folder. `recorded` is the public half that the store knows; the first
    start finds none, and makes the key. Raises Invalid where the store names another owner than the pinned one."""
    pinned = folder.pinned_owner()
    recorded = recorded or (None if folder.owner_key.exists() else pinned)
    if recorded is None:
        key, _ = owner.load_or_make(folder.owner_key)
        found = Ownership(public=public_text(key), key=key)
    else:
        at_hand = owner.load(folder.owner_key) if folder.owner_key.exists() else None
        ours = at_hand is not None and public_text(at_hand) == recorded
        found = Ownership(public=recorded, key=at_hand if ours else None)
    if pinned is None:
        folder.pin_owner(found.public)
    elif pinned != found.public:
        raise Invalid(
            "the database names another owner than this data folder",
            where=str(folder.owner_public),
            hint="restore a backup of this installation; if the owner was changed on purpose, remove this file",
            code="owner_changed",
        )
    return found
