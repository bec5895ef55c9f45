"""What single change would open a site that is refused? Found by trying: each that is told was asked about and allowed.

What is tried: an approval that lifts a rule, a site back in service, one more fact about it, a lower label. A site that
no single change opens needs several; then its rules say which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kasbah.decide.admission import Admissions
from kasbah.domain.label import Level
from kasbah.domain.law import Admission, Data, Place, Purpose

CERTIFICATES = ("SecNumCloud", "HDS", "DGSSI-L2", "DGSSI-L1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A change, in words, and the question as it would then be."""

    words: str
    data: Data
    place: Place
    approvals: frozenset[str]


def openings(
    law: Admissions, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
) -> tuple[Opening, ...]:
    """Each single change after which this data may be there; none where it may already, or where nobody could ask."""
    answer = law.admit(data, place, purpose, approvals=approvals)
    if answer.allowed or answer.problem:
        return ()
    asked = Opening(words="", data=data, place=place, approvals=approvals)
    found = [one for one in _tried(asked, answer) if _opens(law, one, purpose)]
    lower = next((one for one in _lower(asked) if _opens(law, one, purpose)), None)
    return (*found, *([lower] if lower is not None else []))


def _opens(law: Admissions, tried: Opening, purpose: Purpose) -> bool:
    return law.admit(tried.data, tried.place, purpose, approvals=tried.approvals).allowed


def _tried(asked: Opening, answer: Admission) -> Iterator[Opening]:
    for rule in answer.rules:
        if rule.approval:
            words = f"the approval {rule.approval}"
            yield replace(asked, words=words, approvals=asked.approvals | {rule.approval})
    needs = {need for rule in (*answer.rules, *answer.unmet) for need in rule.needs}
    for words, place in _places(asked.place, needs):
        yield replace(asked, words=words, place=place)


def _places(place: Place, needs: set[str]) -> Iterator[tuple[str, Place]]:
    """The place with one fact more, of those that the rules ask for."""
    if not place.active:
        yield "taking the site back into service", replace(place, active=True)
    own = None if place.country is None else frozenset({place.country})
    if "exposure" in needs and own is not None:
        yield "an operator whom only the site's own country can compel", replace(place, exposure=own)
    if "administeredFrom" in needs and own is not None:
        yield "being administered from the site's own country alone", replace(place, administered_from=own)
    if "certificates" in needs:
        for one in CERTIFICATES:
            yield f"the certificate {one}", replace(place, certificates=place.certificates | {one})
    if "customerKeys" in needs:
        yield "keys held by the customer", replace(place, customer_keys=True)
    if "confidential" in needs:
        yield "confidential computing", replace(place, confidential=True)
    if "durableLogs" in needs:
        yield "logs that are kept for as long as the law asks", replace(place, durable_logs=True)


def _lower(asked: Opening) -> Iterator[Opening]:
    """The same with a lower label, the highest first."""
    for level in sorted(Level, reverse=True):
        if level < asked.data.label.level:
            words = f"a label of level {int(level)} ({level.word})"
            label = replace(asked.data.label, level=level)
            yield replace(asked, words=words, data=replace(asked.data, label=label))
