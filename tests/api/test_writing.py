"""Desired states are written as one would write each by itself, whatever was written before."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.writing import Writer
from kasbah.domain.attestation import Attested, RevisionAttested
from kasbah.domain.caller import StatedKey
from kasbah.domain.charter import Signed
from kasbah.domain.crossing import Forwarded, Lane, Neighbour, Peer
from kasbah.domain.desired import DesiredState, SignedGrant, Standby
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import Digest, InstallationId, KeyId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Access, Key, Scaling, Service, Share, Sleep

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
PROJECT, SITE, LABEL = ProjectId("pr-1"), SiteId("st-1"), Label(level=Level.RESTRICTED, categories=("personal",))
SIGNED = st.builds(Signed, document=st.text(), signature=st.text())
TEXT, LABELS = st.text(max_size=5), st.sampled_from([LABEL, Label(level=Level.PUBLIC), None])
REVISION = Revision(
    id=RevisionId("rv-1"), source=Digest("sha256:0"), source_size=1, runtime=Runtime.NODE, command=("node", "a b.js")
)
SERVICES = st.builds(
    lambda name, access, share: Service(
        id=ServiceId("sv-1"), project=PROJECT, name=name, hosts=("é.localhost",), access=access, label=LABEL,
        scaling=Scaling(), sleep=Sleep(), revisions=(REVISION,), shares=share,
    ),
    TEXT, st.sampled_from(Access), st.sampled_from([(), (Share(revision=REVISION.id, percent=100),)]),
)  # fmt: skip
ITEMS = {
    "services": SERVICES,
    "keys": st.builds(Key, id=st.just(KeyId("ky-1")), project=st.just(PROJECT), sha256=TEXT,
                      expires_at=st.sampled_from([None, NOW])),
    "standby": st.builds(Standby, id=TEXT.map(ServiceId), project=st.just(PROJECT), name=TEXT,
                         source=st.just(REVISION.source), label=st.just(LABEL), declared=LABELS),
    "peers": st.builds(Peer, site=st.just(SITE), name=TEXT, identity=TEXT, tunnel=st.booleans()),
    "lanes": st.builds(Lane, id=TEXT, label=st.just(LABEL), to=st.sampled_from([(), (SITE,)])),
    "forwarded": st.builds(Forwarded, id=TEXT.map(ServiceId), project=st.just(PROJECT), name=TEXT,
                           hosts=st.just(("a", "b")), access=st.sampled_from(Access), revisions=st.just(()), lane=TEXT),
    "charters": SIGNED,
    "grants": st.builds(SignedGrant, kind=st.sampled_from(GrantKind), signed=SIGNED),
    "neighbours": st.builds(Neighbour, site=st.just(SITE), address=TEXT),
    "deployers": SIGNED,
    "attestations": st.builds(lambda signed: RevisionAttested(service=ServiceId("sv-1"), revision=REVISION.id,
                              attested=Attested(key="k", signed=signed)), SIGNED),
    "own_keys": st.builds(StatedKey, service=st.just(ServiceId("sv-1")), key=TEXT, signed=SIGNED),
}  # fmt: skip
STATES = st.builds(
    DesiredState,
    installation=st.just(InstallationId("in-1")),
    epoch=st.integers(1, 3),
    generation=st.integers(0, 9),
    site=TEXT.map(SiteId),
    issued_at=st.just(NOW),
    valid_until=st.sampled_from([None, NOW]),
    base_domain=TEXT,
    site_name=TEXT,
    lawbook=st.integers(0, 9),
    **{name: st.lists(items, max_size=3).map(tuple) for name, items in ITEMS.items()},
)


def test_every_list_of_a_desired_state_is_tried() -> None:
    assert {field.name for field in fields(DesiredState) if str(field.type).startswith("tuple")} == {*ITEMS}


@settings(max_examples=60)
@given(states=st.lists(STATES, min_size=1, max_size=3))
def test_the_bytes_are_those_of_each_by_itself(states: list[DesiredState]) -> None:
    """Of several that share what they say, and of one that is given another place in history."""
    writer, first = Writer(), states[0]
    shared = [replace(one, services=one.services + first.services, keys=first.keys) for one in states]
    later = [replace(one, generation=one.generation + 1) for one in shared]
    for one in (*shared, *later):
        assert writer.write(one) == DESIRED_STATE.dump_json(one)


def test_what_is_gone_is_not_taken_for_what_came_in_its_place() -> None:
    """Objects that were let go of may come back at the same address."""
    writer = Writer()
    for number in range(200):
        said = DesiredState(
            installation=InstallationId("in-1"), epoch=1, generation=0, site=SITE, issued_at=NOW, base_domain="",
            neighbours=(Neighbour(site=SITE, address=f"192.0.2.1:{number}"),),
        )  # fmt: skip
        assert writer.write(said) == DESIRED_STATE.dump_json(said)
        del said
