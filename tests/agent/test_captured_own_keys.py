"""A captured control plane wants the key with which one service calls another that is sensitive: it hands other code to
the caller, goes into its replica, or states a key of its own. Sites make these keys, and the control plane has none.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_captured_control import IDENTITY, INSTALLATION, INTERNAL, NOW, OWNER, SITE, Captured, charter, law
from test_captured_deploys import ANNE, BERT, CLAIMS, PROJECT, SENSITIVE, named, signed
from test_captured_deploys import CODE as CALLING
from test_captured_errands import text, ticket

from kasbah.agent.identity import Identity as SiteFiles
from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.own_keys import OwnKeys
from kasbah.agent.paths import Paths
from kasbah.agent.signatures import KnownSignatures
from kasbah.agent.site_clock import SiteClock
from kasbah.api.attesting import OWN_KEY
from kasbah.api.errands import ticket_of, words_of, write_errand
from kasbah.api.owner import CHARTER, read_document, sign_document
from kasbah.api.signing import EXEC, READ_LOGS
from kasbah.decide.callers import Stated
from kasbah.domain.attestation import Attested, RevisionAttested
from kasbah.domain.caller import OwnKey, StatedKey
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.errand import Errand
from kasbah.domain.ids import Digest, InstallationId, RevisionId, SecretId, ServiceId, SiteId
from kasbah.domain.label import Level
from kasbah.domain.revision import Revision
from kasbah.domain.secret import SecretUse
from kasbah.domain.service import OWN_KEY_VERSION, Key, Service, Share, own_key
from kasbah.domain.site import SiteKind

OTHER_SITE = SiteId("st-a")
CODE = replace(CALLING, egress=())
USE = SecretUse(variable=OWN_KEY, secret=SecretId("key-sv-shop"), version=OWN_KEY_VERSION)
SHOP_CODE = replace(CODE, id=RevisionId("rv-shop"), calls=("claims",), secrets=(USE,))
SHOP = Service(
    id=ServiceId("sv-shop"),
    project=PROJECT,
    name="shop",
    hosts=("shop.x",),
    label=INTERNAL,
    revisions=(SHOP_CODE,),
    shares=(Share(revision=SHOP_CODE.id, percent=100),),
)


def signed_shop(revision: Revision = SHOP_CODE, key: Ed25519PrivateKey = ANNE, **more: object) -> Attested:
    return signed(revision, key, INTERNAL, service="shop", **more)


def told_shop(revision: Revision = SHOP_CODE, attested: Attested | None = None) -> dict[str, object]:
    """The shop as a site is told it."""
    shop = replace(SHOP, revisions=(revision,), shares=(Share(revision=revision.id, percent=100),))
    found = () if attested is None else (RevisionAttested(service=SHOP.id, revision=revision.id, attested=attested),)
    return {"services": (shop,), "attestations": found}


class Elsewhere:
    """Another site, where the shop runs that calls the claims here."""

    def __init__(self, folder: Path) -> None:
        paths = Paths(folder)
        for one in (paths.secrets, paths.identity):
            one.mkdir(parents=True)
        self.files = SiteFiles(paths.identity)
        self.files.request()
        self.keys = OwnKeys(paths)

    def state(
        self,
        revision: Revision = SHOP_CODE,
        attested: Attested | None = None,
        deployers: tuple[Signed, ...] = (named(),),
        site: SiteId = OTHER_SITE,
    ) -> tuple[StatedKey, ...]:
        """What it states when it is told to run this."""
        plain = DesiredState(
            installation=INSTALLATION, epoch=1, generation=1, site=site, issued_at=NOW, base_domain="x"
        )
        told = replace(plain, **told_shop(revision, attested), deployers=deployers)  # type: ignore[arg-type]
        known = KnownSignatures().look(OWNER.public_key(), IDENTITY, told, NOW)
        self.keys.look(IDENTITY, told, known)
        return self.keys.stated

    def key(self, revision: Revision = SHOP_CODE) -> str:
        """What the shop's replicas are given."""
        found = self.keys.value(USE, revision)
        assert found is not None
        return found

    def charter(self, *, key: Ed25519PrivateKey = OWNER) -> Signed:
        """What the owner signed of it, when its agent joined."""
        made = Charter(
            installation=INSTALLATION,
            site=OTHER_SITE,
            name="a",
            version=2,
            kind=SiteKind.ON_PREM,
            gateway_key=self.files.fingerprint(),
        )
        return sign_document(key, CHARTER, made)


