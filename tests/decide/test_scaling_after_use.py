"""A use that is over by the time it is seen still leads to sleep: the rule always says when to look again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kasbah.decide.scaling import Load, Rung, ScalingMemory, scale
from kasbah.domain.service import Scaling, Sleep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SLEEP = Sleep(freeze_after=timedelta(seconds=5), stop_after=timedelta(minutes=10))


@pytest.mark.parametrize("load", [Load(begun=1), Load(in_flight=1), Load(waiting=1)])
def test_after_any_use_there_is_a_next_look_and_it_freezes(load: Load) -> None:
    memory = ScalingMemory(rung=Rung.RUNNING, last_used=NOW)
    target, memory = scale(Scaling(), SLEEP, replicas=1, load=load, memory=memory, now=NOW + timedelta(seconds=1))
    assert target.look_again == NOW + timedelta(seconds=6)
    target, _ = scale(Scaling(), SLEEP, replicas=1, load=Load(), memory=memory, now=target.look_again)
    assert target.rung is Rung.FROZEN
