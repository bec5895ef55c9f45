"""A captured control plane: it has the key that signs desired states, the database and the authority; not the owner's.

It can stop services. It cannot have a site serve, or send on, what the owner's own words do not allow there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.agent.last_word import NO_OWNER, LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import DESIRED_STATE, Identity
from kasbah.api.owner import CHARTER, DECLASSIFICATION, LAWBOOK, sign_document
from kasbah.api.signing import DESIRED, public_text, sign
from kasbah.clock import ManualClock
from kasbah.domain.charter import Charter, Fact, Facts, Lawbook, Signed
from kasbah.domain.desired import DesiredState, SignedGrant
from kasbah.domain.grant import Declassification, GrantKind
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Pack
from kasbah.domain.service import Service
from kasbah.domain.site import SiteKind
from kasbah.errors import Denied
from kasbah.packs import shipped

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
INSTALLATION, SITE = InstallationId("in-1"), SiteId("st-us")
OWNER, CONTROL, THIEF = (Ed25519PrivateKey.generate() for _ in range(3))
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))
PUBLIC = Label(level=Level.PUBLIC)
INTERNAL = Label(level=Level.INTERNAL)
IDENTITY = Identity(
    installation=INSTALLATION,
    site=SITE,
    site_name="virginia",
    public_key=public_text(CONTROL),
    owner_key=public_text(OWNER),
)
ALL = tuple(pack for pack in shipped() if not pack.draft)
OPEN = Pack(
    name="gdpr",
    title="Anything goes",
    version=9,
    policies='@id("gdpr.open") @title("x") @advice("x") @cite("x") @verified("2026-01-01") @unmet("x") @level("4")\n'
    "permit (principal, action, resource);\n",
)


def charter(country: str, version: int = 1, key: Ed25519PrivateKey = OWNER, until: date | None = None) -> Signed:
    said = Fact(value=country, source="a contract", since=date(2026, 1, 1), until=until)
    made = Charter(
        installation=INSTALLATION,
        site=SITE,
        name="virginia",
        version=version,
        kind=SiteKind.PUBLIC,
        facts=Facts(country=said, exposure=replace(said, value=frozenset({country}))),
    )
    return sign_document(key, CHARTER, made)


def law(version: int, *packs: Pack, key: Ed25519PrivateKey = OWNER) -> Signed:
    return sign_document(
        key, LAWBOOK, Lawbook(installation=INSTALLATION, version=version, home="FR", packs=packs or ALL)
    )


class Captured:
    """A site, and whoever speaks to it with the control plane's key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.clock = ManualClock(NOW)
        self.generation = 0
        self.start()
        if self.ledger.identity is None:
            self.ledger.pin(IDENTITY)

    def start(self) -> None:
        self.site_clock = SiteClock(self.folder / "time.json", self.clock)
        self.word = LastWord(self.folder / "word.json", self.site_clock)
        self.ledger = Ledger(self.folder, self.word.judge)

    def tell(self, label: Label, **more: object) -> list[str]:
        """Have the site told to run a service with this label; what it then runs."""
        self.generation += 1
        service = Service(
            id=ServiceId("sv-claims"), project=ProjectId("pr-1"), name="claims", hosts=("claims.x",), label=label
        )
        state = DesiredState(
            installation=INSTALLATION,
            epoch=1,
            generation=self.generation,
            site=SITE,
            issued_at=NOW,
            base_domain="x",
            services=(service,),
            charters=(charter("US"),),
            lawbook=1,
        )
        body = DESIRED_STATE.dump_json(replace(state, **more))  # type: ignore[arg-type]
        self.ledger.accept(body, sign(CONTROL, DESIRED, body))
        return self.runs()

    def runs(self) -> list[str]:
        self.ledger.rejudge()
        assert self.ledger.desired is not None
        return [one.name for one in self.ledger.desired.services]