class Here(Captured):
    """The captured site: the claims run here."""

    def start(self) -> None:
        paths = Paths(self.folder / "agent")
        paths.secrets.mkdir(parents=True, exist_ok=True)
        self.site_clock = SiteClock(self.folder / "time.json", self.clock)
        self.keys = OwnKeys(paths)
        self.word = LastWord(self.folder / "word.json", self.site_clock, own_keys=self.keys)
        self.ledger = Ledger(self.folder, self.word.judge)

    def opens(self, key: str, **more: object) -> bool:
        """Whether the claims are opened with this key, as the gateway is told."""
        claims = replace(CLAIMS, revisions=(CODE,), shares=(Share(revision=CODE.id, percent=100),))
        services = (claims, *more.pop("services", ()))  # type: ignore[misc]
        attested = RevisionAttested(service=claims.id, revision=CODE.id, attested=signed(CODE))
        said: dict[str, object] = {
            "charters": (charter("FR", version=2), *more.pop("charters", ())),  # type: ignore[misc]
            "deployers": (named(),),
            "attestations": (attested, *more.pop("attestations", ())),  # type: ignore[misc]
        }
        assert "claims" in self.tell(SENSITIVE, services=services, **(said | more))
        assert self.ledger.desired is not None
        sha256 = hashlib.sha256(key.encode()).hexdigest()
        return any(
            one.sha256 == sha256
            and (one.services is None or claims.id in one.services)
            and (one.max_level is None or one.max_level >= SENSITIVE.level)
            for one in self.ledger.desired.keys
        )


@pytest.fixture
def here(tmp_path: Path) -> Here:
    made = Here(tmp_path / "here")
    made.word.take_law(IDENTITY, law(1))
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere")


# --- at the site that is called ---------------------------------------------------------------------------------------


def test_what_a_deployer_signed_calls_with_the_key_that_its_site_made(here: Here, elsewhere: Elsewhere) -> None:
    stated = elsewhere.state(attested=signed_shop())
    assert here.opens(elsewhere.key(), own_keys=stated, charters=(elsewhere.charter(),))
    here.start()
    assert here.opens(elsewhere.key(), own_keys=stated, charters=(elsewhere.charter(),))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="nobody's signature"),
        pytest.param({"attested": signed_shop(key=BERT)}, id="a stranger's"),
        pytest.param({"attested": signed_shop(replace(SHOP_CODE, command=("other",)))}, id="of other code"),
        pytest.param({"attested": signed(SHOP_CODE, ANNE, INTERNAL)}, id="of another service"),
        pytest.param(
            {"attested": signed_shop(), "deployers": (named(max_level=Level.RESTRICTED),)}, id="of who may sign less"
        ),
    ],
)
def test_code_that_nobody_signed_for_it_is_given_a_key_that_opens_nothing_sensitive(
    here: Here, elsewhere: Elsewhere, said: dict[str, object]
) -> None:
    stated = elsewhere.state(**said)  # type: ignore[arg-type]
    assert not here.opens(elsewhere.key(), own_keys=stated, charters=(elsewhere.charter(),))


def test_other_code_is_given_another_key(elsewhere: Elsewhere) -> None:
    elsewhere.state(attested=signed_shop())
    before = elsewhere.key()
    evil = replace(SHOP_CODE, command=("send", "everything"))
    elsewhere.state(evil)
    assert elsewhere.key(evil) != before, "under the same id of a revision, too"
    elsewhere.state(attested=signed_shop())
    assert elsewhere.key() == before


def test_a_site_that_the_owner_did_not_name_states_nothing(here: Here, elsewhere: Elsewhere, tmp_path: Path) -> None:
    thief = Elsewhere(tmp_path / "thief")
    stated = thief.state(attested=signed_shop())
    assert not here.opens(thief.key(), own_keys=stated)
    assert not here.opens(thief.key(), own_keys=stated, charters=(elsewhere.charter(),))
    assert not here.opens(thief.key(), own_keys=stated, charters=(thief.charter(key=Ed25519PrivateKey.generate()),))


