"""What a site accepts of what it is told: nothing that the owner's own words do not allow, whoever signed it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from kasbah.decide.admission import Admissions
from kasbah.decide.grants import Grants
from kasbah.decide.last_word import Word, accept, changes_at, floors, still_refused
from kasbah.domain.charter import Charter, Fact, Facts
from kasbah.domain.crossing import Forwarded, Lane, Peer
from kasbah.domain.desired import DesiredState, Standby
from kasbah.domain.grant import Declassification
from kasbah.domain.ids import Digest, InstallationId, KeyId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.law import Pack
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Access, Key, Service, own_key
from kasbah.domain.site import CLOSABLE, ENFORCED, FIRST_SITE, OPEN, SiteKind
from kasbah.packs import shipped, shipped_law
from kasbah.packs.own import beside

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
INSTALLATION, HERE, PARIS, VIRGINIA = InstallationId("in-1"), SiteId("st-here"), SiteId("st-paris"), SiteId("st-us")
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))
PUBLIC = Label(level=Level.PUBLIC)


def charter(site: SiteId, country: str, kind: SiteKind, key: str = "", until: date | None = None) -> Charter:
    said = Fact(value=country, source="a contract", since=date(2026, 1, 1), until=until)
    return Charter(
        installation=INSTALLATION,
        site=site,
        name=site,
        version=1,
        kind=kind,
        facts=Facts(country=said, exposure=replace(said, value=frozenset({country}))),
        gateway_key=key,
    )


CHARTERS = {
    HERE: charter(HERE, "FR", SiteKind.ON_PREM),
    PARIS: charter(PARIS, "FR", SiteKind.SOVEREIGN, "a" * 64),
    VIRGINIA: charter(VIRGINIA, "US", SiteKind.PUBLIC, "b" * 64),
}
WORD = Word(charters=CHARTERS, law=Admissions(law=shipped_law()), home="FR", heard_at=NOW)


def service(label: Label, name: str = "claims") -> Service:
    return Service(
        id=ServiceId(f"sv-{name}"), project=ProjectId("pr-1"), name=name, hosts=(f"{name}.x",), label=label, lane="dc-1"
    )


def told(*services: Service, site: SiteId = HERE, **more: object) -> DesiredState:
    plain = DesiredState(
        installation=INSTALLATION, epoch=1, generation=1, site=site, issued_at=NOW, base_domain="x", services=services
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def kept(state: DesiredState, word: Word = WORD, now: datetime = NOW) -> list[str]:
    return [one.name for one in accept(state, word, now).desired.services]


def test_what_may_be_here_is_accepted() -> None:
    assert kept(told(service(PERSONAL), service(UNLABELLED, "notes"))) == ["claims", "notes"]


def test_what_may_not_be_here_is_refused_with_the_rule() -> None:
    said = accept(told(service(PERSONAL), site=VIRGINIA), WORD, NOW)
    assert said.desired.services == ()
    assert "gdpr.transfer" in said.refused["claims"]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(replace(WORD, law=None), id="no law"),
        pytest.param(replace(WORD, charters={}), id="no charter"),
        pytest.param(Word(), id="nothing at all"),
    ],
)
def test_no_answer_is_a_no_but_for_what_is_public(word: Word) -> None:
    assert kept(told(service(PERSONAL), service(PUBLIC, "site")), word) == ["site"]


def test_a_fact_that_ran_out_counts_no_more() -> None:
    ends = {**CHARTERS, HERE: charter(HERE, "FR", SiteKind.ON_PREM, until=NOW.date())}
    word = replace(WORD, charters=ends)
    assert kept(told(service(PERSONAL)), word) == ["claims"]
    assert kept(told(service(PERSONAL)), word, NOW + timedelta(days=1)) == []


# --- packs of the site's own owner ---------------------------------------------------------------------------------

GENTLE = Pack(
    name="house",
    title="Ours",
    version=1,
    policies='@id("house.none") @title("x") @advice("x") @cite("x") @verified("2026-01-01")\n'
    'forbid (principal, action, resource) when { principal.label.level == 2 || resource.kind == "public" };\n'
    '@id("house.all") @title("x") @advice("x") @cite("x") @verified("2026-01-01") @unmet("x") @level("4")\n'
    "permit (principal, action, resource);\n",
)
PINNED = replace(WORD, pinned=Admissions(law=beside(shipped(), [GENTLE])))


def test_packs_of_the_site_s_own_owner_refuse_what_the_law_allows_and_allow_nothing_that_it_refuses() -> None:
    state = told(service(PERSONAL), service(UNLABELLED, "notes"))
    said = accept(state, PINNED, NOW)
    assert [one.name for one in said.desired.services] == ["notes"]
    assert said.refused == {"claims": "a pack that this site's own owner pinned refuses it here: house.none"}
    abroad = accept(told(service(PERSONAL), site=VIRGINIA), PINNED, NOW)
    assert abroad.refused["claims"].startswith("the law that the owner signed refuses it here: "), "it permits all"


def test_they_are_asked_about_public_data_too_and_about_where_requests_go() -> None:
    assert kept(told(service(PUBLIC, "site"), site=VIRGINIA)) == ["site"]
    assert kept(told(service(PUBLIC, "site"), site=VIRGINIA), PINNED) == []
    lane = Lane(id="dc-1", label=PUBLIC, to=(PARIS, VIRGINIA), entries=())
    state = told(service(PUBLIC, "site"), lanes=(lane,))
    assert accept(state, WORD, NOW).desired.lanes[0].to == (PARIS, VIRGINIA)
    assert accept(state, PINNED, NOW).desired.lanes[0].to == (PARIS,)


def test_what_was_refused_is_asked_about_once_it_is_told_no_more() -> None:
    refused = still_refused([service(PERSONAL), service(UNLABELLED, "notes")], told(), PINNED, NOW)
    assert list(refused) == ["sv-claims"]
    assert still_refused([service(PERSONAL)], told(), WORD, NOW) == {}


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_label_that_falls_is_not_believed() -> None:
    """Told first as what it is, then as public: at a site that may not have it, it is still not accepted."""
    seen = floors(told(service(PERSONAL)), {})
    assert kept(told(service(PUBLIC), site=VIRGINIA), replace(WORD, floors=seen)) == []
    here = accept(told(service(PUBLIC)), replace(WORD, floors=seen), NOW)
    assert here.desired.services[0].label.level is Level.RESTRICTED, "and where it may be it keeps its label"


def test_the_owner_lowers_a_label_for_a_time() -> None:
    lowered = Declassification(
        installation=INSTALLATION,
        service=ServiceId("sv-claims"),
        to=PUBLIC,
        evidence="anonymised",
        issued_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    seen = floors(told(service(PERSONAL)), {})
    word = replace(WORD, floors=seen, grants=Grants(declassifications=(lowered,)))
    assert kept(told(service(PUBLIC), site=VIRGINIA), word) == ["claims"]
    assert kept(told(service(PUBLIC), site=VIRGINIA), replace(word, grants=Grants())) == []


def test_floors_only_rise() -> None:
    first = floors(told(service(PERSONAL)), {})
    assert floors(told(service(PUBLIC)), first) == first
    assert floors(told(service(UNLABELLED, "new")), first) == first, "what nobody declared adds nothing"


def test_what_was_ever_declared_is_known_of_what_comes_lowered() -> None:
    """A site that first hears of a service while a declassification holds knows what it falls back to."""
    lowered = replace(service(PUBLIC), declared=PERSONAL)
    word = replace(WORD, floors=floors(told(lowered), {}))
    assert kept(told(lowered, site=VIRGINIA), word) == []
    passing = replace(ELSEWHERE, declared=PERSONAL)
    lane = replace(LANE, label=PUBLIC)
    state = told(forwarded=(passing,), lanes=(lane,), peers=PEERS, site=VIRGINIA)
    assert accept(state, replace(WORD, floors=floors(state, {})), NOW).desired.forwarded == ()


def test_the_label_of_what_only_passes_is_remembered_too() -> None:
    seen = floors(told(forwarded=(ELSEWHERE,), lanes=(LANE,)), {})
    assert seen == {ELSEWHERE.id: PERSONAL}


def test_what_is_printed_is_told_only_where_the_control_plane_may_have_it() -> None:
    """It stands at the first site."""

    def outspoken(country: str, label: Label) -> bool:
        first = replace(charter(SiteId("st-first"), country, SiteKind.SOVEREIGN), name=FIRST_SITE)
        word = replace(WORD, charters={**CHARTERS, first.site: first})
        return bool(accept(told(service(label)), word, NOW).outspoken)

    assert outspoken("FR", PERSONAL)
    assert not outspoken("US", PERSONAL)
    assert outspoken("US", PUBLIC)
    assert not accept(told(service(PERSONAL)), WORD, NOW).outspoken, "nobody says where it stands"


def test_a_source_is_kept_only_where_it_may_be_built() -> None:
    source = Standby(
        id=ServiceId("sv-claims"),
        project=ProjectId("pr-1"),
        name="claims",
        source=Digest("sha256:" + "a" * 64),
        label=PERSONAL,
    )
    assert accept(told(standby=(source,)), WORD, NOW).desired.standby == (source,)
    assert accept(told(standby=(source,), site=VIRGINIA), WORD, NOW).desired.standby == ()
    fell = replace(source, label=PUBLIC, declared=PERSONAL)
    state = told(standby=(fell,), site=VIRGINIA)
    assert accept(state, replace(WORD, floors=floors(state, {})), NOW).desired.standby == ()


# --- others -----------------------------------------------------------------------------------------------------------

LANE = Lane(id="dc-1", label=PERSONAL, to=(PARIS, VIRGINIA), entries=(PARIS, VIRGINIA))
PEERS = tuple(Peer(site=one, name=one, identity=one, address="h:1", key="c" * 64) for one in (PARIS, VIRGINIA))
ELSEWHERE = Forwarded(
    id=ServiceId("sv-far"),
    project=ProjectId("pr-1"),
    name="far",
    hosts=("far.x",),
    access=Access.PUBLIC,
    revisions=(),
    lane="dc-1",
)


def test_requests_go_to_no_site_that_may_not_have_them_and_come_from_none() -> None:
    said = accept(told(service(PERSONAL), forwarded=(ELSEWHERE,), lanes=(LANE,), peers=PEERS), WORD, NOW).desired
    assert (said.lanes[0].to, said.lanes[0].entries) == ((PARIS,), (PARIS,))
    assert [peer.site for peer in said.peers] == [PARIS]
    assert said.peers[0].key == "a" * 64, "by the key that its charter names, whatever the control plane says"
    assert [one.name for one in said.forwarded] == ["far"]


def test_requests_do_not_pass_where_they_may_not_be() -> None:
    state = told(forwarded=(ELSEWHERE,), lanes=(LANE,), peers=PEERS, site=VIRGINIA)
    said = accept(state, WORD, NOW)
    assert said.desired.forwarded == ()
    assert "gdpr" in said.refused["far"]


def test_what_the_site_takes_from_what_passes_ends_streams_and_nothing_else_does() -> None:
    """What is told anew, and what the control plane itself withdraws, is cut by its own word alone."""
    ends = {**CHARTERS, PARIS: charter(PARIS, "FR", SiteKind.SOVEREIGN, "a" * 64, until=NOW.date())}
    word, lane = replace(WORD, charters=ends), replace(LANE, to=(PARIS,), entries=(PARIS,))
    state = told(service(PERSONAL), forwarded=(ELSEWHERE,), lanes=(lane,), peers=PEERS, cut="1.7")
    before = accept(state, word, NOW).desired
    assert before.cut == "1.7"
    assert accept(replace(state, generation=2, forwarded=()), word, NOW).desired.cut == "1.7"
    after = accept(state, word, NOW + timedelta(days=1)).desired
    assert (after.lanes[0].to, after.lanes[0].entries) == ((), ())
    assert after.cut.startswith("1.7 ")
    assert accept(replace(state, generation=2), word, NOW + timedelta(days=2)).desired.cut == after.cut


def test_a_lane_of_a_label_that_fell_is_held_to_what_was_said() -> None:
    seen = floors(told(service(PERSONAL, "far")), {})
    lane = replace(LANE, label=PUBLIC)
    said = accept(told(forwarded=(ELSEWHERE,), lanes=(lane,), peers=PEERS), replace(WORD, floors=seen), NOW).desired
    assert said.lanes[0].to == (PARIS,)


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_what_the_law_lets_go_stale_is_refused_after_its_time() -> None:
    word = replace(WORD, stale_after={2: timedelta(hours=1)}, heard_at=NOW - timedelta(minutes=59))
    state = told(service(PERSONAL), service(PUBLIC, "site"))
    assert kept(state, word) == ["claims", "site"]
    assert kept(state, word, NOW + timedelta(minutes=2)) == ["site"]
    assert kept(state, replace(word, heard_at=None)) == ["site"]


def test_the_answer_is_found_again_when_it_may_be_another() -> None:
    assert changes_at(WORD, NOW) is None, "nothing here ends by itself"
    ends = {**CHARTERS, HERE: charter(HERE, "FR", SiteKind.ON_PREM, until=NOW.date())}
    assert changes_at(replace(WORD, charters=ends), NOW) == datetime(2026, 11, 27, tzinfo=UTC)
    assert changes_at(replace(WORD, stale_after={3: timedelta(hours=1)}), NOW) == NOW


# --- what is called ---------------------------------------------------------------------------------------------------

SUPPLIER = replace(charter(SiteId("st-api"), "FR", SiteKind.PUBLIC), name="supplier", hosts=("api.example.com",))
REVISION = Revision(
    id=RevisionId("rv-1"), source=Digest("sha256:" + "0" * 64), source_size=1, runtime=Runtime.COMMAND, command=("x",)
)


def calling(label: Label, *entries: str, calls: tuple[str, ...] = (), name: str = "claims") -> Service:
    return replace(service(label, name), revisions=(replace(REVISION, egress=entries or None, calls=calls),))


def may_call(state: DesiredState, word: Word) -> list[tuple[str, ...] | None]:
    return [one.egress for service in accept(state, word, NOW).desired.services for one in service.revisions]


WITH_SUPPLIER = replace(WORD, charters={**CHARTERS, SUPPLIER.site: SUPPLIER}, egress=ENFORCED)


def test_a_replica_calls_what_the_site_itself_finds_lawful_and_nothing_else() -> None:
    state = told(calling(PERSONAL, "api.example.com:443", "other.example.com"))
    said = accept(state, WITH_SUPPLIER, NOW)
    assert said.desired.services[0].revisions[0].egress == ("api.example.com:443",)
    assert said.closed["claims"].startswith("other.example.com (")
    assert may_call(state, replace(WORD, egress=ENFORCED)) == [()], "nobody declared who is there"


def test_a_control_plane_that_says_nothing_of_calls_opens_nothing() -> None:
    assert may_call(told(calling(UNLABELLED), calling(PERSONAL, name="b")), WITH_SUPPLIER) == [(), ()]
    assert may_call(told(calling(PUBLIC)), WITH_SUPPLIER) == [None]


def test_what_a_service_calls_is_asked_about_with_the_label_it_had() -> None:
    seen = floors(told(calling(PERSONAL)), {})
    assert may_call(told(calling(PUBLIC)), replace(WITH_SUPPLIER, floors=seen)) == [()]


def test_a_site_that_cannot_limit_calls_refuses_sensitive_services_and_those_that_ask_for_it() -> None:
    state = told(calling(UNLABELLED, name="a"), calling(PUBLIC, "api.example.com", name="b"), calling(PERSONAL))
    said = accept(state, replace(WITH_SUPPLIER, egress=OPEN), NOW)
    assert [one.name for one in said.desired.services] == ["claims"]
    assert "cannot be limited here (egress: open)" in said.refused["a"]
    assert set(said.refused) == {"a", "b"}
    closable = accept(state, replace(WITH_SUPPLIER, egress=CLOSABLE), NOW)
    assert [one.name for one in closable.desired.services] == ["a", "claims"]


def test_the_expiry_of_what_was_said_of_a_place_outside_closes_it() -> None:
    state = told(calling(PERSONAL, "api.example.com"))
    ends = replace(charter(SUPPLIER.site, "FR", SiteKind.PUBLIC, until=NOW.date()), hosts=SUPPLIER.hosts)
    word = replace(WITH_SUPPLIER, charters={**CHARTERS, SUPPLIER.site: ends})
    assert may_call(state, word) == [("api.example.com",)]
    tomorrow = changes_at(word, NOW)
    assert tomorrow is not None
    assert accept(state, word, tomorrow).desired.services[0].revisions[0].egress == ()


def test_another_service_is_called_only_with_a_label_as_high_and_where_its_requests_may_go() -> None:
    caller = calling(PERSONAL, calls=("far", "low"), name="caller")
    low = calling(PUBLIC, name="low")
    state = told(caller, low, forwarded=(ELSEWHERE,), lanes=(LANE,), peers=PEERS)
    said = accept(state, WITH_SUPPLIER, NOW)
    assert said.desired.services[0].revisions[0].calls == ("far",)
    assert "low is labelled 0 public" in said.closed["caller"]


def test_a_service_s_own_key_opens_what_it_may_call_and_no_more() -> None:
    caller, low = calling(PERSONAL, calls=("far", "low"), name="caller"), calling(PUBLIC, name="low")
    own = Key(id=own_key(caller.id), project=caller.project, sha256="a" * 64, services=(ELSEWHERE.id, low.id))
    whole = Key(id=KeyId("ky-1"), project=caller.project, sha256="b" * 64)
    state = told(caller, low, forwarded=(ELSEWHERE,), lanes=(LANE,), peers=PEERS, keys=(own, whole))
    assert accept(state, WITH_SUPPLIER, NOW).desired.keys == (replace(own, services=(ELSEWHERE.id,)), whole)
