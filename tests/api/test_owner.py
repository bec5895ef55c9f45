"""The owner's key: made once, for its owner's eyes; and what it signed passes as what it is, and as nothing else."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.owner import CHARTER, LAWBOOK, load, load_or_make, sign_document, verify_document
from kasbah.domain.charter import Charter, Fact, Facts, Lawbook, Owner
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.law import Pack
from kasbah.domain.site import SiteKind
from kasbah.errors import Denied, Invalid

INSTALLATION = InstallationId("in-1")
PACK = Pack(name="house", title="Ours", version=1, policies="// none")
BOOK = Lawbook(installation=INSTALLATION, version=3, home="MA", packs=(PACK,), stale_after={3: timedelta(hours=1)})
DECLARED = Fact(value=frozenset({"MA", "FR"}), source="its owner", since=date(2026, 1, 1), until=date(2026, 12, 31))
OWNERS: Fact[tuple[Owner, ...]] = Fact(
    value=(Owner(name="A", country="MA", percent=51.5),), source="a registry", since=date(2026, 1, 1)
)
SITE = Charter(
    installation=INSTALLATION,
    site=SiteId("st-1"),
    name="casa",
    version=2,
    kind=SiteKind.PRIVATE,
    facts=Facts(exposure=DECLARED, owners=OWNERS),
)


def test_a_key_is_made_once_and_for_its_owner_s_eyes(tmp_path: Path) -> None:
    path = tmp_path / "owner.key"
    key, made = load_or_make(path)
    again, remade = load_or_make(path)
    assert (made, remade) == (True, False)
    assert again.private_bytes_raw() == key.private_bytes_raw() == load(path).private_bytes_raw()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["owner.key"]


@pytest.mark.parametrize(("context", "document"), [(LAWBOOK, BOOK), (CHARTER, SITE)], ids=["lawbook", "charter"])
def test_what_was_signed_comes_back_as_it_was(context: bytes, document: object) -> None:
    key = Ed25519PrivateKey.generate()
    signed = sign_document(key, context, document)
    assert verify_document(key.public_key(), context, signed, type(document)) == document


def test_what_was_changed_is_another_s_or_was_signed_as_something_else_does_not_pass() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signed = sign_document(key, LAWBOOK, BOOK)
    changed = replace(signed, document=signed.document.replace('"MA"', '"FR"'))
    for wrong in (changed, replace(signed, signature="no base64"), sign_document(other, LAWBOOK, BOOK)):
        with pytest.raises(Denied, match="not signed by this installation's owner"):
            verify_document(key.public_key(), LAWBOOK, wrong, Lawbook)
    with pytest.raises(Denied):
        verify_document(key.public_key(), LAWBOOK, sign_document(key, CHARTER, BOOK), Lawbook)


def test_what_cannot_be_read_is_refused_with_the_place() -> None:
    key = Ed25519PrivateKey.generate()
    with pytest.raises(Invalid, match="this is no lawbook") as refusal:
        verify_document(key.public_key(), LAWBOOK, sign_document(key, LAWBOOK, PACK), Lawbook)
    assert refusal.value.where == "installation"


@pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("nonsense", "no Ed25519 key")])
def test_a_file_that_holds_no_key_says_so(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "owner.key"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Invalid, match=words) as refusal:
        load(path)
    assert refusal.value.where == str(path)
