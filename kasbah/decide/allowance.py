"""What may a revision of a service have: how many replicas, and how long may it stay awake unused?

The service says it for the revisions that have traffic. One that is only at hand needs no replicas and sleeps, whatever
the service asks; one that is to get more traffic has first what its rollout asks for; and a fixed port or a volume is
one replica's.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.domain.revision import Revision
from kasbah.domain.service import Scaling, Service, Sleep

AT_HAND = Sleep()
"""What gets no traffic, and is kept for the case that it is wanted again, never stays awake for longer than this."""


def asked_for(service: Service, revision: Revision) -> int:
    """The replicas that a rollout wants ready before the revision gets more traffic."""
    trial = service.trial
    return trial.replicas if trial is not None and trial.revision == revision.id else 0


def scaling_of(service: Service, revision: Revision) -> Scaling:
    """The bounds of the revision's replicas."""
    scaling = service.scaling
    least = scaling.min if service.percent(revision.id) > 0 else 0
    most = 1 if revision.alone else scaling.max
    return replace(scaling, min=min(max(least, asked_for(service, revision)), most), max=most)


def sleep_of(service: Service, revision: Revision) -> Sleep:
    """When the revision goes to sleep."""
    sleep = service.sleep
    if service.percent(revision.id) > 0:
        return sleep
    freeze = [one for one in (sleep.freeze_after, AT_HAND.freeze_after) if one is not None]
    stop = [one for one in (sleep.stop_after, AT_HAND.stop_after) if one is not None]
    return replace(sleep, freeze_after=min(freeze), stop_after=min(stop))
