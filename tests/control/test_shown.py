from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kasbah.control.shown import shown_state
from kasbah.domain.ids import RevisionId, RolloutId, ServiceId
from kasbah.domain.observed import ServiceStatus
from kasbah.domain.rollout import Rollout, RolloutState
from kasbah.domain.service import ServiceState

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def rollout(state: RolloutState) -> Rollout:
    return Rollout(
        id=RolloutId("ro-1"),
        service=ServiceId("sv-1"),
        revision=RevisionId("rv-1"),
        state=state,
        started_at=NOW,
        changed_at=NOW,
        reason="as the rollout says",
    )


def status(state: ServiceState) -> ServiceStatus:
    return ServiceStatus(service=ServiceId("sv-1"), state=state, reason="as the site says")


R, S = RolloutState, ServiceState


@pytest.mark.parametrize(
    ("serves", "said", "last", "connected", "shown", "reason"),
    [
        (False, None, None, True, S.WAITING, "it was never rolled out"),
        (False, None, R.WAITING, True, S.WAITING, "as the rollout says"),
        (False, None, R.BUILDING, True, S.BUILDING, "as the rollout says"),
        (False, S.STOPPED, R.BUILDING, True, S.BUILDING, "as the rollout says"),
        (False, S.STOPPED, R.STARTING, True, S.STARTING, "as the rollout says"),
        (False, S.STOPPED, R.FAILED, True, S.FAILED, "as the rollout says"),
        (False, None, R.FAILED, False, S.FAILED, "as the rollout says"),
        (True, None, R.DONE, True, S.WAITING, "the site has not reported it yet"),
        (True, S.RUNNING, R.DONE, True, S.RUNNING, "as the site says"),
        (True, S.FROZEN, R.FAILED, True, S.FROZEN, "as the site says"),
        (True, S.RUNNING, R.BUILDING, True, S.RUNNING, "as the site says"),
        (True, S.STOPPED, None, False, S.STOPPED, "as the site says (its site does not report at present"),
    ],
)
def test_the_word_that_lists_show(serves, said, last, connected, shown, reason) -> None:
    state, why = shown_state(
        serves=serves,
        status=status(said) if said else None,
        rollout=rollout(last) if last else None,
        connected=connected,
    )
    assert state is shown
    assert why.startswith(reason)
