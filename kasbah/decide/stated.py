"""Which keys that other sites state are taken? A service that runs there and calls one here gets that one's answers:
they come to be at that site, where the law must let them be, as for requests that it would send on.

A site states what it wants, and may have been taken over. What it may not have it cannot open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from kasbah.decide.callers import Stated
from kasbah.decide.last_word import Judge, Word
from kasbah.domain.crossing import Forwarded
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import ProjectId
from kasbah.domain.label import Label
from kasbah.domain.law import Purpose
from kasbah.domain.service import Service


def lawful(stated: Iterable[Stated], told: DesiredState, word: Word, now: datetime) -> tuple[Stated, ...]:
    """What other sites state, without the services whose data may not be there."""
    judge = Judge(told, word, now)
    known: dict[tuple[ProjectId, str], tuple[Service | Forwarded, Label]] = {
        (one.project, one.name): (one, judge.lanes[one.lane].label) for one in told.forwarded if one.lane in judge.lanes
    }
    known |= {(one.project, one.name): (one, one.label) for one in told.services}

    def may(said: Stated, name: str) -> bool:
        found = known.get((said.said.project, name))
        if found is None:
            return False
        service, label = found
        return judge.ask(service, judge.label(service, label), said.said.site, Purpose.FORWARD).allowed

    return tuple(
        replace(one, said=replace(one.said, calls=tuple(name for name in one.said.calls if may(one, name))))
        for one in stated
    )