def test_nobody_writes_into_what_was_stated(here: Here, elsewhere: Elsewhere) -> None:
    """Neither a key of his own, nor another service that it calls, nor a higher level."""
    weak, strong = elsewhere.state(), elsewhere.state(attested=signed_shop())
    key = elsewhere.key()
    mine = "ksb_mine"
    changes = (
        (strong, hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(mine.encode()).hexdigest(), mine),
        (weak, '"up_to":2', '"up_to":4', key),
        (weak, "claims", "other", key),
    )
    for (one,), old, new, tried in changes:
        assert old in one.signed.document
        forged = replace(one, signed=replace(one.signed, document=one.signed.document.replace(old, new)))
        for found in (
            forged,
            replace(forged, key=""),
            replace(forged, key="", signed=replace(forged.signed, signature="")),
        ):
            assert not here.opens(tried, own_keys=(found,), charters=(elsewhere.charter(),))


@pytest.mark.parametrize("site", [SITE, SiteId("st-b")], ids=["this one's", "a third one's"])
def test_a_site_states_nothing_in_another_s_name(here: Here, elsewhere: Elsewhere, site: SiteId) -> None:
    stated = elsewhere.state(attested=signed_shop(), site=site)
    assert not here.opens(elsewhere.key(), own_keys=stated, charters=(elsewhere.charter(),))


def test_what_is_stated_in_another_installation_is_nothing_here(here: Here, elsewhere: Elsewhere) -> None:
    (one,) = elsewhere.state(attested=signed_shop())
    other = elsewhere.keys._sign(replace(_said(one), installation=InstallationId("in-2")))
    assert not here.opens(elsewhere.key(), own_keys=(other,), charters=(elsewhere.charter(),))


def test_the_key_opens_nothing_that_its_service_does_not_call(here: Here, elsewhere: Elsewhere) -> None:
    code = replace(SHOP_CODE, calls=("search",))
    stated = elsewhere.state(code, signed_shop(code))
    sha256 = hashlib.sha256(elsewhere.key(code).encode()).hexdigest()
    told = Key(id=own_key(SHOP.id), project=PROJECT, sha256=sha256, services=(CLAIMS.id,))
    for keys in ((), (told,), (replace(told, services=None),)):
        assert not here.opens(elsewhere.key(code), own_keys=stated, charters=(elsewhere.charter(),), keys=keys)


def test_it_goes_on_when_its_deployer_is_named_no_more(here: Here, elsewhere: Elsewhere) -> None:
    stated = elsewhere.state(attested=signed_shop())
    assert here.opens(elsewhere.key(), own_keys=stated, charters=(elsewhere.charter(),))
    lower = elsewhere.state(attested=signed_shop(), deployers=())
    assert lower != stated
    assert here.opens(elsewhere.key(), own_keys=lower, charters=(elsewhere.charter(),), deployers=())


def test_saying_it_again_is_no_news(elsewhere: Elsewhere, tmp_path: Path) -> None:
    stated = elsewhere.state(attested=signed_shop())
    elsewhere.keys = OwnKeys(Paths(tmp_path / "elsewhere"))
    assert elsewhere.state(attested=signed_shop()) == stated


# --- at the site that runs both ---------------------------------------------------------------------------------------


def test_here_too_the_code_must_be_signed_for_what_it_calls(here: Here) -> None:
    here.opens("", **told_shop())
    weak = here.word.own(USE, SHOP_CODE)
    assert weak is not None
    assert not here.opens(weak, **told_shop())
    assert here.opens(weak, **told_shop(attested=signed_shop())), "the same code, once it is signed"
    assert here.opens(weak, **told_shop()), "and what was taken stays"
    other = replace(SHOP_CODE, source=Digest("sha256:" + "c" * 64))
    here.opens("", **told_shop(other))
    key = here.word.own(USE, other)
    assert key is not None
    assert not here.opens(key, **told_shop(other))


