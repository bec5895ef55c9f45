"""Does a change of the law need a second person, and may this one be it?

A pack marked so is changed by nobody alone, and the mark is taken away by nobody alone either. The second person is
neither the author nor made by the author, nor by anybody whom the author made; and was there before the proposal was,
so that nobody makes a second person up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from kasbah.domain.charter import Lawbook

Principal = str
"""Who acted: the id of a token, or of whoever holds it."""


def packs_changed(old: Lawbook, new: Lawbook) -> frozenset[str]:
    """The packs that are added, taken out, changed, or marked otherwise. What concerns all of them (the home country,
    how stale a site may be, the limit) changes each."""
    was, will_be = ({one.name: one for one in book.packs} for book in (old, new))
    if (old.home, old.stale_after, old.limit) != (new.home, new.stale_after, new.limit):
        return frozenset(was.keys() | will_be.keys())
    changed = {name for name in was.keys() | will_be.keys() if was.get(name) != will_be.get(name)}
    return frozenset(changed) | (set(old.two_person) ^ set(new.two_person))


def needing_two(old: Lawbook, new: Lawbook) -> tuple[str, ...]:
    """The changed packs that nobody changes alone; none: one person is enough."""
    return tuple(sorted(packs_changed(old, new) & {*old.two_person, *new.two_person}))


def refusal(
    author: Principal,
    approver: Principal,
    makers: Mapping[Principal, Principal | None],
    *,
    proposed_at: datetime,
    approver_since: datetime,
) -> str:
    """Why this person is no second one; empty where they are. `makers` says who made whom."""
    if approver == author:
        return "you proposed it yourself"
    if approver_since >= proposed_at:
        return "your token is younger than the proposal"
    seen: set[Principal] = set()
    maker = makers.get(approver)
    while maker is not None and maker not in seen:
        if maker == author:
            return "whoever proposed it made your token, or the one that made yours"
        seen.add(maker)
        maker = makers.get(maker)
    return ""
