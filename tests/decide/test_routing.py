"""The gateway's description: right for a few cases, and sound, by the translator's own check, for any desired state."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.agent.gateway.translate import check
from kasbah.decide.routing import cluster_name, endpoints, route
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import Endpoint, Gateway, Tls, VirtualHost
from kasbah.domain.ids import (
    Digest,
    InstallationId,
    KeyId,
    ProjectId,
    ReplicaId,
    RevisionId,
    RolloutId,
    ServiceId,
    SiteId,
)
from kasbah.domain.label import Label, Level
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.revision import Deadlines, Protocol, Revision, Runtime
from kasbah.domain.service import Access, Key, Scaling, Service, Share, Sleep, Trial, own_key

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROJECT = ProjectId("pr-1")


def revision(name: str, **changes: object) -> Revision:
    plain = Revision(
        id=RevisionId(name),
        source=Digest("sha256:" + "a" * 64),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("run",),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


OLD, NEW = revision("rv-1"), revision("rv-2")
WEB = Service(
    id=ServiceId("sv-1"),
    project=PROJECT,
    name="web",
    hosts=("web.localhost",),
    revisions=(OLD, NEW),
    shares=(Share(revision=OLD.id, percent=100),),
)


def desired(*services: Service, keys: tuple[Key, ...] = ()) -> DesiredState:
    return DesiredState(
        installation=InstallationId("in-1"),
        epoch=1,
        generation=1,
        site=SiteId("st-1"),
        issued_at=START,
        base_domain="localhost",
        services=services,
        keys=keys,
    )


def routed(*services: Service, keys: tuple[Key, ...] = (), **rest: object) -> Gateway:
    given: dict[str, object] = {"protocols": {}, "lingering": (), "listen": "127.0.0.1:8080", **rest}
    return route(desired(*services, keys=keys), **given)  # type: ignore[arg-type]


def only(gateway: Gateway) -> VirtualHost:
    (host,) = gateway.hosts
    return host


def test_a_service_is_a_host_whose_shares_lead_to_clusters() -> None:
    gateway = routed(replace(WEB, shares=(Share(revision=OLD.id, percent=90), Share(revision=NEW.id, percent=10))))
    host = only(gateway)
    assert host.hosts == ("web.localhost",)
    assert [(one.cluster, one.percent) for one in host.clusters] == [("sv-1/rv-1", 90), ("sv-1/rv-2", 10)]
    assert {one.name for one in gateway.clusters} == {"sv-1/rv-1", "sv-1/rv-2"}
    assert gateway.site_hosts == ("kasbah.localhost",)


def test_a_revision_under_trial_has_a_cluster_and_no_traffic() -> None:
    trial = Trial(rollout=RolloutId("ro-1"), revision=NEW.id)
    gateway = routed(replace(WEB, trial=trial))
    assert [one.revision for one in only(gateway).clusters] == [OLD.id]
    assert {one.name for one in gateway.clusters} == {"sv-1/rv-1", "sv-1/rv-2"}


def test_what_is_retired_stays_countable_until_it_is_over() -> None:
    moved = replace(WEB, shares=(Share(revision=NEW.id, percent=100),))
    assert {one.name for one in routed(moved).clusters} == {"sv-1/rv-2"}
    lingering = routed(moved, lingering=[(WEB, OLD)])
    assert {one.name for one in lingering.clusters} == {"sv-1/rv-1", "sv-1/rv-2"}
    assert only(lingering) == only(routed(moved))
    deleted = routed(lingering=[(WEB, OLD)])
    assert ([one.name for one in deleted.clusters], deleted.hosts) == (["sv-1/rv-1"], ())


EVERY = Key(id=KeyId("ky-1"), project=PROJECT, sha256="1" * 64)
NAMED = Key(id=KeyId("ky-2"), project=PROJECT, sha256="2" * 64, services=(WEB.id,))
OTHER = Key(id=KeyId("ky-3"), project=PROJECT, sha256="3" * 64, services=(ServiceId("sv-9"),))
NONE = Key(id=KeyId("ky-4"), project=PROJECT, sha256="4" * 64, services=())


def test_a_key_opens_what_it_names_and_nothing_else() -> None:
    gateway = routed(WEB, keys=(EVERY, NAMED, OTHER, NONE))
    assert (only(gateway).public, only(gateway).allowed_keys) == (False, (NAMED.id,))
    projects = {one.key: one.project for one in gateway.credentials}
    assert projects == {EVERY.id: PROJECT, NAMED.id: None, OTHER.id: None, NONE.id: None}


def test_the_gateway_knows_a_key_s_ceiling_and_end_and_each_service_s_level() -> None:
    ends = START + timedelta(days=1)
    low = replace(EVERY, max_level=Level.INTERNAL, expires_at=ends)
    gateway = routed(replace(WEB, label=Label(level=Level.RESTRICTED)), keys=(low, NAMED))
    assert only(gateway).level is Level.RESTRICTED
    found = {one.key: (one.ceiling, one.expires_at) for one in gateway.credentials}
    assert found == {low.id: (Level.INTERNAL, ends), NAMED.id: (None, None)}


def test_only_a_public_service_ignores_paths() -> None:
    sleep = Sleep(ignore=("/robots.txt",))
    assert only(routed(replace(WEB, sleep=sleep))).ignored_paths == ()
    public = only(routed(replace(WEB, sleep=sleep, access=Access.PUBLIC), keys=(NAMED,)))
    assert (public.public, public.ignored_paths, public.allowed_keys) == (True, ("/robots.txt",), ())


def test_hosts_with_a_certificate_are_secure() -> None:
    """Those of revisions where the certificate is for them too; the site's own door never is: its callers come by
    address."""
    shop = replace(WEB, hosts=("web.localhost", "shop.example.org"))
    plain = only(routed(shop))
    tls = Tls(listen="0.0.0.0:8443", names=("shop.example.org", "kasbah.localhost"))
    found = routed(shop, tls=tls)
    assert found.tls == tls
    assert (only(found).secure_hosts, only(found).secure_port) == (("shop.example.org",), 8443)
    assert replace(only(found), secure_hosts=(), secure_port=443) == plain
    wide = only(routed(shop, tls=replace(tls, names=("*.localhost", "*.shop.example.org"))))
    assert wide.secure_hosts == ("web.localhost", f"{OLD.id}.shop.example.org")
    assert only(routed(shop, tls=replace(tls, names=()))) == plain


def test_deadlines_are_those_of_the_revision_with_the_greatest_share() -> None:
    patient = revision("rv-2", deadlines=Deadlines(request=timedelta(minutes=9), startup=timedelta(minutes=3)))
    shares = (Share(revision=OLD.id, percent=40), Share(revision=NEW.id, percent=60))
    host = only(routed(replace(WEB, revisions=(OLD, patient), shares=shares)))
    assert (host.request_deadline, host.startup_deadline) == (timedelta(minutes=9), timedelta(minutes=3))


@pytest.mark.parametrize(
    ("declared", "found", "spoken"),
    [
        (Protocol.AUTO, None, Protocol.HTTP1),
        (Protocol.AUTO, Protocol.H2C, Protocol.H2C),
        (Protocol.HTTP1, Protocol.H2C, Protocol.HTTP1),
        (Protocol.H2C, None, Protocol.H2C),
    ],
)
def test_what_a_cluster_speaks(declared: Protocol, found: Protocol | None, spoken: Protocol) -> None:
    service = replace(WEB, revisions=(revision("rv-1", protocol=declared),))
    (cluster,) = routed(service, protocols={OLD.id: found} if found else {}).clusters
    assert cluster.protocol is spoken


@pytest.mark.parametrize("hard", [None, 5])
def test_a_hard_limit_holds_for_each_replica(hard: int | None) -> None:
    (cluster,) = routed(replace(WEB, scaling=Scaling(max=3, max_concurrency=hard))).clusters
    assert cluster.max_per_replica == hard


def test_endpoints_are_the_ready_and_those_that_may_still_carry_something() -> None:
    there = [
        Replica(
            id=ReplicaId(f"rp-{number}"),
            service=WEB.id,
            revision=OLD.id,
            state=state,
            address=f"127.0.0.1:{number}",
            since=START,
        )
        for number, state in reversed(list(enumerate(ReplicaState)))
    ]
    numbers = {state: number for number, state in enumerate(ReplicaState)}
    assert endpoints(there) == (
        Endpoint(address=f"127.0.0.1:{numbers[ReplicaState.READY]}"),
        Endpoint(address=f"127.0.0.1:{numbers[ReplicaState.UNREADY]}", draining=True),
        Endpoint(address=f"127.0.0.1:{numbers[ReplicaState.DRAINING]}", draining=True),
    )


# --- any desired state ------------------------------------------------------------------------------------------------


@st.composite
def services(draw: st.DrawFn, number: int) -> Service:
    made = tuple(revision(f"rv-{number}-{one}") for one in range(draw(st.integers(0, 4))))
    shared = draw(st.lists(st.sampled_from(made), unique=True, max_size=3)) if made else []
    percents = _split(
        draw(st.lists(st.integers(0, 100), min_size=max(len(shared) - 1, 0), max_size=max(len(shared) - 1, 0)))
    )
    trial = draw(st.none() | st.sampled_from(made)) if made else None
    return Service(
        id=ServiceId(f"sv-{number}"),
        project=PROJECT,
        name=f"web-{number}",
        hosts=tuple(f"web-{number}-{one}.localhost" for one in range(draw(st.integers(1, 3)))),
        access=draw(st.sampled_from(Access)),
        scaling=Scaling(max_concurrency=draw(st.none() | st.integers(1, 9))),
        revisions=made,
        shares=tuple(Share(revision=one.id, percent=percent) for one, percent in zip(shared, percents, strict=False)),
        trial=None if trial is None else Trial(rollout=RolloutId("ro-1"), revision=trial.id),
    )


def _split(cuts: list[int]) -> list[int]:
    """A hundred, cut into parts."""
    edges = [0, *sorted(cuts), 100]
    return [high - low for low, high in itertools.pairwise(edges)]


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Service], list[tuple[Service, Revision]], tuple[Key, ...]]:
    there = [draw(services(number)) for number in range(draw(st.integers(0, 5)))]
    gone = [draw(services(number)) for number in range(5, 7)]
    every = [(one, each) for one in [*there, *gone] for each in one.revisions]
    lingering = draw(st.lists(st.sampled_from(every), max_size=4)) if every else []
    named = st.none() | st.lists(st.sampled_from([f"sv-{number}" for number in range(7)])).map(tuple)
    keys = tuple(
        Key(id=KeyId(f"ky-{number}"), project=PROJECT, sha256=f"{number:064}", services=draw(named))
        for number in range(draw(st.integers(0, 4)))
    )
    return there, lingering, keys


@given(situations())
def test_whatever_is_desired_the_gateway_is_sound(situation) -> None:
    there, lingering, keys = situation
    gateway = routed(*there, keys=keys, lingering=lingering)
    assert check(gateway) == ()
    assert [host.service for host in gateway.hosts] == [service.id for service in there]
    names = {one.name for one in gateway.clusters}
    assert {cluster_name(service.id, one.id) for service, one in lingering} <= names
    for host in gateway.hosts:
        openers = {key.id for key in keys if key.services is not None and host.service in key.services}
        assert set(host.allowed_keys) == (set() if host.public else openers)
    assert routed(*there, keys=keys, lingering=lingering) == gateway


# --- what replicas may ask for ----------------------------------------------------------------------------------------

CALLER = replace(WEB, id=ServiceId("sv-2"), name="caller", hosts=("caller.localhost",))
OWN = Key(id=own_key(CALLER.id), project=PROJECT, sha256="a" * 64, services=(WEB.id,))
WHOLE = Key(id=KeyId("ky-1"), project=PROJECT, sha256="b" * 64)
NAMING = Key(id=KeyId("ky-2"), project=PROJECT, sha256="c" * 64, services=(WEB.id, CALLER.id))


def inside(*services: Service, keys: tuple[Key, ...]) -> tuple[VirtualHost, ...]:
    state = desired(*services, keys=keys)
    found = route(state, protocols={}, lingering=(), listen="127.0.0.1:8080", inside="100.64.16.0/20").inside
    assert found is not None
    assert found.network == "100.64.16.0/20"
    return found.hosts


def test_replicas_are_shown_what_one_of_them_calls_for_its_own_key_alone() -> None:
    public = replace(WEB, access=Access.PUBLIC, sleep=Sleep(ignore=("/health",)))
    (shown,) = inside(public, CALLER, keys=(OWN, WHOLE, NAMING))
    assert (shown.service, shown.public, shown.allowed_keys) == (WEB.id, False, (OWN.id,))
    assert shown.project == "", "a key of the whole project does not open it from there"
    assert shown.ignored_paths == ()


def test_replicas_are_shown_nothing_that_none_of_them_calls() -> None:
    assert inside(WEB, CALLER, keys=(WHOLE, NAMING)) == ()
    assert inside(WEB, keys=(OWN,)) == (), "whose key it is runs elsewhere"


def test_where_replicas_have_no_networks_there_is_no_inside() -> None:
    assert routed(WEB, CALLER, keys=(OWN,)).inside is None
