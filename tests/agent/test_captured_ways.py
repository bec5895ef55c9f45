"""A captured control plane wants sensitive requests, code or sources to take another way: another revision's build, a
peer that nobody chartered, a source that is said to be another service's."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from test_captured_control import IDENTITY, INSTALLATION, OWNER, PUBLIC, charter, law
from test_captured_deploys import CLAIMS, CODE, Deploys, named, signed

from kasbah.agent.gateway.peers import trust
from kasbah.api.owner import CHARTER, sign_document
from kasbah.domain.attestation import RevisionAttested
from kasbah.domain.charter import Charter, Fact, Facts, Signed
from kasbah.domain.crossing import Lane, Peer
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.service import Share
from kasbah.domain.site import SiteKind

GOOD, CLOUD, EVIL = SiteId("st-good"), SiteId("st-cloud"), SiteId("st-evil")
LANE = Lane(id="dc-1", label=CLAIMS.label, to=(GOOD,), entries=(GOOD,))
KEYED = Peer(site=GOOD, name="paris", identity="spiffe://in-1/site/st-good", address="10.0.0.1:1", key="ab" * 32)
NOBODY = Peer(site=EVIL, name="evil", identity="spiffe://in-1/site/st-evil")


def said_of(site: SiteId, kind: SiteKind, stands_in: str, key: str = "ab" * 32) -> Signed:
    country = Fact(value=stands_in, source="a contract", since=date(2026, 1, 1))
    facts = Facts(country=country, exposure=replace(country, value=frozenset({stands_in})))
    made = Charter(installation=INSTALLATION, site=site, name=site, version=1, kind=kind, gateway_key=key, facts=facts)
    return sign_document(OWNER, CHARTER, made)


@pytest.fixture
def site(tmp_path: Path) -> Deploys:
    made = Deploys(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


def tell(site: Deploys, lanes: tuple[Lane, ...], peers: tuple[Peer, ...], **more: object) -> tuple[Peer, ...]:
    """The peers that this site then has."""
    claims = replace(CLAIMS, revisions=(CODE,), shares=(Share(revision=CODE.id, percent=100),), lane="dc-1")
    said: dict[str, object] = {
        "services": (claims,),
        "charters": (
            charter("FR", version=2),
            said_of(GOOD, SiteKind.ON_PREM, "FR"),
            said_of(CLOUD, SiteKind.PUBLIC, "US"),
        ),
        "deployers": (named(),),
        "attestations": (RevisionAttested(service=claims.id, revision=CODE.id, attested=signed()),),
    }
    site.tell(claims.label, lanes=lanes, peers=peers, **(said | more))
    assert site.ledger.desired is not None
    return site.ledger.desired.peers


def test_who_has_no_charter_is_no_peer_and_makes_no_other_s_key_worthless(site: Deploys) -> None:
    assert tell(site, (LANE,), (KEYED,)) == (KEYED,)
    empty = Lane(id="dc-0", label=CLAIMS.label, entries=(EVIL, GOOD))
    for lanes in ((LANE, empty), (replace(LANE, entries=(GOOD, EVIL)),)):
        assert tell(site, lanes, (KEYED, NOBODY)) == (KEYED,)
        assert site.ledger.desired is not None
        assert [one.id for one in site.ledger.desired.lanes] == ["dc-1"]


def test_a_peer_without_a_key_comes_in_only_where_no_peer_has_one() -> None:
    def context(*peers: Peer) -> tuple[list[str], int]:
        made = trust("t", b"CA", peers)["validation_context"]
        names = [one["matcher"]["exact"] for one in made["match_typed_subject_alt_names"]]
        return names, len(made.get("verify_certificate_spki", ()))

    assert context(KEYED, NOBODY) == ([KEYED.identity], 1)
    assert context(NOBODY) == ([NOBODY.identity], 0)


def test_a_source_is_not_handed_where_what_it_was_for_may_not_be(site: Deploys) -> None:
    tell(site, (LANE,), (KEYED,))
    assert site.word.refuses_to_hand(CODE.source, GOOD) is None
    assert site.word.refuses_to_hand(CODE.source, CLOUD) is not None
    relabelled = replace(CLAIMS, id=ServiceId("sv-new"), name="new", hosts=("new.x",), label=PUBLIC, revisions=(CODE,))
    for _ in range(2):
        tell(site, (), (), services=(relabelled,))
        assert site.word.refuses_to_hand(CODE.source, CLOUD) is not None
        assert site.word.refuses_to_hand(CODE.source, GOOD) is None
        site.start()
        site.runs()
