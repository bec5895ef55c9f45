"""Which state is a service in? The one word, and its reason, that every list shows.

    serves?  a site has reported it?   then it shows
    yes      yes                       what the site says
    yes      no                        waiting: the site has not reported it yet
    no       (either)                  what its last rollout says: waiting, building, starting, or failed
    yes      it may be at no site      waiting: by which rule of the law

A service serves once a rollout of it is proven. Until then the site's own word says less than the rollout's, which has
heard the site and knows what it waits for. A later rollout that fails does not make a service that serves a failed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from kasbah.domain.ids import SiteId
from kasbah.domain.observed import ServiceStatus
from kasbah.domain.placement import Placement
from kasbah.domain.rollout import Rollout, RolloutState
from kasbah.domain.service import ServiceState


def shown_state(
    *, serves: bool, status: ServiceStatus | None, rollout: Rollout | None, connected: bool
) -> tuple[ServiceState, str]:
    """The state and its reason. `connected`: the site of `status` reports at present."""
    if not serves:
        return _from_rollout(rollout)
    if status is None:
        return ServiceState.WAITING, "the site has not reported it yet"
    if not connected:
        away = "its site does not report at present; this is what it said last"
        return status.state, f"{status.reason} ({away})" if status.reason else away
    return status.state, status.reason


def shown_nowhere(
    *, serves: bool, placement: Placement | None, rollout: Rollout | None, names: Mapping[SiteId, str]
) -> tuple[ServiceState, str]:
    """The same for a service that is at no site: it has none yet, or the law took it away."""
    if not serves or placement is None:
        return shown_state(serves=serves, status=None, rollout=rollout, connected=False)
    return ServiceState.WAITING, f"it may be at no site. {placement.told(names)}"


def _from_rollout(rollout: Rollout | None) -> tuple[ServiceState, str]:
    if rollout is None:
        return ServiceState.WAITING, "it was never rolled out"
    match rollout.state:
        case RolloutState.WAITING:
            return ServiceState.WAITING, rollout.reason
        case RolloutState.BUILDING:
            return ServiceState.BUILDING, rollout.reason
        case RolloutState.STARTING | RolloutState.SHIFTING | RolloutState.WATCHING | RolloutState.DONE:
            return ServiceState.STARTING, rollout.reason
        case RolloutState.FAILED:
            return ServiceState.FAILED, rollout.reason
        case RolloutState.SUPERSEDED:
            return ServiceState.WAITING, rollout.reason
        case _ as never:
            assert_never(never)
