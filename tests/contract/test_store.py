"""What every store must hold to. A new one joins by adding itself to `store`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kasbah.clock import ManualClock
from kasbah.control.store import sql_services
from kasbah.control.store.interface import Store
from kasbah.control.store.lawbooks import Arrival, GrantRecord, LawbookRecord, LawbookState
from kasbah.control.store.migrate import migrate
from kasbah.control.store.records import (
    DesiredDocument,
    Difference,
    Installation,
    KeptAnswer,
    KeyRecord,
    Project,
    RevisionRecord,
    RolloutRecord,
    SecretRecord,
    SecretValue,
    ServiceRecord,
    SiteRecord,
    TokenRecord,
    WakeRecord,
)
from kasbah.control.store.sql import MEMORY, SqlStore, open_engine
from kasbah.domain.access import Action, Grant, PrincipalKind, Role
from kasbah.domain.charter import Charter
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import (
    Digest,
    GrantId,
    InstallationId,
    KeyId,
    ProjectId,
    ReplicaId,
    RevisionId,
    RolloutId,
    SecretId,
    ServiceId,
    SiteId,
    TokenId,
    WakeId,
)
from kasbah.domain.label import Label, Level
from kasbah.domain.observed import BuildState, RevisionStatus, ServiceStatus, SiteStatus, Wake
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.project import UNLIMITED, Quota
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.domain.revision import Health, Probe, Revision, Runtime
from kasbah.domain.rollout import RolloutState
from kasbah.domain.service import Access, Command, Order, Scaling, ServiceState, Share, Sleep, Trial
from kasbah.domain.site import Isolation, SiteKind
from kasbah.domain.usage import Usage, UsageKey

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
PROJECT, SITE = ProjectId("pr-1"), SiteId("st-1")

CHARTER = Charter(installation=InstallationId("in-1"), site=SITE, name="local", version=1, kind=SiteKind.ON_PREM)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    engine = open_engine(MEMORY if request.param == "memory" else f"sqlite:///{tmp_path / 'kasbah.db'}")
    migrate(engine, clock=ManualClock(NOW))
    made = SqlStore(engine)
    with made.write() as tx:
        tx.installations.add(Installation(id=InstallationId("in-1"), epoch=1, created_at=NOW))
        tx.installations.add_project(Project(id=PROJECT, name="default"))
        tx.sites.add(SiteRecord(id=SITE, name="local", charter=CHARTER, token_sha256="0" * 64))
    yield made
    made.close()


def service(name: str, number: int = 1, **more: object) -> ServiceRecord:
    plain = {
        "id": ServiceId(f"sv-{name}-{number}"),
        "project": PROJECT,
        "name": name,
        "access": Access.KEY,
        "label": Label(level=Level.VITAL, categories=("health",)),
        "scaling": Scaling(max=3),
        "sleep": Sleep(freeze_after=None, ignore=("/robots.txt",)),
        "created_at": NOW,
    }
    return ServiceRecord(**(plain | more))  # type: ignore[arg-type]


def add(store: Store, *services: ServiceRecord) -> None:
    with store.write() as tx:
        for one in services:
            tx.services.add(one)


def revision(of: ServiceId, number: int, **more: object) -> RevisionRecord:
    contents = Revision(
        id=RevisionId(f"rv-{number}"),
        source=Digest("sha256:" + "0" * 64),
        source_size=10,
        runtime=Runtime.NODE,
        command=("node", "a b.js"),
        env=(("NAME", "vàlue"),),
        health=Health(readiness=Probe(path="/ready")),
    )
    return RevisionRecord(
        **({"service": of, "id": contents.id, "number": number, "created_at": NOW, "contents": contents} | more)
    )


def rollout(of: ServiceId, number: int, state: RolloutState = RolloutState.WAITING) -> RolloutRecord:
    return RolloutRecord(
        id=RolloutId(f"ro-{of}-{number}"),
        service=of,
        number=number,
        revision=RevisionId("rv-1"),
        state=state,
        started_at=NOW,
        changed_at=NOW,
        tail=("a", "b"),
    )


def status(of: ServiceId, **more: object) -> ServiceStatus:
    return ServiceStatus(**({"service": of, "state": ServiceState.RUNNING} | more))  # type: ignore[arg-type]


def test_a_service_comes_back_as_it_was_written(store: Store) -> None:
    verdict = SiteVerdict(site=SITE, verdict=Verdict.CHOSEN, reason="it can")
    whole = service(
        "web",
        placement=Placement(service=ServiceId("sv-web-1"), verdicts=(verdict,)),
        shares=(Share(revision=RevisionId("rv-1"), percent=100),),
        trial=Trial(rollout=RolloutId("ro-1"), revision=RevisionId("rv-2")),
        order=Order(number=3, command=Command.STOP),
        deployed_at=NOW + timedelta(hours=1),
    )
    add(store, whole, service("other"))
    with store.read() as tx:
        assert tx.services.find(PROJECT, "web") == whole
        assert tx.services.get(whole.id) == whole
        assert tx.services.find(PROJECT, "nobody") is None
        assert tx.services.find(ProjectId("pr-2"), "web") is None


def test_services_that_are_placed_alike_stay_apart(store: Store) -> None:
    verdict = SiteVerdict(site=SITE, verdict=Verdict.CHOSEN, reason="it can")
    until = (None, NOW, None)
    placed = [
        service(name, placement=Placement(service=ServiceId(f"sv-{name}-1"), verdicts=(verdict,), valid_until=end))
        for name, end in zip(("one", "other", "third"), until, strict=True)
    ]
    add(store, *placed)
    with store.read() as tx:
        assert sorted(tx.services.all(), key=lambda one: one.name) == placed
        one, _, third = (found.placement for it in placed if (found := tx.services.get(it.id)) is not None)
        assert one is not None
        assert third is not None
        assert one.verdicts is third.verdicts, "what is alike is read once"


def test_projects_have_quotas_and_are_listed_until_they_are_deleted(store: Store) -> None:
    quota = Quota(services=3, cpu=0.5, memory=2**40)
    oud, ney = Project(id=ProjectId("pr-2"), name="oud", quota=quota), Project(id=ProjectId("pr-3"), name="ney")
    with store.write() as tx:
        tx.installations.add_project(oud)
        tx.installations.add_project(ney)
    with store.read() as tx:
        default, *others = tx.installations.projects()
        assert (default.quota, others) == (UNLIMITED, [ney, oud])
        assert tx.installations.page_of_projects(("default", PROJECT), 1) == (ney,)
    with store.write() as tx:
        tx.installations.save_project(replace(ney, name=ney.id, deleted_at=NOW))
        tx.installations.add_project(replace(ney, id=ProjectId("pr-4")))
    with store.read() as tx:
        assert [one.id for one in tx.installations.projects()] == [PROJECT, "pr-4", "pr-2"]
        assert [one.id for one in tx.installations.page_of_projects(None, 10)] == [PROJECT, "pr-4", "pr-2"]


def test_revisions_of_deleted_services_are_found_apart(store: Store) -> None:
    live, dead = service("live"), service("dead", deleted_at=NOW)
    add(store, live, dead)
    with store.write() as tx:
        for owner in (live, dead):
            tx.revisions.put(revision(owner.id, 1))
    with store.read() as tx:
        assert [one.service for one in tx.revisions.all()] == [live.id]
        assert [one.service for one in tx.revisions.of_deleted()] == [dead.id]


def test_two_live_services_never_share_a_name(store: Store) -> None:
    add(store, service("web", 1))
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        add(store, service("web", 2))
    with store.read() as tx:
        assert [one.id for one in tx.services.all()] == ["sv-web-1"]


def test_a_deleted_service_frees_its_name_and_is_listed_no_more(store: Store) -> None:
    add(store, service("web", 1))
    with store.write() as tx:
        tx.services.save(service("web", 1, deleted_at=NOW))
        tx.services.add(service("web", 2))
    with store.read() as tx:
        assert [one.id for one in tx.services.all()] == ["sv-web-2"]
        assert tx.services.ids() == {"sv-web-2"}
        assert [one.id for one in tx.services.page(None, None, 10)] == ["sv-web-2"]
        gone = tx.services.get(ServiceId("sv-web-1"))
    assert gone is not None
    assert gone.deleted_at == NOW


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    names=st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z0-9]", fullmatch=True), max_size=12), limit=st.integers(1, 5)
)
def test_pages_hold_everything_once_and_in_order(store: Store, names: set[str], limit: int) -> None:
    with store.write() as tx:
        for old in tx.services.all():
            tx.services.save(replace(old, deleted_at=NOW))
        for position, name in enumerate(names):
            tx.services.add(replace(service(name), id=ServiceId(f"sv-{next(COUNTER)}-{position}")))
    seen: list[str] = []
    after = None
    with store.read() as tx:
        while page := tx.services.page(PROJECT, after, limit):
            assert len(page) <= limit
            seen += [one.name for one in page]
            after = (page[-1].name, page[-1].id)
    assert seen == sorted(names)


COUNTER = iter(range(10**9))


def test_a_bump_is_the_next_version_of_each(store: Store) -> None:
    add(store, service("one"), service("two"), service("three"))
    with store.write() as tx:
        tx.services.bump([ServiceId("sv-one-1"), ServiceId("sv-two-1")])
        tx.services.bump([])
    with store.read() as tx:
        assert {one.name: one.version for one in tx.services.all()} == {"one": 2, "two": 2, "three": 1}


@pytest.mark.parametrize("most", [0, 500])
def test_what_is_listed_again_is_as_it_was_written_meanwhile(
    store: Store, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_services, "MOST_READ_AGAIN", most)
    one, two, three, gone = (service(name) for name in ("one", "two", "three", "gone"))
    add(store, one, three, gone)
    with store.write() as tx:
        assert {found.name for found in tx.services.all()} == {"one", "three", "gone"}
        tx.services.save(replace(one, name="first", version=7))
        tx.services.add(two)
        tx.services.save(replace(gone, deleted_at=NOW))
        tx.services.bump([three.id])
        seen = tx.services.all()
        assert [(found.name, found.version) for found in seen] == [("first", 7), ("three", 2), ("two", 1)]
        tx.services.bump([two.id, gone.id])
        again = tx.services.all()
        assert [found.version for found in again] == [7, 2, 2]
    with store.read() as tx:
        assert tx.services.all() == again


def test_an_exception_undoes_all_that_was_written(store: Store) -> None:
    def fail() -> None:
        with store.write() as tx:
            tx.services.add(service("web"))
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        fail()
    with store.read() as tx:
        assert tx.services.all() == ()


def test_what_is_handed_out_to_read_refuses_to_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"), store.read() as tx:
        tx.services.add(service("web"))
    with store.read() as tx:
        assert tx.services.all() == ()


def test_an_unknown_parent_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match=r"FOREIGN KEY|foreign key"):
        add(store, service("web", project=ProjectId("pr-none")))


def test_writes_happen_one_after_another(store: Store) -> None:
    """Eight threads add one to the same number; not one addition is lost."""
    add(store, service("web"))

    def add_one() -> None:
        for _ in range(10):
            with store.write() as tx:
                (found,) = tx.services.all()
                tx.services.save(replace(found, version=found.version + 1))

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)
    with store.read() as tx:
        assert tx.services.all()[0].version == 81


def test_revisions_come_oldest_first_and_can_become_the_newest_again(store: Store) -> None:
    web, other = service("web"), service("other")
    add(store, web, other)
    with store.write() as tx:
        for number in (2, 1, 3):
            tx.revisions.put(revision(web.id, number))
        tx.revisions.put(revision(other.id, 1, proven=True))
        tx.revisions.put(replace(revision(web.id, 1), number=4))
        tx.revisions.drop(web.id, [RevisionId("rv-2")])
    with store.read() as tx:
        assert [one.id for one in tx.revisions.of(web.id)] == ["rv-3", "rv-1"]
        assert tx.revisions.get(other.id, RevisionId("rv-1")) == revision(other.id, 1, proven=True)
        assert len(tx.revisions.all()) == 3


def test_revisions_of_deleted_services_are_not_everyones(store: Store) -> None:
    add(store, service("web", deleted_at=NOW))
    with store.write() as tx:
        tx.revisions.put(revision(ServiceId("sv-web-1"), 1))
    with store.read() as tx:
        assert tx.revisions.all() == ()
        assert len(tx.revisions.of(ServiceId("sv-web-1"))) == 1


def test_rollouts_the_last_the_open_and_how_many(store: Store) -> None:
    web, other = service("web"), service("other")
    add(store, web, other)
    with store.write() as tx:
        tx.rollouts.add(rollout(web.id, 1, RolloutState.FAILED))
        tx.rollouts.add(rollout(web.id, 2, RolloutState.BUILDING))
        tx.rollouts.add(rollout(other.id, 1, RolloutState.DONE))
    with store.read() as tx:
        assert {one.id for one in tx.rollouts.last([web.id, other.id])} == {"ro-sv-web-1-2", "ro-sv-other-1-1"}
        assert [one.id for one in tx.rollouts.open()] == ["ro-sv-web-1-2"]
        assert [one.number for one in tx.rollouts.of(web.id)] == [2, 1]
        assert tx.rollouts.counts()["failed"] == 1
        assert tx.rollouts.counts()["waiting"] == 0
    moved = replace(
        rollout(web.id, 2, RolloutState.DONE),
        before=(Share(revision=RevisionId("rv-0"), percent=100),),
        percent=100,
        shifted_at=NOW,
        moved_at=NOW,
        shifted_generation=7,
        version=2,
    )
    with store.write() as tx:
        tx.rollouts.save(moved)
        tx.rollouts.trim(web.id, 1)
    with store.read() as tx:
        assert tx.rollouts.get(moved.id) == moved
        assert tx.rollouts.get(RolloutId("ro-sv-web-1-1")) is None
        assert len(tx.rollouts.last([other.id])) == 1


def test_reports_differ_only_where_something_was_said_anew(store: Store) -> None:
    add(store, service("one"), service("two"))
    one, two = (status(ServiceId(f"sv-{name}-1")) for name in ("one", "two"))
    with store.write() as tx:
        assert len(tx.reports.differences(SITE, [one, two])) == 2
        for difference in tx.reports.differences(SITE, [one, two]):
            tx.reports.save(SITE, difference)
        assert tx.reports.differences(SITE, [one, two]) == ()
        changed = replace(one, waiting_requests=3)
        (difference,) = tx.reports.differences(SITE, [changed, two])
        assert difference == Difference(service=one.service, before=one, after=changed)
        (gone,) = tx.reports.differences(SITE, [one])
        assert gone == Difference(service=two.service, before=two, after=None)
        tx.reports.save(SITE, gone)
        tx.reports.save(SITE, difference)
    with store.read() as tx:
        assert [report.status for report in tx.reports.of([one.service, two.service])] == [changed]
    with store.write() as tx:
        tx.reports.drop(one.service)
        assert tx.reports.of([one.service]) == ()


def test_a_report_comes_back_with_everything_in_it(store: Store) -> None:
    add(store, service("web"))
    web = ServiceId("sv-web-1")
    exit_ = Exit(signal="SIGKILL", reason="out of memory", tail=("boom",))
    replica = Replica(
        id=ReplicaId("rp-1"),
        service=web,
        revision=RevisionId("rv-1"),
        state=ReplicaState.ENDED,
        address="127.0.0.1:1",
        since=NOW,
        pid=7,
        exit=exit_,
    )
    whole = status(
        web,
        revisions=(RevisionStatus(revision=RevisionId("rv-1"), build=BuildState.FAILED, tail=("x",)),),
        replicas=(replica,),
    )
    with store.write() as tx:
        tx.reports.save(SITE, Difference(service=web, before=None, after=whole))
    with store.read() as tx:
        (report,) = tx.reports.of([web])
    assert report.status == whole


def test_a_site_keeps_what_it_said_and_its_newest_desired_state(store: Store) -> None:
    said = SiteStatus(
        site=SITE,
        observed_at=NOW,
        applied=(1, 4),
        gateway_address="127.0.0.1:8080",
        isolation=Isolation(mechanisms=("landlock",), missing=(("cgroups", "no root"),)),
    )
    document = DesiredDocument(
        site=SITE, epoch=1, generation=4, contents=Digest("sha256:0"), body=b"\x00exact", signature="s"
    )
    with store.write() as tx:
        (site,) = tx.sites.all()
        tx.sites.save(replace(site, seen_at=NOW, report=said, usage_sequence=2**40))
        tx.sites.save_desired(document)
        tx.sites.save_desired(replace(document, generation=5))
    with store.read() as tx:
        (site,) = tx.sites.all()
        assert (site.report, site.seen_at, site.usage_sequence) == (said, NOW, 2**40)
        assert tx.sites.desired(SITE) == replace(document, generation=5)
        assert tx.sites.told() == {SITE: (1, document.generation + 1, document.contents)}
        assert (tx.sites.generation(1), tx.sites.generation(2)) == (5, 0)


def test_keys_are_found_by_id_or_live_name(store: Store) -> None:
    def key(number: int, revoked_at: datetime | None = None) -> KeyRecord:
        return KeyRecord(
            id=KeyId(f"ky-{number}"),
            project=PROJECT,
            name="ci",
            sha256=f"{number:064}",
            services=(ServiceId("sv-1"),) if number == 1 else None,
            created_at=NOW,
            created_by=TokenId("tk-1"),
            owner="team",
            max_level=Level.INTERNAL if number == 1 else None,
            expires_at=NOW + timedelta(days=number),
            disabled_at=NOW if number == 2 else None,
            revoked_at=revoked_at,
        )

    with store.write() as tx:
        tx.keys.add(key(1))
        tx.keys.save(key(1, NOW))
        tx.keys.add(key(2))
    with store.read() as tx:
        assert tx.keys.find(PROJECT, "ci") == key(2)
        assert tx.keys.find(PROJECT, "ky-1") == key(1, NOW)
        assert tx.keys.all() == (key(2),)
        assert tx.keys.page(PROJECT, None, 10, revoked=False) == (key(2),)
        assert len(tx.keys.page(PROJECT, None, 10, revoked=True)) == 2
        assert tx.keys.page(PROJECT, ("ci", "ky-1"), 10, revoked=True) == (key(2),)


def test_tokens_are_found_by_digest_and_answers_belong_to_them(store: Store) -> None:
    token = TokenRecord(
        id=TokenId("tk-1"),
        name="ci",
        sha256="a" * 64,
        kind=PrincipalKind.SOFTWARE,
        grants=(Grant(project=PROJECT, role=Role.DEPLOYER), Grant(actions=(Action.SITE_READ,))),
        max_level=Level.RESTRICTED,
        created_at=NOW,
        created_by=TokenId("tk-0"),
        expires_at=NOW + timedelta(days=30),
        disabled_at=NOW,
    )
    answer = KeptAnswer(token=token.id, key="k", fingerprint="f" * 64, status=202, body='{"é":1}', at=NOW)
    with store.write() as tx:
        tx.tokens.add(token)
        tx.answers.add(answer)
        tx.answers.add(replace(answer, key="later", at=NOW + timedelta(hours=2), body=None))
    with store.write() as tx:
        assert tx.tokens.by_sha256("a" * 64) == token
        assert tx.tokens.by_sha256("b" * 64) is None
        assert tx.tokens.find("ci") == token == tx.tokens.find("tk-1")
        assert tx.answers.get(token.id, "k") == answer
        assert tx.answers.get(TokenId("tk-2"), "k") is None
        tx.answers.drop_before(NOW + timedelta(hours=1))
    with store.read() as tx:
        assert tx.answers.get(token.id, "k") is None
        assert tx.answers.get(token.id, "later") is not None


def test_only_the_newest_wakes_are_kept_and_a_known_one_is_completed(store: Store) -> None:
    add(store, service("web"))
    web = ServiceId("sv-web-1")

    def wake(number: int, first_byte: float | None = None) -> WakeRecord:
        at = NOW + timedelta(minutes=number)
        contents = Wake(
            id=WakeId(f"wk-{number}"),
            replica=None,
            at=at,
            rung="frozen",
            queue_ms=1.5,
            start_ms=0,
            ready_ms=2,
            first_byte_ms=first_byte,
        )
        return WakeRecord(id=contents.id, service=web, site=SITE, at=at, contents=contents)

    with store.write() as tx:
        tx.wakes.put(wake(number) for number in range(5))
        tx.wakes.put([wake(4, 9.0)])
        tx.wakes.trim(web, 2)
    with store.read() as tx:
        assert tx.wakes.of(web) == (wake(4, 9.0), wake(3))


def test_secrets_keep_the_values_that_are_used_and_the_newest(store: Store) -> None:
    def record(name: str, version: int, **more: object) -> SecretRecord:
        whole = {"id": SecretId(f"sc-{name}"), "project": PROJECT, "name": name, "created_at": NOW, "changed_at": NOW}
        return SecretRecord(**(whole | {"version": version} | more))  # type: ignore[arg-type]

    def value(name: str, version: int) -> SecretValue:
        return SecretValue(secret=SecretId(f"sc-{name}"), version=version, sealed=b"\0\xff", size=2, created_at=NOW)

    with store.write() as tx:
        for version in (1, 2, 3):
            tx.secrets.put(record("b", version), value("b", version))
        tx.secrets.put(record("a", 1), value("a", 1))
        tx.secrets.put(record("gone", 1), value("gone", 1))
        tx.secrets.put(record("gone", 1, deleted_at=NOW))
    with store.write() as tx:
        assert [one.name for one in tx.secrets.page(PROJECT, None, 10)] == ["a", "b"]
        assert tx.secrets.find(PROJECT, "gone") is None
        assert tx.secrets.value(SecretId("sc-b"), 2) == value("b", 2)
        assert tx.secrets.keep([(SecretId("sc-b"), 1)]) == 2
    with store.read() as tx:
        kept = [version for version in (1, 2, 3) if tx.secrets.value(SecretId("sc-b"), version)]
        assert kept == [1, 3]
        assert tx.secrets.get(SecretId("sc-gone")) is None


def lawbook(version: int, state: LawbookState, **more: object) -> LawbookRecord:
    whole = {
        "document": "{}",
        "signature": "s",
        "based_on": version - 1,
        "author": "admin",
        "author_id": None,
        "at": NOW,
    }
    return LawbookRecord(version=version, state=state, changed_at=NOW, **(whole | more))  # type: ignore[arg-type]


def test_every_lawbook_is_kept_and_those_that_live_are_found(store: Store) -> None:
    arrival = Arrival(site=SITE, at=NOW, epoch=1, generation=7, failing=(ServiceId("sv-1"),), error="none")
    rolling = lawbook(3, LawbookState.ROLLING, arrivals=(arrival,), loosens=True, even_so=True, reason="r", note="n")
    others = (lawbook(1, LawbookState.REPLACED), lawbook(2, LawbookState.IN_FORCE), lawbook(4, LawbookState.PROPOSED))
    with store.write() as tx:
        assert (tx.lawbooks.newest(), tx.lawbooks.live()) == (0, ())
        for one in (*others, rolling):
            tx.lawbooks.add(one)
    with store.write() as tx:
        assert tx.lawbooks.get(3) == rolling
        assert tx.lawbooks.get(9) is None
        assert [one.version for one in tx.lawbooks.live()] == [2, 3]
        assert [one.version for one in tx.lawbooks.page(None, 2)] == [4, 3]
        assert [one.version for one in tx.lawbooks.page(3, 9)] == [2, 1]
        assert tx.lawbooks.in_state(LawbookState.PROPOSED) == (others[2],)
        tx.lawbooks.save(replace(rolling, state=LawbookState.HALTED))
        assert tx.lawbooks.newest() == 4
    with store.read() as tx:
        assert [one.state for one in tx.lawbooks.live()] == [LawbookState.IN_FORCE, LawbookState.HALTED]


def test_grants_live_until_they_are_revoked_or_expire(store: Store) -> None:
    def grant(name: str, hours: int, **more: object) -> GrantRecord:
        ends = NOW + timedelta(hours=hours)
        whole = {"kind": GrantKind.APPROVAL, "document": "{}", "signature": "s", "author": "admin"}
        at = NOW + timedelta(minutes=hours)
        return GrantRecord(id=GrantId(name), at=at, expires_at=ends, **(whole | more))  # type: ignore[arg-type]

    with store.write() as tx:
        for one in (grant("a", 1), grant("b", 2), grant("c", 3, revoked_at=NOW)):
            tx.grants.add(one)
    with store.write() as tx:
        assert [one.id for one in tx.grants.live(NOW)] == ["a", "b"]
        assert [one.id for one in tx.grants.live(NOW + timedelta(hours=1))] == ["b"]
        assert [one.id for one in tx.grants.newest(2)] == ["c", "b"]
        assert tx.grants.get(GrantId("b")) == grant("b", 2)
        tx.grants.save(grant("b", 2, revoked_at=NOW))
        assert [one.id for one in tx.grants.live(NOW)] == ["a"]


def test_usage_adds_up_by_service(store: Store) -> None:
    add(store, service("web"), service("idle"))
    web = ServiceId("sv-web-1")
    usage = Usage(requests=2, failed=1, bytes_in=10, bytes_out=2**40, milliseconds=5)

    def key(minute: int, caller: str | None) -> UsageKey:
        return UsageKey(
            service=web,
            revision=RevisionId("rv-1"),
            key=KeyId(caller) if caller else None,
            minute=NOW + timedelta(minutes=minute),
        )

    unknown = replace(key(0, None), service=ServiceId("sv-unknown"))
    with store.write() as tx:
        tx.usage.add([(key(0, None), usage), (key(0, None), usage), (key(0, "ky-1"), usage), (unknown, usage)])
    with store.write() as tx:
        tx.usage.add([(key(1, None), usage)])
    with store.read() as tx:
        totals = tx.usage.totals([web, ServiceId("sv-idle-1")])
        later = tx.usage.by_revision(web, since=NOW + timedelta(minutes=1))
        all_of_it = tx.usage.by_revision(web, since=NOW)
    assert totals == {web: Usage(requests=8, failed=4, bytes_in=40, bytes_out=2**42, milliseconds=20)}
    assert later == {RevisionId("rv-1"): usage}
    assert all_of_it == {RevisionId("rv-1"): totals[web]}
