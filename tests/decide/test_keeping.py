from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.keeping import (
    AtWork,
    Kept,
    Log,
    Wants,
    Worth,
    cache_of,
    surplus,
    surplus_revisions,
    wants,
    worth_of_build,
    worth_of_cache,
    worth_of_logs,
    worth_of_source,
)
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ReplicaId, RevisionId, RolloutId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service, Share, Trial


def kept(name: str, size: int = 10, used: float = 0, worth: Worth = Worth.SPARE) -> Kept:
    return Kept(name=name, size=size, used=used, worth=worth)


NEEDED, STALE = kept("needed", 50, worth=Worth.NEEDED), kept("stale", 1, 99, worth=Worth.STALE)
OLD, NEW = kept("old", used=1), kept("new", used=2)


@pytest.mark.parametrize(
    ("there", "cap", "gone"),
    [
        ((), 0, ()),
        ((NEEDED,), 0, ()),
        ((STALE,), 1_000, ("stale",)),
        ((NEW, OLD), 20, ()),
        ((NEW, OLD), 19, ("old",)),
        ((NEW, OLD), 9, ("old", "new")),
        ((NEW, OLD, STALE), 20, ("stale",)),
        ((NEW, OLD, NEEDED), 60, ("old",)),
        ((NEW, OLD, NEEDED), 10, ("old", "new")),
    ],
)
def test_what_goes(there, cap, gone) -> None:
    assert tuple(one.name for one in surplus(there, cap=cap)) == gone


KEPT = st.lists(
    st.builds(
        Kept,
        name=st.text("abc", max_size=3),
        size=st.integers(0, 20),
        used=st.floats(0, 10),
        worth=st.sampled_from(Worth),
    ),
    max_size=12,
)


@given(KEPT, st.integers(0, 100))
def test_what_is_needed_stays_and_no_more_goes_than_the_cap_asks(there, cap) -> None:
    gone = surplus(there, cap=cap)
    assert not [one for one in gone if one.worth is Worth.NEEDED]
    assert [one for one in there if one.worth is Worth.STALE] == [one for one in gone if one.worth is Worth.STALE]
    left = sum(one.size for one in there) - sum(one.size for one in gone)
    spare = [one for one in gone if one.worth is Worth.SPARE]
    remaining = sum(one.worth is Worth.SPARE for one in there) - len(spare)
    assert left <= cap or remaining == 0
    if spare:
        assert left + spare[-1].size > cap, "the last that went had to go"


def revision(number: int) -> Revision:
    return Revision(
        id=RevisionId(f"rv-{number}"),
        source=Digest(f"sha256:{number}"),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("x",),
    )


def desired(**service: object) -> DesiredState:
    revisions = tuple(revision(number) for number in range(5))
    one = Service(id=ServiceId("sv-1"), project=ProjectId("pr-1"), name="web", hosts=(), revisions=revisions, **service)
    return DesiredState(
        installation=InstallationId("in-1"),
        epoch=1,
        generation=1,
        site=SiteId("st-1"),
        issued_at=datetime(2026, 3, 1, tzinfo=UTC),
        base_domain="localhost",
        services=(one,),
    )


def test_shares_trials_and_what_is_at_work_are_needed() -> None:
    shares = (Share(revision=RevisionId("rv-1"), percent=100), Share(revision=RevisionId("rv-2"), percent=0))
    trial = Trial(rollout=RolloutId("ro-1"), revision=RevisionId("rv-3"))
    at_work = AtWork(services=frozenset({ServiceId("sv-gone")}), revisions=frozenset({RevisionId("rv-old")}))
    wanted = wants(desired(shares=shares, trial=trial), at_work)
    ids = ("rv-0", "rv-1", "rv-2", "rv-3", "rv-4", "rv-old", "rv-9")
    worths = [worth_of_build(RevisionId(one), wanted).value for one in ids]
    assert worths == ["spare", "needed", "needed", "needed", "spare", "needed", "stale"]
    assert wanted.services == {"sv-1", "sv-gone"}
    for source, worth in (("0", Worth.SPARE), ("1", Worth.NEEDED), ("3", Worth.NEEDED), ("9", Worth.STALE)):
        assert worth_of_source(Digest(f"sha256:{source}"), wanted, fresh=False) is worth
    assert worth_of_source(Digest("sha256:9"), wanted, fresh=True) is Worth.NEEDED


SERVICE, OTHER = ServiceId("sv-1"), ServiceId("sv-2")
WANTED = Wants(
    services=frozenset({SERVICE}),
    revisions=frozenset({RevisionId("rv-1"), RevisionId("rv-2")}),
    running=frozenset({RevisionId("rv-1")}),
    replicas=frozenset({ReplicaId("rp-1")}),
)


def test_why_logs_are_kept() -> None:
    logs = {
        "rp-1": Worth.NEEDED,  # alive, though it wrote first of all
        "rp-4": Worth.SPARE,
        "rp-3": Worth.SPARE,
        "rp-2": Worth.STALE,
        "build-rv-1": Worth.NEEDED,
        "build-rv-2": Worth.SPARE,
        "build-rv-9": Worth.STALE,
    }
    ours = [Log(service=SERVICE, name=name, used=float(name[-1])) for name in logs]
    theirs = Log(service=OTHER, name="rp-1", used=9)
    found = worth_of_logs([*ours, theirs], WANTED, ended=2)
    assert {log.name: worth for log, worth in found.items() if log.service == SERVICE} == logs
    assert found[theirs] is Worth.STALE


@pytest.mark.parametrize(
    ("there", "used", "keep", "gone"),
    [("", "", 10, ""), ("abc", "", 10, ""), ("abc", "", 3, ""), ("abc", "", 1, "ab"), ("abcd", "a", 2, "b")],
)
def test_revisions_beyond_the_last_ones(there, used, keep, gone) -> None:
    assert surplus_revisions(tuple(there), set(used), keep=keep) == tuple(gone)


LOW = Label(level=Level.INTERNAL)
HEALTH = Label(level=Level.SENSITIVE, categories=("health",), regimes=("gdpr",))


def labelled(label: Label, project: str = "pr-1", declared: Label | None = None) -> Service:
    return Service(
        id=ServiceId("sv-1"), project=ProjectId(project), name="web", hosts=(), label=label, declared=declared
    )


@pytest.mark.parametrize(
    "other",
    [
        labelled(LOW),
        labelled(HEALTH, "pr-2"),
        labelled(Label(level=Level.SENSITIVE)),
        labelled(Label(level=Level.SENSITIVE, categories=("financial",), regimes=("gdpr",))),
        labelled(Label(level=Level.SENSITIVE, categories=("health", "gdpr"))),
    ],
)
def test_services_of_other_projects_and_labels_build_with_other_caches(other: Service) -> None:
    assert cache_of(other) != cache_of(labelled(HEALTH))


def test_a_label_that_was_lowered_keeps_its_cache() -> None:
    """What is in it was made of what it was."""
    assert cache_of(labelled(LOW, declared=HEALTH)) == cache_of(labelled(HEALTH)) != cache_of(labelled(LOW))


def test_a_cache_is_kept_for_those_who_could_use_it() -> None:
    wanted = Wants(caches=frozenset({cache_of(labelled(HEALTH))}))
    assert worth_of_cache(cache_of(labelled(HEALTH)), wanted, building=False) is Worth.SPARE
    assert worth_of_cache(cache_of(labelled(LOW)), wanted, building=False) is Worth.STALE
    assert worth_of_cache(cache_of(labelled(LOW)), wanted, building=True) is Worth.NEEDED
