from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kasbah.decide.allowance import asked_for, scaling_of, sleep_of
from kasbah.domain.ids import Digest, ProjectId, RevisionId, RolloutId, ServiceId
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Scaling, Service, Share, Sleep, Trial

OLD, NEW = (
    Revision(
        id=RevisionId(f"rv-{name}"),
        source=Digest("sha256:" + "a" * 64),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("x",),
    )
    for name in ("old", "new")
)
SERVICE = Service(
    id=ServiceId("sv-1"),
    project=ProjectId("pr-1"),
    name="web",
    hosts=("web.localhost",),
    scaling=Scaling(min=2, max=5),
    sleep=Sleep(freeze_after=None, stop_after=timedelta(hours=9)),
    revisions=(OLD, NEW),
    shares=(Share(revision=NEW.id, percent=100), Share(revision=OLD.id, percent=0)),
)


def tried(revision: Revision, replicas: int) -> Service:
    return replace(SERVICE, trial=Trial(rollout=RolloutId("ro-1"), revision=revision.id, replicas=replicas))


@pytest.mark.parametrize(
    ("service", "revision", "least", "most"),
    [
        (SERVICE, NEW, 2, 5),
        (SERVICE, OLD, 0, 5),
        (tried(OLD, 3), OLD, 3, 5),
        (tried(OLD, 3), NEW, 2, 5),
        (tried(OLD, 30), OLD, 5, 5),
        (SERVICE, replace(NEW, port=80), 1, 1),
        (tried(OLD, 3), replace(OLD, port=80), 1, 1),
    ],
)
def test_bounds(service, revision, least, most) -> None:
    bounds = scaling_of(service, revision)
    assert (bounds.min, bounds.max) == (least, most)


def test_only_the_revision_under_trial_is_asked_for() -> None:
    assert (asked_for(tried(OLD, 3), OLD), asked_for(tried(OLD, 3), NEW), asked_for(SERVICE, OLD)) == (3, 0, 0)


def test_what_is_at_hand_sleeps_whatever_the_service_asks() -> None:
    assert sleep_of(SERVICE, NEW) == SERVICE.sleep
    at_hand = sleep_of(SERVICE, OLD)
    assert (at_hand.freeze_after, at_hand.stop_after) == (timedelta(minutes=1), timedelta(minutes=30))
    quick = replace(SERVICE, sleep=Sleep(freeze_after=timedelta(seconds=5), stop_after=None))
    assert sleep_of(quick, OLD).freeze_after == timedelta(seconds=5)