def test_whoever_goes_into_what_holds_such_a_key_is_a_deployer(here: Here) -> None:
    """The shop is not sensitive, but its key opens what is; its log is read as before."""
    shell, logs = ticket(EXEC, SHOP.id), ticket(READ_LOGS, SHOP.id)

    def refused(said: str = "", act: str = EXEC) -> str | None:
        of = shell if act == EXEC else logs
        return here.word.refuses_errand(IDENTITY, of, text(of), words_of(("env",)), said)

    here.opens("", **told_shop())
    assert refused() is None, "its key opens nothing sensitive"
    here.opens("", **told_shop(attested=signed_shop()))
    assert refused() == "no deployer has signed it"
    assert refused(act=READ_LOGS) is None
    errand = Errand(
        installation=INSTALLATION,
        project=PROJECT,
        service="shop",
        act=EXEC,
        words=words_of(("env",)),
        ticket=ticket_of(text(shell)),
    )
    assert refused(write_errand(ANNE, errand)) is None
    assert refused(write_errand(BERT, errand)) is not None
    here.opens("", **told_shop(replace(SHOP_CODE, command=("other",))))
    here.start()
    assert refused() == "no deployer has signed it", "a replica of before may run still"


def test_two_that_are_told_with_one_id_are_given_no_key(here: Here) -> None:
    """Else whichever is told last would lend its own to the other."""
    other = replace(SHOP, id=ServiceId("sv-evil"), name="evil", hosts=("evil.x",))
    told = told_shop(attested=signed_shop())
    here.opens("", **told)
    assert here.word.own(USE, SHOP_CODE) is not None
    for services in ((other, *told["services"]), (*told["services"], other)):  # type: ignore[misc]
        here.opens("", **(told | {"services": services}))
        assert here.word.own(USE, SHOP_CODE) is None


def test_what_is_started_with_a_key_is_what_it_is_for(here: Here) -> None:
    """A start that was begun with what was told before finds no key of what is told now, of the same id."""
    evil = replace(SHOP_CODE, command=("send", "everything"))
    here.opens("", **told_shop(evil))
    assert here.word.own(USE, evil) is not None
    here.opens("", **told_shop(attested=signed_shop()))
    assert here.word.own(USE, evil) is None
    assert here.word.own(USE, replace(SHOP_CODE, calls=(), egress=("x:1",))) is not None, "what the site limits of it"


def test_a_key_that_the_control_plane_made_before_is_given_to_none_of_this(here: Here) -> None:
    old = replace(SHOP_CODE, secrets=(replace(USE, version=1),))
    here.opens("", **told_shop(old, signed_shop(old)))
    assert here.word.own(old.secrets[0], old) is None
    assert here.keys.stated == ()


def _said(stated: StatedKey) -> OwnKey:
    return read_document(stated.signed.document, OwnKey)


def test_a_statement_without_a_key_is_heard_and_proves_nothing(here: Here, elsewhere: Elsewhere) -> None:
    (one,) = elsewhere.state(attested=signed_shop())
    plain = replace(one, key="", signed=replace(one.signed, signature=""))
    told = DesiredState(
        installation=INSTALLATION,
        epoch=1,
        generation=1,
        site=SITE,
        issued_at=NOW,
        base_domain="x",
        own_keys=(plain,),
    )
    assert here.keys.hear(IDENTITY, told, {}) == (Stated(said=_said(one), proven=False),)


def test_a_site_opens_nothing_whose_answers_may_not_be_there(tmp_path: Path) -> None:
    """It may have been taken over, and states what it likes: the law says what may come to it."""
    here = Here(tmp_path / "here")
    here.word.take_law(IDENTITY, law(1))
    elsewhere = Elsewhere(tmp_path / "a")
    public = Charter(
        installation=INSTALLATION, site=OTHER_SITE, name="a", version=2, kind=SiteKind.PUBLIC,
        gateway_key=elsewhere.files.fingerprint(),
    )  # fmt: skip
    said = OwnKey(
        installation=INSTALLATION, site=OTHER_SITE, service=ServiceId("sv-anything"), project=PROJECT, name="nothing",
        sha256=hashlib.sha256(b"ksb_mine").hexdigest(), calls=("claims",), up_to=Level.VITAL,
    )  # fmt: skip
    stated = (elsewhere.keys._sign(said),)
    refused, taken = [], replace(public, version=3, kind=SiteKind.ON_PREM)
    for charter_of_it, opens in ((public, False), (taken, True)):
        signed_charter = sign_document(OWNER, CHARTER, charter_of_it)
        refused.append(here.opens("ksb_mine", own_keys=stated, charters=(signed_charter,)) == opens)
    assert refused == [True, True]
