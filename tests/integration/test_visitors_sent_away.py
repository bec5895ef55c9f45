"""Who has something open at a site's door is sent away once the control plane says so, or cannot say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from kasbah.agent.visitors import Visitors
from kasbah.api.agent import MOST_VISITORS, Visitor
from kasbah.api.signing import Ticket
from kasbah.domain.ids import SiteId
from kasbah.errors import Denied, Unavailable

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def ticket(holder: str) -> Ticket:
    return Ticket(act="exec", object="sv-a", site=SiteId("st-a"), expires_at=NOW, holder=holder)


class Control:
    """Says of some that they may."""

    def __init__(self, *holders: str) -> None:
        self.holders, self.asked, self.away = set(holders), 0, False

    async def ask(self, visitors: tuple[Visitor, ...]) -> tuple[Visitor, ...]:
        self.asked += 1
        if self.away:
            raise Unavailable("nobody answers")
        return tuple(one for one in visitors if one.holder in self.holders)


async def test_who_may_no_more_goes_and_others_stay() -> None:
    control = Control("a", "b")
    visitors = Visitors(control.ask)
    with visitors.stay(ticket("a")) as first, visitors.stay(ticket("a")) as again, visitors.stay(ticket("b")) as other:
        await visitors.look()
        assert not any(one.done() for one in (first, again, other))
        control.holders.discard("a")
        await visitors.look()
        assert "not allowed any more" in first.result() == again.result()
        assert not other.done()


async def test_who_might_and_may_no_more_does_not_begin() -> None:
    control = Control("a")
    visitors = Visitors(control.ask)
    await visitors.refuse_former(ticket("a"))
    control.holders.discard("a")
    with pytest.raises(Denied, match="not allowed any more"):
        await visitors.refuse_former(ticket("a"))
    await visitors.refuse_former(ticket(""))  # of a control plane of the version before


async def test_where_nobody_can_be_asked_the_ticket_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kasbah.agent.visitors.ASK_SECONDS", 0.01)
    control = Control()
    control.away = True
    await Visitors(control.ask).refuse_former(ticket("a"))

    async def never(_: tuple[Visitor, ...]) -> tuple[Visitor, ...]:
        await asyncio.Event().wait()
        return ()

    await Visitors(never).refuse_former(ticket("a"))


async def test_nobody_is_asked_about_where_nobody_is() -> None:
    control = Control()
    visitors = Visitors(control.ask)
    with visitors.stay(ticket("")) as of_before:
        await visitors.look()
        assert not of_before.done(), "a ticket of the version before names nobody"
    await visitors.look()
    assert control.asked == 0


async def test_a_control_plane_that_is_away_for_a_moment_sends_nobody_away() -> None:
    control = Control("a")
    control.away = True
    patient, hasty = Visitors(control.ask), Visitors(control.ask, unanswered_seconds=-1)
    with patient.stay(ticket("a")) as stays, hasty.stay(ticket("a")) as goes:
        await patient.look()
        await hasty.look()
        assert not stays.done()
        assert "nobody could say" in goes.result()


async def test_there_are_so_many_at_the_most() -> None:
    visitors = Visitors(Control("a").ask)
    stays = [visitors.stay(ticket("a")) for _ in range(MOST_VISITORS)]
    for one in stays:
        one.__enter__()
    with pytest.raises(Unavailable, match="are open at this site already"), visitors.stay(ticket("a")):
        pass
    stays[0].__exit__(None, None, None)
    with visitors.stay(ticket("a")):
        pass