@pytest.fixture
def site(tmp_path: Path) -> Captured:
    made = Captured(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


def test_public_data_is_held_to_the_law_too_where_it_says_something_of_it(site: Captured) -> None:
    house = Pack(
        name="house",
        title="Ours",
        version=1,
        policies='@id("house.none") @title("x") @advice("x") @cite("x") @verified("2026-01-01")\n'
        'forbid (principal, action, resource) when { resource.kind == "public" };\n',
    )
    assert site.tell(PUBLIC) == ["claims"]
    site.word.take_law(IDENTITY, law(2, *ALL, house))
    assert site.runs() == []


def test_what_is_lawful_is_served(site: Captured) -> None:
    assert site.tell(PUBLIC) == ["claims"]
    assert site.tell(PERSONAL, charters=(charter("FR", version=2),)) == ["claims"]


def test_sensitive_data_is_not_taken_to_where_it_may_not_be(site: Captured) -> None:
    assert site.tell(PERSONAL) == []
    (note,) = site.word.notes(IDENTITY)
    assert note.startswith("claims is refused here: the law that the owner signed refuses it here: ")
    assert "gdpr.transfer" in note


def test_the_site_is_not_talked_into_another_country(site: Captured) -> None:
    assert site.tell(PERSONAL, charters=(charter("FR", version=2, key=CONTROL),)) == []
    assert site.tell(PERSONAL, charters=(charter("FR", version=2, key=THIEF),)) == []
    other = sign_document(OWNER, LAWBOOK, Lawbook(installation=INSTALLATION, version=2, home="FR", packs=ALL))
    assert site.tell(PERSONAL, charters=(other,)) == [], "a law is no charter"


def test_an_older_charter_does_not_come_back(site: Captured) -> None:
    assert site.tell(PERSONAL, charters=(charter("FR", version=2),)) == ["claims"]
    assert site.tell(PERSONAL, charters=(charter("US", version=3),)) == []
    assert site.tell(PERSONAL, charters=(charter("FR", version=2),)) == []
    site.start()
    assert site.tell(PERSONAL, charters=(charter("FR", version=2),)) == [], "nor after a restart"


def test_no_law_of_its_own_is_taken(site: Captured) -> None:
    for forged in (law(2, OPEN, key=CONTROL), law(2, OPEN, key=THIEF)):
        with pytest.raises(Denied):
            site.word.take_law(IDENTITY, forged)
    assert site.tell(PERSONAL, lawbook=2) == []


def test_an_older_law_does_not_come_back(site: Captured) -> None:
    site.word.take_law(IDENTITY, law(3))
    with pytest.raises(Denied, match="older"):
        site.word.take_law(IDENTITY, law(2, OPEN))
    site.start()
    with pytest.raises(Denied, match="older"):
        site.word.take_law(IDENTITY, law(2, OPEN))
    assert site.tell(PERSONAL) == []


def test_a_lower_label_needs_the_owner(site: Captured) -> None:
    site.tell(PERSONAL)
    assert site.tell(PUBLIC) == [], "it was sensitive a moment ago"
    lowered = Declassification(
        installation=INSTALLATION,
        service=ServiceId("sv-claims"),
        to=PUBLIC,
        evidence="anonymised",
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    forged = SignedGrant(kind=GrantKind.DECLASSIFICATION, signed=sign_document(CONTROL, DECLASSIFICATION, lowered))
    assert site.tell(PUBLIC, grants=(forged,)) == []
    real = SignedGrant(kind=GrantKind.DECLASSIFICATION, signed=sign_document(OWNER, DECLASSIFICATION, lowered))
    assert site.tell(PUBLIC, grants=(real,)) == ["claims"]
    site.clock.advance(timedelta(hours=1))
    assert site.runs() == [], "it ends by itself, whoever is away"


def test_labels_are_remembered_over_a_restart(site: Captured) -> None:
    site.tell(PERSONAL)
    site.start()
    assert site.tell(PUBLIC) == []


def test_before_it_holds_a_law_it_serves_what_is_public_alone(tmp_path: Path) -> None:
    bare = Captured(tmp_path / "ledger")
    assert bare.tell(INTERNAL) == []
    assert Captured(tmp_path / "other").tell(PUBLIC) == ["claims"]


def test_a_restart_is_no_word_from_the_control_plane(tmp_path: Path) -> None:
    """How long a site that is cut off goes on is counted from what it heard, not from when it was started."""
    book = Lawbook(installation=INSTALLATION, version=1, home="FR", packs=ALL, stale_after={2: timedelta(hours=1)})
    site = Captured(tmp_path / "ledger")
    site.word.take_law(IDENTITY, sign_document(OWNER, LAWBOOK, book))
    assert site.tell(PERSONAL, charters=(charter("FR"),)) == ["claims"]
    site.clock.advance(timedelta(minutes=50))
    site.site_clock.heard()
    site.clock.advance(timedelta(minutes=50))
    assert site.runs() == ["claims"]
    site.clock.advance(timedelta(minutes=11))
    assert site.runs() == []
    site.start()
    assert site.runs() == []


def test_a_clock_that_is_set_back_makes_nothing_hold_for_longer(tmp_path: Path) -> None:
    book = Lawbook(installation=INSTALLATION, version=1, home="FR", packs=ALL, stale_after={2: timedelta(hours=1)})
    site = Captured(tmp_path / "ledger")
    site.word.take_law(IDENTITY, sign_document(OWNER, LAWBOOK, book))
    assert site.tell(PERSONAL, charters=(charter("FR"),)) == ["claims"]
    site.word.clock.heard()
    site.clock.set(timedelta(days=-30))
    assert site.runs() == ["claims"]
    site.clock.advance(timedelta(minutes=61))
    assert site.runs() == []


def test_a_clock_that_is_behind_is_led_by_what_the_control_plane_signed(site: Captured) -> None:
    """A grant that was made just now holds, and one that ended has ended, by the later of both times."""
    site.clock.set(timedelta(hours=-2))
    site.tell(PERSONAL)
    lowered = Declassification(
        installation=INSTALLATION,
        service=ServiceId("sv-claims"),
        to=PUBLIC,
        evidence="anonymised",
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    grant = SignedGrant(kind=GrantKind.DECLASSIFICATION, signed=sign_document(OWNER, DECLASSIFICATION, lowered))
    assert site.tell(PUBLIC, grants=(grant,)) == ["claims"]
    site.clock.advance(timedelta(hours=1))
    assert site.runs() == []


def test_a_clock_that_was_ahead_for_a_while_leaves_nothing_refused(site: Captured) -> None:
    ends = Charter(
        installation=INSTALLATION,
        site=SITE,
        name="virginia",
        version=2,
        kind=SiteKind.PUBLIC,
        facts=Facts(country=Fact(value="FR", source="a contract", since=date(2026, 1, 1), until=date(2026, 11, 27))),
    )
    assert site.tell(PERSONAL, charters=(sign_document(OWNER, CHARTER, ends),)) == ["claims"]
    site.clock.set(timedelta(days=9))
    assert site.runs() == []
    site.clock.set(timedelta(days=-9))
    assert site.runs() == ["claims"]


def test_what_it_held_is_believed_only_as_the_owner_signed_it(site: Captured) -> None:
    site.tell(PERSONAL)
    kept = site.folder / "word.json"
    kept.write_text(kept.read_text().replace('\\"US\\"', '\\"FR\\"'))
    site.start()
    assert site.runs() == []


def test_a_site_without_an_owner_says_so(tmp_path: Path) -> None:
    word = LastWord(tmp_path / "word.json", SiteClock(tmp_path / "time.json", ManualClock(NOW)))
    assert word.notes(replace(IDENTITY, owner_key="")) == (NO_OWNER,)
