"""The owner's key, and the documents that are signed with it: facts about sites, the law, what is approved, labels that
are lowered, and who may sign what is deployed.

The key need not be on the control plane: who takes the control plane over can then lie about none of these. `kasbah up`
makes one in the data folder where there is none; it is in no backup. A document is signed as the exact text that
travels, in a context of its own, so that an approval never passes for a law.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from kasbah.api.signing import parse_public, public_text, sign, verify
from kasbah.domain.attestation import Attested
from kasbah.domain.charter import Signed
from kasbah.errors import Denied, Invalid

OWNER_KEY = "owner.key"
"""The file's name in the data folder."""

CHARTER = b"kasbah charter v1\n"
LAWBOOK = b"kasbah lawbook v1\n"
APPROVAL = b"kasbah approval v1\n"
DECLASSIFICATION = b"kasbah declassification v1\n"
DEPLOYER = b"kasbah deployer v1\n"

Document = TypeVar("Document")


def load(path: Path, *, whose: str = "owner") -> Ed25519PrivateKey:
    """The key in `path` (PEM), the owner's or the deployer's. Raises Invalid where there is none, or another kind."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Invalid(
            f"the {whose}'s key cannot be read: {error.strerror}",
            where=str(path),
            hint=f"name the file it is in: --{whose}-key PATH",
            code=f"{whose}_key",
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid(
            "this file holds no Ed25519 key that can be read (PEM, without a password)",
            where=str(path),
            hint=f"put the {whose}'s key back, or name the file it is in: --{whose}-key PATH",
            code=f"{whose}_key",
        )
    return key


def load_or_make(path: Path, *, whose: str = "owner") -> tuple[Ed25519PrivateKey, bool]:
    """The key in `path`, made there (0600) where there is no such file; and whether it was made just now."""
    if path.exists():
        return load(path, whose=whose), False
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)  # whole, or not there: and never over another that was made meanwhile
    except FileExistsError:
        return load(path, whose=whose), False
    finally:
        fresh.unlink(missing_ok=True)
    return key, True


def sign_document(key: Ed25519PrivateKey, context: bytes, document: object) -> Signed:
    """The document, one of our dataclasses, as text with the owner's signature of it."""
    text = write_document(document)
    return Signed(document=text, signature=sign(key, context, text.encode()))


def verify_document(key: Ed25519PublicKey, context: bytes, signed: Signed, shape: type[Document]) -> Document:
    """What was signed. Raises Denied where the owner did not sign it as this, and Invalid where it cannot be read."""
    if not verify(key, context, signed.document.encode(), signed.signature):
        raise Denied(
            f"this {shape.__name__.lower()} is not signed by this installation's owner",
            hint="sign it with the owner's key: --owner-key PATH",
            code="not_signed",
        )
    return read_document(signed.document, shape)


def sign_as(key: Ed25519PrivateKey, context: bytes, document: object) -> Attested:
    """The document, signed with a key of which its reader does not know yet whose it is."""
    return Attested(key=public_text(key), signed=sign_document(key, context, document))


def read_signed(attested: Attested, context: bytes, shape: type[Document]) -> Document | None:
    """What was signed with the key that it names; None where it was not. Whose key that is, is not asked here."""
    try:
        public, signed = parse_public(attested.key), attested.signed
        if not verify(public, context, signed.document.encode(), signed.signature):
            return None
        return read_document(signed.document, shape)
    except (ValueError, Invalid):
        return None


def write_document(document: object) -> str:
    """The text that is signed."""
    return _adapter(type(document)).dump_json(document).decode()


def read_document(text: str, shape: type[Document]) -> Document:
    """What a document says. Who signed it is not asked here. Raises Invalid where it cannot be read."""
    try:
        return _adapter(shape).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Invalid(
            f"this is no {shape.__name__.lower()}: {first['msg']}",
            where=".".join(map(str, first["loc"])),
            hint="write and sign it again with this version of Kasbah",
        ) from error


def _adapter(shape: type[Document]) -> TypeAdapter[Document]:
    """Made once per shape: making one takes longer than reading a document with it."""
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    return _ADAPTERS[shape]


_ADAPTERS: dict[object, TypeAdapter[Any]] = {}
