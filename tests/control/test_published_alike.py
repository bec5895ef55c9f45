"""What is worked out once for many sites and services is what it would be for each of them by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from kasbah.control.store.records import RevisionRecord, ServiceRecord
from kasbah.control.usecases.crossing import Crossings
from kasbah.control.usecases.law_now import Book, LawNow
from kasbah.control.usecases.lawful import admissions
from kasbah.control.usecases.standbys import standbys
from kasbah.decide.admission import Admissions
from kasbah.decide.crossing import decide, lane
from kasbah.decide.grants import Grants
from kasbah.domain.charter import Lawbook
from kasbah.domain.crossing import Peer
from kasbah.domain.grant import Approval
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Place, Purpose
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Access, Scaling, Share, Sleep
from kasbah.domain.site import SiteKind
from kasbah.packs import law_of, shipped

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INSTALLATION, PROJECT = InstallationId("in-1"), ProjectId("pr-1")
A, B, C, D = SITES = tuple(SiteId(f"st-{name}") for name in "abcd")
PERSONAL = Label(level=Level.RESTRICTED, categories=("personal",), regimes=("gdpr",))
SOURCE = Digest("sha256:0")


def service(name: str, label: Label, placement: Placement | None = None) -> ServiceRecord:
    return ServiceRecord(
        id=ServiceId(f"sv-{name}"), project=PROJECT, name=name, access=Access.KEY, label=label, scaling=Scaling(),
        sleep=Sleep(), created_at=NOW, placement=placement, shares=(Share(revision=RevisionId("rv-1"), percent=100),),
    )  # fmt: skip


# --- lanes ------------------------------------------------------------------------------------------------------------

some = st.frozensets(st.sampled_from(SITES))
decisions = st.builds(
    lambda chosen, place, forward: decide(PERSONAL, chosen, place=place, forward=forward),
    st.lists(st.sampled_from(SITES), unique=True), some, some,
)  # fmt: skip


@given(made=st.lists(decisions, max_size=4, unique_by=lambda one: one.id), addressed=some, tunnelled=some)
def test_each_site_has_the_lanes_that_were_decided_for_it(
    made: list[object], addressed: frozenset[SiteId], tunnelled: frozenset[SiteId]
) -> None:
    peers = {
        site: Peer(site=site, name=site, identity=site, address="192.0.2.1:1" if site in addressed else "",
                   tunnel=site in tunnelled)
        for site in SITES
    }  # fmt: skip
    across = Crossings(decisions={}, classes={one.id: (one, ()) for one in made}, peers=peers)  # type: ignore[attr-defined]
    for site in SITES:
        dialled = addressed | (tunnelled if site in addressed else frozenset())
        by_itself = {one.id: lane(one, site, dialled) for one in made}  # type: ignore[attr-defined, arg-type]
        assert across.lanes(site) == {its: found for its, found in by_itself.items() if found is not None}


# --- the law ----------------------------------------------------------------------------------------------------------


def book(version: int, *left_out: str) -> Book:
    packs = tuple(one for one in shipped() if not one.draft and one.name not in left_out)
    lawbook = Lawbook(installation=INSTALLATION, version=version, home="MA", packs=packs)
    return Book(lawbook=lawbook, admissions=Admissions(law=law_of(packs)))


MOROCCAN = Place(kind=SiteKind.ON_PREM, country="MA", operator_home="MA", exposure=frozenset({"MA"}))
ALIKE = {A: MOROCCAN, B: replace(MOROCCAN)}
ELSEWHERE = {C: replace(MOROCCAN, country="FR", operator_home="FR", exposure=frozenset({"FR"}))}
LAW = LawNow(force=book(1))


def allowed(law: LawNow, label: Label) -> dict[SiteId, bool]:
    return {site: one.allowed for site, one in admissions(law, label, {**ALIKE, **ELSEWHERE}, Purpose.PLACE).items()}


def test_sites_that_are_alike_have_one_answer_and_others_their_own() -> None:
    assert allowed(LAW, PERSONAL) == {A: False, B: False, C: True}


def test_what_is_approved_for_one_site_is_not_for_another_like_it() -> None:
    approval = Approval(
        installation=INSTALLATION, name="gdpr-safeguards", services=(), projects=(PROJECT,), sites=(B,),
        evidence="file 1", issued_at=NOW, expires_at=NOW.replace(year=2027),
    )  # fmt: skip
    law = replace(LAW, grants=Grants(approvals=(approval,)))
    assert allowed(law.of(service("claims", PERSONAL)), PERSONAL) == {A: False, B: True, C: True}


def test_a_law_that_has_arrived_at_one_site_does_not_hold_at_another_like_it() -> None:
    label = replace(PERSONAL, categories=())
    law = LawNow(force=book(1, "gdpr"), coming=((book(2), frozenset({B})),))
    assert allowed(law, label) == {A: False, B: True, C: False}, "there alone, what is new is under the new one alone"


# --- standbys ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Built:
    """A law by which data of each level may be built at these sites."""

    sites: dict[Level, frozenset[SiteId]]

    def at(self, service: ServiceRecord, purpose: Purpose) -> frozenset[SiteId]:
        assert purpose is Purpose.BUILD
        return self.sites[service.label.level]


def test_services_that_are_placed_alike_wait_where_each_may_be_built() -> None:
    verdicts = tuple(
        SiteVerdict(site=site, verdict=verdict, reason="")
        for site, verdict in zip(
            SITES, (Verdict.CHOSEN, Verdict.POSSIBLE, Verdict.POSSIBLE, Verdict.REFUSED), strict=True
        )
    )
    other = tuple(replace(one, verdict=Verdict.POSSIBLE) for one in verdicts)
    labels = {"public": Level.PUBLIC, "internal": Level.INTERNAL, "again": Level.PUBLIC, "anywhere": Level.PUBLIC}
    services = [
        service(name, Label(level=level), Placement(service=ServiceId(f"sv-{name}"),
                verdicts=other if name == "anywhere" else verdicts))
        for name, level in labels.items()
    ]  # fmt: skip
    revision = Revision(id=RevisionId("rv-1"), source=SOURCE, source_size=1, runtime=Runtime.COMMAND, command=("a",))
    revisions = {
        one.id: [RevisionRecord(service=one.id, id=revision.id, number=1, created_at=NOW, contents=revision)]
        for one in services
    }
    law = Built({Level.PUBLIC: frozenset(SITES), Level.INTERNAL: frozenset({A, C, D})})
    found = standbys(services, revisions, law)  # type: ignore[arg-type]
    assert {site: [one.name for one in waiting] for site, waiting in found.items()} == {
        A: ["anywhere"],
        B: ["public", "again", "anywhere"],
        C: ["public", "internal", "again", "anywhere"],
        D: ["anywhere"],
    }
