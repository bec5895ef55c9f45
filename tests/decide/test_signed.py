"""From level 3 on nothing runs that no deployer signed whom the owner named; and what was taken stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kasbah.decide.signed import Deployed, Signature, Signatures, begins_at, mark, problem_of, taken, unsigned, without
from kasbah.domain.attestation import Attestation
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, RolloutId, ServiceId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service, Share, Trial

NOW = datetime(2026, 11, 27, tzinfo=UTC)
INSTALLATION, PROJECT, SERVICE = InstallationId("in-1"), ProjectId("pr-1"), ServiceId("sv-1")
SENSITIVE, VITAL = Label(level=Level.SENSITIVE), Label(level=Level.VITAL)
ANNE = Deployer(
    installation=INSTALLATION,
    name="anne",
    key="ed25519:anne",
    evidence="x",
    issued_at=NOW,
    expires_at=NOW + timedelta(days=1),
)
OLD, NEW = RevisionId("rv-old"), RevisionId("rv-new")


def revision(name: RevisionId) -> Revision:
    return Revision(id=name, source=Digest(f"sha256:{name}"), source_size=1, runtime=Runtime.COMMAND, command=("x",))


WEB = Service(
    id=SERVICE,
    project=PROJECT,
    name="web",
    hosts=("web.x",),
    revisions=(revision(OLD), revision(NEW)),
    shares=(Share(revision=OLD, percent=90), Share(revision=NEW, percent=10)),
)
SAID = Attestation(
    installation=INSTALLATION,
    project=PROJECT,
    service="web",
    contents=Digest("sha256:rv-old"),
    label=SENSITIVE,
    signed_at=NOW,
)
WANTED = Deployed(installation=INSTALLATION, project=PROJECT, service="web", contents=Digest("sha256:rv-old"))


def known(*signed: RevisionId, deployers: tuple[Deployer, ...] = (ANNE,), **before: int) -> Signatures:
    def found(_: ServiceId, wanted: RevisionId) -> Signature | None:
        if wanted not in signed:
            return None
        return Signature(key=ANNE.key, attestation=replace(SAID, contents=Digest(f"sha256:{wanted}")))

    return Signatures(
        installation=INSTALLATION,
        contents=lambda one: one.source,
        signed=found,
        all_signed=lambda _: (),
        deployers=deployers,
        taken={SERVICE: {mark(WEB, Digest(f"sha256:rv-{one}")): level for one, level in before.items()}},
    )


@pytest.mark.parametrize(
    ("said", "deployers", "problem"),
    [
        pytest.param({}, (ANNE,), None, id="good"),
        pytest.param({"contents": Digest("sha256:other")}, (ANNE,), "other contents", id="other contents"),
        pytest.param({"service": "shop"}, (ANNE,), "as service 'shop'", id="another service"),
        pytest.param({"project": ProjectId("pr-2")}, (ANNE,), "project pr-2", id="another project"),
        pytest.param({"installation": InstallationId("in-2")}, (ANNE,), "installation in-2", id="another installation"),
        pytest.param({}, (), "has not named", id="nobody named"),
        pytest.param({}, (replace(ANNE, key="ed25519:bert"),), "has not named", id="another named"),
        pytest.param({}, (replace(ANNE, projects=(ProjectId("pr-2"),)),), "not named for this project", id="elsewhere"),
        pytest.param({}, (replace(ANNE, max_level=Level.RESTRICTED),), "level 3", id="less"),
        pytest.param({}, (replace(ANNE, max_level=Level.RESTRICTED), ANNE), None, id="named twice"),
    ],
)
def test_a_signature_says_who_what_and_as_what(said, deployers, problem) -> None:
    found = problem_of(Signature(key=ANNE.key, attestation=replace(SAID, **said)), WANTED, Level.SENSITIVE, deployers)
    assert found is None if problem is None else problem in (found or "")


def test_nobody_s_signature_is_none() -> None:
    assert problem_of(None, WANTED, Level.SENSITIVE, (ANNE,)) == "no deployer has signed it"


def test_less_than_sensitive_data_needs_none() -> None:
    assert unsigned(WEB, Label(level=Level.RESTRICTED), known()) == {}
    assert list(unsigned(WEB, SENSITIVE, known())) == [OLD, NEW]
    assert list(unsigned(WEB, UNLABELLED, known())) == [OLD, NEW], "what nobody labelled is sensitive"


def test_what_was_taken_stays_whoever_is_named_now_but_not_for_more_than_it_was_taken_for() -> None:
    seen = taken(WEB, SENSITIVE, known(OLD), unsigned(WEB, SENSITIVE, known(OLD)))
    assert list(seen.values()) == [3]
    assert list(unsigned(WEB, SENSITIVE, known(deployers=(), old=3))) == [NEW]
    assert list(unsigned(WEB, VITAL, known(deployers=(), old=3))) == [OLD, NEW]
    assert list(unsigned(WEB, VITAL, known(OLD, NEW))) == [], "anne may"


def test_what_was_taken_was_taken_as_this_service() -> None:
    renamed = replace(WEB, name="shop")
    assert list(unsigned(renamed, SENSITIVE, known(old=3, new=3))) == [OLD, NEW]


def test_what_is_left_out_leaves_its_traffic_to_the_others() -> None:
    left = without(WEB, {NEW: "x"})
    assert left is not None
    assert [one.id for one in left.revisions] == [OLD]
    assert left.shares == (Share(revision=OLD, percent=100),)


def test_a_service_of_which_nothing_is_left_is_none() -> None:
    assert without(WEB, {OLD: "x", NEW: "x"}) is None
    trial = Trial(rollout=RolloutId("ro-1"), revision=NEW)
    assert without(replace(WEB, shares=(), trial=trial), {NEW: "x"}) is None
    serving = without(replace(WEB, shares=(Share(revision=OLD, percent=100),), trial=trial), {NEW: "x"})
    assert serving is not None
    assert serving.trial is None, "what serves goes on, and the other is not tried"


def test_a_service_that_gets_no_traffic_yet_is_not_refused_for_what_it_does_not_use() -> None:
    by_hand = replace(WEB, shares=(Share(revision=OLD, percent=0),))
    assert without(by_hand, {NEW: "x"}) is not None


def test_who_is_named_later_is_asked_about_then() -> None:
    later = replace(ANNE, issued_at=NOW + timedelta(seconds=5))
    assert begins_at((ANNE, later), NOW) == later.issued_at
    assert begins_at((ANNE,), NOW) is None
