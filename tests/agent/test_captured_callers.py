"""A captured control plane lets callers in: anybody, or whoever has a key that it made. A site opens nothing sensitive
to those whom no deployer let in whom the owner named.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_captured_control import CONTROL, IDENTITY, INSTALLATION, INTERNAL, NOW, Captured, charter, law
from test_captured_deploys import ANNE, BERT, CLAIMS, PROJECT, SENSITIVE, named, signed
from test_captured_deploys import CODE as CALLING

from kasbah.api.caller_keys import sign_key
from kasbah.domain.attestation import Attested, RevisionAttested
from kasbah.domain.caller import CallersKey
from kasbah.domain.charter import Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, KeyId, ProjectId, ServiceId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.service import Access, Key, Share, own_key

SHA = "a" * 64
CODE = replace(CALLING, egress=())
KEY = Key(id=KeyId("ky-1"), project=PROJECT, sha256=SHA, services=(CLAIMS.id,))
OTHER = replace(CLAIMS, id=ServiceId("sv-other"), name="other", hosts=("other.x",), label=INTERNAL, revisions=())


def signed_key(key: Ed25519PrivateKey = ANNE, **more: object) -> Attested:
    plain = CallersKey(installation=INSTALLATION, project=PROJECT, sha256=SHA, services=("claims",), signed_at=NOW)
    return sign_key(key, replace(plain, **more))  # type: ignore[arg-type]


class Opens(Captured):
    """The captured site, told who may call the claims, which a deployer signed, and what lies beside them."""

    def serve(
        self,
        *keys: Key,
        access: Access = Access.KEY,
        attested: Attested | None = None,
        label: Label = SENSITIVE,
        deployers: tuple[Signed, ...] = (named(),),
    ) -> DesiredState:
        """What it acts on."""
        revision = CODE.id
        claims = replace(
            CLAIMS, label=label, access=access, revisions=(CODE,), shares=(Share(revision=revision, percent=100),)
        )
        self.tell(
            label,
            services=(claims, OTHER),
            keys=keys,
            charters=(charter("FR", version=2),),
            deployers=deployers,
            attestations=(
                RevisionAttested(service=claims.id, revision=revision, attested=attested or signed(CODE, public=False)),
            ),
        )
        assert self.ledger.desired is not None
        assert [one.name for one in self.ledger.desired.services] == ["claims", "other"]
        return self.ledger.desired

    def public(self, attested: Attested | None = None, **more: object) -> bool:
        """Whether anybody may call the claims where the control plane says so."""
        found = self.serve(access=Access.PUBLIC, attested=attested, **more)  # type: ignore[arg-type]
        return found.services[0].access is Access.PUBLIC

    def opens(self, key: Key = KEY, **more: object) -> bool:
        """Whether this key opens the claims, as the gateway is told: by its services and its ceiling."""
        desired = self.serve(key, **more)  # type: ignore[arg-type]
        claims = desired.services[0]
        return any(
            (found.services is None or claims.id in found.services)
            and (found.max_level is None or claims.label.level <= found.max_level)
            for found in desired.keys
        )


@pytest.fixture
def site(tmp_path: Path) -> Opens:
    made = Opens(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


# --- anybody ----------------------------------------------------------------------------------------------------------


def test_anybody_may_call_what_a_deployer_signed_so(site: Opens) -> None:
    assert site.public(signed(CODE, public=True))


@pytest.mark.parametrize(
    "attested", [signed(CODE), signed(CODE, public=False)], ids=["nothing said", "holders of keys"]
)
def test_nobody_else_says_that_anybody_may_call(site: Opens, attested: Attested) -> None:
    assert not site.public(attested)
    (note,) = site.word.notes(IDENTITY)
    assert note.startswith("claims: it asks callers for a key here: its data is sensitive")
    assert "kasbah deployers add" in note


def test_what_is_not_sensitive_may_be_public_unsigned_and_what_nobody_labelled_may_not(site: Opens) -> None:
    assert site.public(label=INTERNAL)
    later = Opens(site.folder.parent / "another")
    later.word.take_law(IDENTITY, law(1))
    assert not later.public(signed(CODE, label=UNLABELLED), label=UNLABELLED)


def test_it_stays_public_when_its_deployer_is_named_no_more_and_after_a_restart(site: Opens) -> None:
    assert site.public(signed(CODE, public=True))
    site.clock.advance(timedelta(days=91))
    assert site.public(signed(CODE, public=True), deployers=())
    site.start()
    assert site.public(signed(CODE, public=True), deployers=())


def test_an_old_word_opens_nothing_again(site: Opens) -> None:
    before, after = signed(CODE, public=True), signed(CODE, public=False, signed_at=NOW + timedelta(minutes=1))
    assert site.public(before)
    assert not site.public(after)
    assert not site.public(before)
    site.start()
    assert not site.public(before)
    assert site.public(signed(CODE, public=True, signed_at=NOW + timedelta(minutes=2)))


def test_that_anybody_may_call_what_was_less_sensitive_is_no_word_about_what_is(site: Opens) -> None:
    before = signed(CODE, public=True, label=INTERNAL)
    assert site.public(before, label=INTERNAL)
    assert not site.public(before)


@pytest.mark.parametrize(
    "change", [{"service": "other"}, {"project": ProjectId("pr-2")}, {"installation": InstallationId("in-2")}]
)
def test_another_s_word_opens_nothing(site: Opens, change: dict[str, object]) -> None:
    assert site.serve().services[0].access is Access.KEY  # the code is taken
    assert not site.public(signed(CODE, public=True, **change))


@pytest.mark.parametrize("key", [BERT, CONTROL])
def test_who_is_not_named_opens_nothing(site: Opens, key: Ed25519PrivateKey) -> None:
    site.serve()
    assert not site.public(signed(CODE, key=key, public=True))


def test_who_is_named_for_less_opens_no_more(site: Opens) -> None:
    site.serve()
    restricted = (named(), named(BERT, max_level=Level.RESTRICTED))
    assert not site.public(signed(CODE, key=BERT, public=True), deployers=restricted)
    assert not site.opens(replace(KEY, attested=signed_key(BERT)), deployers=restricted)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_that_a_deployer_signed_opens(site: Opens) -> None:
    assert site.opens(replace(KEY, attested=signed_key()))
    assert site.opens(replace(KEY, services=None, attested=signed_key(services=(), signed_at=NOW + timedelta(1))))


def test_a_key_that_nobody_signed_opens_what_is_not_sensitive_alone(site: Opens) -> None:
    for key in (KEY, replace(KEY, services=None), replace(KEY, max_level=Level.VITAL)):
        assert not site.opens(key)
    fresh = Opens(site.folder.parent / "another")
    fresh.word.take_law(IDENTITY, law(1))
    assert fresh.opens(KEY, label=INTERNAL)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sha256": "b" * 64}, id="another key"),
        pytest.param({"services": ("other",)}, id="another service"),
        pytest.param({"project": ProjectId("pr-2")}, id="another project"),
        pytest.param({"installation": InstallationId("in-2")}, id="another installation"),
        pytest.param({"max_level": Level.RESTRICTED}, id="a lower ceiling"),
    ],
)
def test_a_signature_of_something_else_opens_nothing(site: Opens, change: dict[str, object]) -> None:
    assert not site.opens(replace(KEY, attested=signed_key(**change)))


def test_a_key_opens_no_more_than_was_signed(site: Opens) -> None:
    assert not site.opens(replace(KEY, services=None, attested=signed_key()))
    assert not site.opens(replace(KEY, services=(CLAIMS.id, OTHER.id), attested=signed_key()))
    assert site.opens(replace(KEY, attested=signed_key()))
    assert not site.opens(replace(KEY, services=None, attested=signed_key())), "nor once it was taken"


@pytest.mark.parametrize("key", [BERT, CONTROL])
def test_a_key_signed_by_who_is_not_named_opens_nothing(site: Opens, key: Ed25519PrivateKey) -> None:
    assert not site.opens(replace(KEY, attested=signed_key(key)))
    assert not site.opens(replace(KEY, attested=signed_key(key)), deployers=(named(), named(key, by=CONTROL)))


def test_it_ends_when_it_was_signed_to_end_whatever_is_told(site: Opens) -> None:
    ends = NOW + timedelta(hours=1)
    attested = signed_key(expires_at=ends)
    assert site.opens(replace(KEY, attested=attested))
    assert site.serve(replace(KEY, attested=attested)).keys[0].expires_at == ends
    site.clock.advance(timedelta(hours=2))
    assert not site.opens(replace(KEY, attested=attested))
    assert not site.opens(replace(KEY, expires_at=NOW + timedelta(days=9), attested=attested))


def test_what_was_taken_stays_when_its_deployer_is_named_no_more(site: Opens) -> None:
    key = replace(KEY, attested=signed_key())
    assert site.opens(key)
    site.clock.advance(timedelta(days=91))
    site.start()
    assert site.opens(key, deployers=())
    assert not site.opens(replace(KEY, id=KeyId("ky-2"), sha256="b" * 64), deployers=())


def test_one_id_is_one_key(site: Opens) -> None:
    """The gateway knows by a key's id what it opens: another with that id would lend it its services."""
    signed_for_other = replace(KEY, services=(OTHER.id,), attested=signed_key(services=("other",)))
    desired = site.serve(signed_for_other, replace(KEY, sha256="b" * 64))
    assert [(one.sha256, one.services) for one in desired.keys] == [(SHA, (OTHER.id,))]


def test_a_service_s_own_key_that_the_control_plane_knows_opens_nothing_sensitive(site: Opens) -> None:
    assert not site.opens(replace(KEY, id=own_key(OTHER.id)))


# --- a site that asked nobody before ----------------------------------------------------------------------------------


def test_what_a_site_held_before_it_asked_stays_and_nothing_more(site: Opens) -> None:
    assert site.serve(KEY, access=Access.PUBLIC, attested=signed(CODE)).services[0].access is not Access.PUBLIC
    kept = json.loads((site.folder / "word.json").read_text())
    del kept["signatures"]["keys"], kept["signatures"]["opened"]
    (site.folder / "word.json").write_text(json.dumps(kept))
    site.start()
    found = site.serve(KEY, access=Access.PUBLIC, attested=signed(CODE))
    assert found.services[0].access is Access.PUBLIC
    assert site.opens(KEY)
    site.start()
    assert site.opens(KEY)
    assert not site.opens(replace(KEY, services=None))
    assert not site.opens(replace(KEY, id=KeyId("ky-2"), sha256="b" * 64))
    assert not site.public(signed(CODE, public=False))
