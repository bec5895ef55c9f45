"""Seals secrets' values at rest, each process under a key of its own that is in no database and in no backup of one.

AES-256-GCM with a fresh nonce each; what a value belongs to (`context`) is authenticated with it, so that a sealed
value moved to another place does not open.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kasbah.errors import Invalid, Unavailable

NONCE = 12
KEY = 32


class Vault:
    """Seals with `key`, 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    def derive(self, context: str) -> bytes:
        """32 bytes that belong to `context`, always the same, which tell nothing of each other or of the key."""
        return HKDF(algorithm=SHA256(), length=KEY, salt=None, info=b"kasbah derived " + context.encode()).derive(
            self._key
        )

    def seal(self, value: bytes, context: str) -> bytes:
        """The value, sealed."""
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, value, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The value. Raises Unavailable where this key did not seal it."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], context.encode())
        except (InvalidTag, ValueError):
            raise Unavailable(
                "a secret cannot be opened: it was sealed under another key",
                hint="put the secrets.key of this installation back into its control folder, or set the secret again",
                code="secret_sealed",
            ) from None


def load_or_make_vault(path: Path) -> Vault:
    """The vault whose key is in `path` (0600), made there if there is none. Raises Invalid where it holds no key."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    try:
        key = base64.b64decode(path.read_text().strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY:
        raise Invalid(f"{path} holds no key", hint="put the right one back; without it no secret can be opened")
    return Vault(key)
