"""Callers that keep calling while a site is lost, and what they saw before and after."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from demo.load import Outcome, Request, Tally, Target, call


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the callers saw: all requests, and by which site each good one was answered, before and after."""

    tally: Tally
    before: Counter[str]
    after: Counter[str]

    @classmethod
    def of(cls, before: list[Outcome], after: list[Outcome]) -> Seen:
        """The outcomes, counted; the app answers with the name of its site."""
        return cls(tally=Tally.of([*before, *after]), before=_sites(before), after=_sites(after))

    def lines(self) -> list[str]:
        """For the reader."""
        return [
            f"answered before: {_told(self.before)}; after: {_told(self.after)}",
            f"{self.tally.requests:,} requests, {self.tally.failed} failed, the slowest took "
            f"{self.tally.slowest_ms:,.0f} ms",
        ]


async def steady_calls(
    target: Target, callers: int, before_seconds: float, after_seconds: float, lost: asyncio.Event
) -> Seen:
    """Call for both spans together, one request after the other from each caller. What was sent after `lost` was set is
    counted apart; it ends in time though nobody sets it."""
    loop = asyncio.get_running_loop()
    before: list[Outcome] = []
    after: list[Outcome] = []
    end = loop.time() + before_seconds + after_seconds

    async def keep_calling() -> None:
        while loop.time() < end:
            noted = after if lost.is_set() else before
            noted.append(await call(target, Request()))

    await asyncio.gather(*(keep_calling() for _ in range(callers)))
    return Seen.of(before, after)


def _sites(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(outcome.body.decode(errors="replace") for outcome in outcomes if outcome.fault is None)


def _told(sites: Counter[str]) -> str:
    return ", ".join(f"{site} {count:,}" for site, count in sorted(sites.items())) or "none"
