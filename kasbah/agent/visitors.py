"""Who reads a log or runs a command here is asked about before it begins, and for as long as it lasts: a ticket is good
for minutes. Whoever may it no more is sent away: a token was switched off or has expired, a label has risen above its
ceiling, the service is deleted.

Before it begins, what is sensitive asks for a deployer's signature: a ticket is the control plane's word alone.

Where the control plane cannot be asked, the ticket is its word, and after some minutes everybody is sent away: no
answer is a no. What serves goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from kasbah.agent.last_word import LastWord
from kasbah.api.agent import MOST_VISITORS, Identity, Visitor
from kasbah.api.signing import Ticket
from kasbah.decide.signed import FROM
from kasbah.domain.ids import Digest
from kasbah.errors import Denied, KasbahError, Unavailable

log = structlog.get_logger()

LOOK_EVERY = timedelta(seconds=1)
UNANSWERED_SECONDS = 300.0
ASK_SECONDS = 2.0
NO_MORE = "this is not allowed any more: the token, its ceiling or the service has changed"

Ask = Callable[[tuple[Visitor, ...]], Awaitable[tuple[Visitor, ...]]]
"""Asks the control plane who of these still may."""
SentAway = asyncio.Future[str]
"""Done once a visitor has to go; why."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Stay:
    """Something that is open. `known_at`: when its visitor was last known to be allowed, in the event loop's time."""

    visitor: Visitor
    known_at: float
    away: SentAway = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Visitors:
    """Those of one site."""

    def __init__(
        self, ask: Ask, word: LastWord | None = None, *, unanswered_seconds: float = UNANSWERED_SECONDS
    ) -> None:
        self._ask = ask
        self._word = word
        self._unanswered_seconds = unanswered_seconds
        self._stays: set[_Stay] = set()

    @contextmanager
    def stay(self, ticket: Ticket) -> Iterator[SentAway]:
        """Within the block, the ticket's holder is asked about. Raises Unavailable where there are too many."""
        self.refuse_too_many()
        one = _Stay(visitor=_visitor(ticket), known_at=asyncio.get_running_loop().time())
        self._stays.add(one)
        try:
            yield one.away
        finally:
            self._stays.discard(one)
            one.away.cancel()

    async def refuse_former(self, ticket: Ticket) -> None:
        """Raise Denied where the ticket's holder may no more what he might when it was given to him."""
        visitor, may = _visitor(ticket), None
        if visitor.holder:
            with suppress(KasbahError, TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    may = await self._ask((visitor,))
        if may is not None and visitor not in may:
            raise Denied(NO_MORE, code="sent_away")

    def refuse_too_many(self) -> None:
        """Raise Unavailable where one more would be too many."""
        if len(self._stays) >= MOST_VISITORS:
            raise Unavailable(
                f"{MOST_VISITORS} logs and commands are open at this site already", hint="end one, and try again"
            )

    def refuse_unsigned(self, identity: Identity, ticket: Ticket, text: str, words: Digest, said: str) -> None:
        """Raise Denied where the site's last word wants a deployer's signature of this, and has none."""
        why = None if self._word is None else self._word.refuses_errand(identity, ticket, text, words, said)
        if why is not None:
            raise Denied(
                f"from level {int(FROM)} on, this site shows its logs and runs commands only for deployers: {why}",
                hint="name your deployer's key: --deployer-key PATH; the owner names whose count: kasbah deployers add",
                code="errand_unsigned",
            )

    async def look(self) -> None:
        """Ask about all of them, and send away who may no more. Who has a ticket of a control plane of the version
        before is nobody's."""
        stays = [one for one in self._stays if one.visitor.holder and not one.away.done()]
        if not stays:
            return
        now = asyncio.get_running_loop().time()
        try:
            may = set(await self._ask(tuple(sorted({one.visitor for one in stays}))))
        except KasbahError:
            for one in stays:
                if now - one.known_at > self._unanswered_seconds:
                    _send_away(
                        one, f"nobody could say for {self._unanswered_seconds:g} s whether this is still allowed"
                    )
            return
        for one in stays:
            if one.visitor in may:
                one.known_at = now
            else:
                _send_away(one, NO_MORE)


def _visitor(ticket: Ticket) -> Visitor:
    return Visitor(holder=ticket.holder, act=ticket.act, object=ticket.object)


def _send_away(stay: _Stay, why: str) -> None:
    if not stay.away.done():
        log.info("sent away", act=stay.visitor.act, service=stay.visitor.object, holder=stay.visitor.holder, reason=why)
        stay.away.set_result(why)
