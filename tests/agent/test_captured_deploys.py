"""A captured control plane deploys: other code, another command, another way out, under every pretext. A site runs no
revision of a sensitive service that a deployer did not sign whom the owner named.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_captured_control import CONTROL, IDENTITY, INSTALLATION, INTERNAL, NOW, OWNER, PUBLIC, Captured, charter, law

from kasbah.api.attesting import attest, contents_of, digest_of
from kasbah.api.owner import DEPLOYER, sign_document
from kasbah.api.signing import public_text
from kasbah.domain.attestation import Attestation, Attested, RevisionAttested
from kasbah.domain.charter import Signed
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, RolloutId, SecretId, ServiceId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.revision import Revision, Runtime, Volume
from kasbah.domain.secret import Delivery, SecretUse
from kasbah.domain.service import Service, Share, Trial

ANNE, BERT = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SENSITIVE = Label(level=Level.SENSITIVE)
PROJECT = ProjectId("pr-1")
CODE = Revision(
    id=RevisionId("rv-good"),
    source=Digest("sha256:" + "a" * 64),
    source_size=10,
    runtime=Runtime.COMMAND,
    command=("serve",),
    env=(("MODE", "quiet"),),
    secrets=(SecretUse(variable="DB", secret=SecretId("se-1"), version=1),),
    egress=("db.internal:5432",),
)
CLAIMS = Service(
    id=ServiceId("sv-claims"), project=PROJECT, name="claims", hosts=("claims.x",), label=SENSITIVE, revisions=(CODE,)
)


def named(key: Ed25519PrivateKey = ANNE, by: Ed25519PrivateKey = OWNER, **more: object) -> Signed:
    plain = Deployer(
        installation=INSTALLATION,
        name="anne",
        key=public_text(key),
        evidence="she runs the claims",
        issued_at=NOW,
        expires_at=NOW + timedelta(days=90),
    )
    return sign_document(by, DEPLOYER, replace(plain, **more))  # type: ignore[arg-type]


def signed(
    revision: Revision = CODE, key: Ed25519PrivateKey = ANNE, label: Label = SENSITIVE, **more: object
) -> Attested:
    plain = Attestation(
        installation=INSTALLATION,
        project=PROJECT,
        service="claims",
        contents=digest_of(contents_of(revision)),
        label=label,
        signed_at=NOW,
    )
    return attest(key, replace(plain, **more))  # type: ignore[arg-type]


class Deploys(Captured):
    """The captured site, told of revisions."""

    def serve(
        self,
        *revisions: Revision,
        attested: Attested | None = None,
        service: Service = CLAIMS,
        deployers: tuple[Signed, ...] = (named(),),
    ) -> list[str]:
        """Have the site told to run these, the last with all traffic and this signature; what it then runs."""
        last = revisions[-1]
        wanted = replace(service, revisions=revisions, shares=(Share(revision=last.id, percent=100),))
        return self.tell(
            wanted.label,
            services=(wanted,),
            charters=(charter("FR", version=2),),
            deployers=deployers,
            attestations=()
            if attested is None
            else (RevisionAttested(service=wanted.id, revision=last.id, attested=attested),),
        )


@pytest.fixture
def site(tmp_path: Path) -> Deploys:
    made = Deploys(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


def test_what_its_deployer_signed_runs(site: Deploys) -> None:
    assert site.serve(CODE, attested=signed()) == ["claims"]


def test_what_nobody_signed_does_not_and_the_site_says_what_to_do(site: Deploys) -> None:
    assert site.serve(CODE) == []
    (note,) = site.word.notes(IDENTITY)
    assert "its data is sensitive, and of its revision rv-good: no deployer has signed it" in note
    assert "kasbah deployers add" in note


def test_what_is_not_sensitive_needs_no_signature(site: Deploys) -> None:
    for label in (PUBLIC, INTERNAL):
        assert site.serve(CODE, service=replace(CLAIMS, label=label)) == ["claims"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"source": Digest("sha256:" + "b" * 64)}, id="code"),
        pytest.param({"runtime": Runtime.PYTHON}, id="runtime"),
        pytest.param({"command": ("sh", "-c", "send everything")}, id="command"),
        pytest.param({"env": (("MODE", "quiet"), ("PROXY", "evil:1"))}, id="environment"),
        pytest.param({"egress": ("evil.example:443",)}, id="egress"),
        pytest.param({"egress": None}, id="open egress"),
        pytest.param({"calls": ("exfiltrate",)}, id="calls"),
        pytest.param({"port": 9}, id="port"),
        pytest.param({"volumes": (Volume(name="v", path="v", size=1),)}, id="volume"),
        pytest.param({"secrets": ()}, id="no secret"),
        pytest.param(
            {"secrets": (SecretUse(variable="LD_PRELOAD", secret=SecretId("se-1"), version=1),)}, id="another variable"
        ),
        pytest.param(
            {"secrets": (SecretUse(variable="DB", secret=SecretId("se-1"), version=1, delivery=Delivery.FILE),)},
            id="delivery",
        ),
    ],
)
def test_nothing_else_runs_under_its_signature(site: Deploys, change: dict[str, object]) -> None:
    """Neither under an id of its own nor under that of what was signed, before or after that ran."""
    for revision in (replace(CODE, **change), replace(CODE, id=RevisionId("rv-evil"), **change)):  # type: ignore[arg-type]
        assert site.serve(revision, attested=signed()) == []
        assert "its deployer signed other contents" in site.word.refused["claims"]
    assert site.serve(CODE, attested=signed()) == ["claims"]
    assert site.serve(replace(CODE, **change), attested=signed()) == []  # type: ignore[arg-type]


def test_a_new_version_of_a_secret_needs_no_deployer(site: Deploys) -> None:
    later = replace(CODE, id=RevisionId("rv-2"), secrets=(replace(CODE.secrets[0], version=2),))
    assert site.serve(later, attested=signed()) == ["claims"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param({"service": "shop"}, id="another service"),
        pytest.param({"project": ProjectId("pr-2")}, id="another project"),
        pytest.param({"installation": InstallationId("in-2")}, id="another installation"),
    ],
)
def test_what_was_signed_as_something_else_is_worth_nothing(site: Deploys, elsewhere: dict[str, object]) -> None:
    assert site.serve(CODE, attested=signed(**elsewhere)) == []
    assert "it was signed as service" in site.word.refused["claims"]


def test_a_signature_that_was_changed_is_none(site: Deploys) -> None:
    good = signed(replace(CODE, command=("other",)))
    bent = replace(good.signed, document=signed().signed.document)
    assert site.serve(CODE, attested=replace(good, signed=bent)) == []
    assert site.serve(CODE, attested=replace(signed(), key=public_text(BERT))) == []


def test_an_older_revision_that_was_signed_may_come_back(site: Deploys) -> None:
    """A rollback needs nobody: what its deployer signed once is his, and no other code."""
    newer = replace(CODE, id=RevisionId("rv-2"), command=("serve", "--new"))
    assert site.serve(CODE, attested=signed()) == ["claims"]
    assert site.serve(CODE, newer, attested=signed(newer)) == ["claims"]
    assert site.serve(CODE) == ["claims"]


def test_what_runs_goes_on_while_another_is_tried_that_nobody_signed(site: Deploys) -> None:
    site.serve(CODE, attested=signed())
    evil = replace(CODE, id=RevisionId("rv-evil"), command=("send",))
    trial = Trial(rollout=RolloutId("ro-1"), revision=evil.id)
    shares = (Share(revision=CODE.id, percent=50), Share(revision=evil.id, percent=50))
    wanted = replace(CLAIMS, revisions=(CODE, evil), shares=shares, trial=trial)
    assert site.tell(SENSITIVE, services=(wanted,), charters=(charter("FR", version=2),), deployers=(named(),)) == [
        "claims"
    ]
    assert site.ledger.desired is not None
    (left,) = site.ledger.desired.services
    assert ([one.id for one in left.revisions], left.trial) == (["rv-good"], None)
    assert left.shares == (Share(revision=CODE.id, percent=100),)
    (refusal,) = site.word.turned_away
    assert (refusal.service, refusal.revisions) == ("sv-claims", (("rv-evil", ""),))


# --- who signs --------------------------------------------------------------------------------------------------------


def test_only_the_owner_names_deployers(site: Deploys) -> None:
    for forged in (named(BERT, by=CONTROL), named(BERT, by=BERT)):
        assert site.serve(CODE, attested=signed(key=BERT), deployers=(forged,)) == []
    other = named(installation=InstallationId("in-2"))
    assert site.serve(CODE, attested=signed(), deployers=(other,)) == []
    assert site.serve(CODE, attested=signed(key=BERT)) == [], "anne is named, bert is not"


def test_a_deployer_signs_for_the_projects_and_levels_that_are_his(site: Deploys) -> None:
    for less in ({"projects": (ProjectId("pr-2"),)}, {"max_level": Level.RESTRICTED}):
        assert site.serve(CODE, attested=signed(), deployers=(named(**less),)) == []
    assert site.serve(CODE, attested=signed(), deployers=(named(projects=(PROJECT,)),)) == ["claims"]


def test_what_was_taken_outlives_its_deployer_s_naming_and_nothing_new_comes(site: Deploys) -> None:
    assert site.serve(CODE, attested=signed()) == ["claims"]
    site.clock.advance(timedelta(days=90))
    assert site.runs() == ["claims"]
    newer = replace(CODE, id=RevisionId("rv-2"), command=("serve", "--new"))
    assert site.serve(CODE, newer, attested=signed(newer)) == []
    assert "or no more" in site.word.refused["claims"]
    site.start()
    assert site.serve(CODE) == ["claims"], "and that is remembered over a restart"
    assert site.serve(CODE, service=replace(CLAIMS, label=Label(level=Level.VITAL))) == [], "for what it was taken"


def test_who_is_told_of_no_more_does_not_come_back(site: Deploys) -> None:
    """His naming was taken back; who hides nothing today cannot use it tomorrow."""
    site.serve(CODE, attested=signed(), deployers=())
    assert site.serve(CODE, attested=signed()) == ["claims"], "he had not been told of before"
    site.serve(CODE, deployers=())
    newer = replace(CODE, id=RevisionId("rv-2"), command=("serve", "--new"))
    assert site.serve(newer, attested=signed(newer)) == []
    site.start()
    assert site.serve(newer, attested=signed(newer)) == [], "nor after a restart"
    again = named(issued_at=NOW - timedelta(seconds=1))
    assert site.serve(newer, attested=signed(newer), deployers=(again,)) == ["claims"], "the owner named him again"


def test_who_is_named_from_later_on_is_taken_then(site: Deploys) -> None:
    soon = named(issued_at=NOW + timedelta(minutes=1))
    assert site.serve(CODE, attested=signed(), deployers=(soon,)) == []
    site.clock.advance(timedelta(minutes=1))
    assert site.runs() == ["claims"]


# --- labels and hosts -------------------------------------------------------------------------------------------------


def test_the_host_of_a_sensitive_service_is_given_to_no_other_as_public(site: Deploys) -> None:
    site.serve(CODE, attested=signed())
    thief = replace(CLAIMS, id=ServiceId("sv-thief"), label=PUBLIC)
    evil = replace(CODE, command=("keep what callers send",))
    assert site.serve(evil, service=thief) == []
    public_shop = signed(label=PUBLIC, service="shop")  # what the real shop's deployer signed of it
    assert site.serve(evil, service=replace(thief, name="shop"), attested=public_shop) == []
    assert site.serve(evil, service=replace(thief, hosts=("new.x",))) == ["claims"], "at a host of its own it may be"


@pytest.mark.parametrize(
    ("host", "revision"),
    [
        ("*.x", "rv-evil"),
        ("*", "rv-evil"),
        ("claims.*", "rv-evil"),
        ("Claims.X", "rv-evil"),
        ("rv-0123456789abcdef.claims.x", "rv-evil"),
        ("x", "claims"),
    ],
)
def test_nor_by_a_host_that_is_written_otherwise_or_stands_for_several(site: Deploys, host: str, revision: str) -> None:
    site.serve(CODE, attested=signed())
    thief = replace(CLAIMS, id=ServiceId("sv-thief"), name="thief", label=PUBLIC, hosts=(host,))
    evil = replace(CODE, id=RevisionId(revision), command=("keep what callers send",))
    assert site.serve(evil, service=thief) == []


def test_nor_is_it_called_public_where_it_answers_elsewhere(site: Deploys) -> None:
    """Its volumes stay with the service, whatever its hosts are."""
    code = replace(CODE, volumes=(Volume(name="v", path="v", size=1),))
    bare = replace(CLAIMS, label=UNLABELLED)
    assert site.serve(code, service=bare, attested=signed(code, label=UNLABELLED)) == ["claims"]
    evil = replace(code, id=RevisionId("rv-evil"), command=("send",), egress=None)
    elsewhere = replace(CLAIMS, label=PUBLIC, hosts=("elsewhere.x",))
    assert site.serve(evil, service=elsewhere) == []
    site.start()
    assert site.serve(evil, service=elsewhere) == []


def test_what_nobody_labelled_is_not_called_public_without_a_signature(site: Deploys) -> None:
    bare = replace(CLAIMS, label=UNLABELLED)
    assert site.serve(CODE, service=bare, attested=signed(label=UNLABELLED)) == ["claims"]
    evil = replace(CODE, id=RevisionId("rv-evil"), command=("send",))
    assert site.serve(evil, service=replace(CLAIMS, label=PUBLIC)) == []
    once = signed(label=PUBLIC, signed_at=NOW - timedelta(days=1))
    assert site.serve(evil, service=replace(CLAIMS, label=PUBLIC), attested=once) == [], "what was signed before that"
    now = signed(label=PUBLIC, signed_at=NOW + timedelta(seconds=1))
    assert site.serve(evil, service=replace(CLAIMS, label=PUBLIC), attested=now) == ["claims"], (
        "its deployer says that it is public: then any code may be"
    )


# --- what was there before --------------------------------------------------------------------------------------------


def older(folder: Path) -> Deploys:
    """A site whose ledger holds a revision that nobody signed: its agent was of a version that asked for none."""
    site = Deploys(folder)
    site.word.take_law(IDENTITY, law(1))
    site.serve(CODE)
    kept = folder / "word.json"
    written = json.loads(kept.read_text())
    del written["signatures"]
    kept.write_text(json.dumps(written))
    site.start()
    return site


def test_what_a_site_held_before_it_asked_for_signatures_stays(tmp_path: Path) -> None:
    site = older(tmp_path / "ledger")
    assert site.runs() == ["claims"]
    site.start()
    assert site.runs() == ["claims"]
    evil = replace(CODE, command=("send",))
    assert site.serve(evil) == []
    site.start()
    assert site.serve(evil) == [], "once, and never again"
    assert site.serve(CODE) == ["claims"]


def test_a_new_site_takes_nothing_on_trust(tmp_path: Path) -> None:
    site = Deploys(tmp_path / "ledger")
    site.word.take_law(IDENTITY, law(1))
    assert site.serve(CODE) == []
    site.start()
    assert site.runs() == []


def test_a_clock_that_has_no_zone_names_nobody(site: Deploys) -> None:
    bare = named(issued_at=datetime(2026, 1, 1), expires_at=datetime(2027, 1, 1))  # noqa: DTZ001
    assert site.serve(CODE, attested=signed(), deployers=(bare,)) == []
