"""Changes the law: what a new lawbook would do (plan), putting it on its way (apply), and a second person's yes.

What is applied was signed by the owner, names the law it was planned against, and goes beyond the limit only if it says
so. A lawbook that changes a pack that nobody changes alone is proposed, and waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kasbah import packs
from kasbah.control.store.lawbooks import LawbookRecord, LawbookState
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.foresee import Foreseen, foresee, scene
from kasbah.control.usecases.law_now import Book
from kasbah.control.usecases.roll_law import carry_on
from kasbah.control.usecases.work import Work
from kasbah.decide.two_persons import needing_two, refusal
from kasbah.domain.charter import Lawbook, Signed
from kasbah.errors import Conflict, Denied, Invalid, NotFound

PLAN = "kasbah policy plan"
COUNTRY_CODE = 2
LEVELS = range(5)
MOST_AHEAD = 1_000
"""Versions that a restore may have lost. What a site says beyond that is not believed: numbers have an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a lawbook would do, against which version; the packs that need a second person."""

    based_on: int
    version: int
    foreseen: Foreseen
    two_person: tuple[str, ...]


def next_version(work: Work) -> int:
    """The version of the next lawbook: later than any that is known here, or that a site holds. After a restore sites
    may hold later ones than the backup, and would take none that is not later than those."""
    newest = work.tx.lawbooks.newest()
    held = [one.report.law for one in work.tx.sites.all() if one.report is not None]
    return max([newest, *(law for law in held if law <= newest + MOST_AHEAD)]) + 1


def plan_law(work: Work, book: Book) -> Planned:
    """What it would do if this lawbook held everywhere."""
    now, here = work.law, scene(work)
    return Planned(
        based_on=now.newest.lawbook.version,
        version=next_version(work),
        foreseen=foresee(work, here, replace(here, law=now.under(book))),
        two_person=needing_two(now.newest.lawbook, book.lawbook),
    )


def apply_law(
    work: Work, caller: TokenRecord, signed: Signed, *, based_on: int, even_so: bool, reason: str
) -> LawbookRecord:
    """Put a lawbook on its way, or propose it where a second person is needed."""
    book = work.library.book(signed)
    check_sound(book.lawbook)
    planned = plan_law(work, book)
    _check_version(planned, book.lawbook.version, based_on)
    if book.lawbook.version != planned.version:
        raise Conflict(
            f"this would be version {book.lawbook.version} of the law, and the next is {planned.version}",
            hint="plan it again: kasbah policy plan",
            code="law_changed",
        )
    if replace(work.law.newest.lawbook, version=0) == replace(book.lawbook, version=0):
        raise Conflict("this is the law already", hint="`kasbah policy status` shows it", code="law_unchanged")
    planned.foreseen.check(even_so=even_so, plan=PLAN)
    record = LawbookRecord(
        version=book.lawbook.version,
        document=signed.document,
        signature=signed.signature,
        state=LawbookState.PROPOSED,
        based_on=based_on,
        author=caller.name,
        author_id=caller.id,
        at=work.now,
        reason=reason,
        even_so=even_so,
        loosens=planned.foreseen.blast.loosens,
        changed_at=work.now,
        note=f"needs a second person: {', '.join(planned.two_person)}" if planned.two_person else "",
    )
    _withdraw_proposals(work, record)
    work.tx.lawbooks.add(record)
    return record if planned.two_person else _start(work, record)


def approve_law(work: Work, caller: TokenRecord, version: int, makers: Mapping[str, str | None]) -> LawbookRecord:
    """A second person's yes to a proposal. `makers` says whose token was made by whom."""
    record = lawbook_numbered(work, version)
    if record.state is not LawbookState.PROPOSED:
        raise Conflict(
            f"version {version} is {record.state}: it waits for nobody",
            hint="kasbah policy history",
            code="not_proposed",
        )
    why_not = refusal(
        record.author_id or "", caller.id, makers, proposed_at=record.at, approver_since=caller.created_at
    )
    if why_not:
        raise Denied(
            f"this needs a second person, and you are none: {why_not}",
            hint="have somebody else approve it, with a token that its author did not make",
            code="second_person",
        )
    book = work.library.book(record.signed)
    planned = plan_law(work, book)
    _check_version(planned, book.lawbook.version, record.based_on)
    planned.foreseen.check(even_so=record.even_so, plan=PLAN)
    return _start(work, replace(record, approved_by=caller.name, loosens=planned.foreseen.blast.loosens))


def resume_law(work: Work, version: int) -> LawbookRecord:
    """Let a lawbook that halted go on: what went wrong is taken as it is."""
    record = lawbook_numbered(work, version)
    if record.state is not LawbookState.HALTED or version != work.law.newest.lawbook.version:
        raise Conflict(
            f"version {version} is {record.state}: only the newest, where it has halted, goes on",
            hint="kasbah policy status",
            code="not_halted",
        )
    forgiven = replace(record, state=LawbookState.ROLLING, note="a person let it go on", changed_at=work.now)
    work.tx.lawbooks.save(forgiven)
    return carry_on(work, forgive=True) or forgiven


def lawbook_numbered(work: Work, version: int) -> LawbookRecord:
    """The lawbook with this version, or NotFound."""
    found = work.tx.lawbooks.get(version) if 0 < version < 2**31 else None
    if found is None:
        raise NotFound(f"there is no version {version} of the law", hint="kasbah policy history", code="law_not_found")
    return found


def check_sound(lawbook: Lawbook) -> None:
    """Refuse what can be no law, though each of its packs is sound."""
    names = [one.name for one in lawbook.packs]
    levels_wrong = [level for level in lawbook.stale_after if level not in LEVELS]
    unknown = sorted(set(lawbook.two_person) - set(names))
    problem = ""
    if len(set(names)) < len(names):
        problem = "a pack is in it twice"
    elif "base" not in names:
        problem = "the pack `base` is not in it: without that nothing is allowed anywhere"
    elif lawbook.home is not None and not (len(lawbook.home) == COUNTRY_CODE and lawbook.home.isupper()):
        problem = f"{lawbook.home!r} is no country"
    elif levels_wrong:
        problem = f"{levels_wrong[0]} is no level"
    elif unknown:
        problem = f"two_person names {unknown[0]!r}, which is not in it"
    if problem:
        raise Invalid(problem, where="lawbook", hint="mend the policy file", code="policy_unsound")
    for pack in lawbook.packs:
        packs.check_new(pack)


def _check_version(planned: Planned, version: int, based_on: int | None) -> None:
    if based_on != planned.based_on:
        raise Conflict(
            f"version {version} was planned against version {based_on}, and version {planned.based_on} holds: the law "
            "changed meanwhile",
            hint="plan it again: kasbah policy plan",
            code="law_changed",
        )


def _withdraw_proposals(work: Work, by: LawbookRecord) -> None:
    for one in work.tx.lawbooks.in_state(LawbookState.PROPOSED):
        if one.version != by.version:
            note = f"version {by.version} took its place"
            work.tx.lawbooks.save(replace(one, state=LawbookState.WITHDRAWN, note=note, changed_at=work.now))


def _start(work: Work, record: LawbookRecord) -> LawbookRecord:
    """On its way. One that is still on its own way stays where it has come."""
    for one in work.tx.lawbooks.in_state(LawbookState.ROLLING):
        note = f"overtaken by version {record.version}"
        work.tx.lawbooks.save(replace(one, state=LawbookState.HALTED, note=note, changed_at=work.now))
    started = replace(record, state=LawbookState.ROLLING, note="", changed_at=work.now)
    work.tx.lawbooks.save(started)
    return carry_on(work) or started
