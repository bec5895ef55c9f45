"""What is left of the last good gateway where the one that is wanted is refused."""

from __future__ import annotations

from dataclasses import replace

from kasbah.decide.narrowing import narrowed
from kasbah.domain.crossing import Peer
from kasbah.domain.gateway import Credential, Elsewhere, Gateway, Inside, VirtualHost, WeightedCluster
from kasbah.domain.ids import KeyId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Level

PARIS, FEZ = SiteId("st-paris"), SiteId("st-fez")
PEERS = tuple(Peer(site=site, name=site, identity=f"spiffe://in/site/{site}", address="x:1") for site in (PARIS, FEZ))
KEYS = tuple(Credential(key=KeyId(f"ky-{one}"), sha256=one * 64) for one in "ab")
REVISION = RevisionId("rv-1")


def host(name: str, **more: object) -> VirtualHost:
    plain = VirtualHost(
        service=ServiceId(f"sv-{name}"),
        project=ProjectId("pr-1"),
        name=name,
        hosts=(f"{name}.x", f"{name}.example.org"),
        public=True,
        allowed_keys=(KeyId("ky-a"), KeyId("ky-b")),
        clusters=(WeightedCluster(cluster=f"{name}/1", revision=REVISION, percent=100),),
        level=Level.INTERNAL,
        entries=(PARIS, FEZ),
        elsewhere=Elsewhere(sites=(PARIS, FEZ)),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


GOOD = Gateway(
    listen="127.0.0.1:1",
    site_hosts=("kasbah.x",),
    hosts=(host("notes"), host("claims")),
    credentials=KEYS,
    peers=PEERS,
    inside=Inside(network="10.0.0.0/8", hosts=(host("notes"), host("claims"))),
)


def test_what_is_wanted_still_stays_as_it_is_and_nothing_new_comes() -> None:
    assert narrowed(GOOD, replace(GOOD, hosts=(*GOOD.hosts, host("new")), credentials=(*KEYS, KEYS[0]))) == GOOD
    wider = replace(GOOD, hosts=(host("notes"), host("claims", hosts=("claims.x", "claims.example.org", "more.x"))))
    assert narrowed(GOOD, wider) == GOOD


def test_what_is_wanted_no_more_goes() -> None:
    left = narrowed(GOOD, replace(GOOD, hosts=(host("notes"),), credentials=KEYS[:1], inside=None, cut="1.4"))
    assert [one.name for one in left.hosts] == ["notes"]
    assert (left.credentials, left.cut) == (KEYS[:1], "1.4")
    assert left.inside == Inside(network="10.0.0.0/8", hosts=())


def test_what_is_left_is_no_wider_than_it_is_wanted() -> None:
    tight = host(
        "claims",
        hosts=("claims.x",),
        public=False,
        allowed_keys=(KeyId("ky-a"),),
        level=Level.SENSITIVE,
        entries=(PARIS,),
        elsewhere=Elsewhere(sites=(FEZ,)),
    )
    left = narrowed(GOOD, replace(GOOD, hosts=(tight,), inside=Inside(network="10.0.0.0/8", hosts=(tight,))))
    assert left.hosts == (replace(tight, public=False),)
    assert left.inside is not None
    assert left.inside.hosts == left.hosts


def test_what_moved_is_not_left_behind() -> None:
    assert narrowed(GOOD, replace(GOOD, hosts=(host("notes", here=False), host("claims")))).hosts == (host("claims"),)
    assert narrowed(GOOD, replace(GOOD, hosts=(host("notes", project=ProjectId("pr-2")),))).hosts == ()
    assert narrowed(GOOD, replace(GOOD, hosts=(host("notes", hosts=("other.x",)),))).hosts == ()


def test_a_site_that_is_met_no_more_or_by_another_key_has_nothing() -> None:
    left = narrowed(GOOD, replace(GOOD, peers=(PEERS[0], replace(PEERS[1], key="c" * 64))))
    assert left.peers == PEERS[:1]
    assert {(one.entries, one.elsewhere and one.elsewhere.sites) for one in left.hosts} == {((PARIS,), (PARIS,))}
