"""May data with this label be at this place for this purpose?

The one question that is asked wherever something could end up somewhere: placement, forwards, builds, logs, backups,
egress. No answer, or an error in the answer, is a no:

- Cedar skips a policy that errs, so that an erring `forbid` would allow: any error at all refuses.
- A default deny names no policy: what is then said is what each permit asks for (@unmet).
- A regime that no pack in force knows refuses: nobody could say that it is kept.

What is placed somewhere is built there, and writes its logs there: it may be placed only where all three are allowed.

Data is asked about by its class (level, categories, regimes, kind, risk) and a place by its facts, so that thousands of
services at a hundred sites are a few thousand questions; `Admissions` remembers their answers for as long as its law is
in force.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cedarpy

from kasbah.decide.conclusions import attributes
from kasbah.decide.policies import NUMBERED, Law
from kasbah.decide.reading import Reading
from kasbah.domain.ids import SiteId
from kasbah.domain.law import Admission, Data, Place, Purpose, Rule

ACTIONS = {
    Purpose.PLACE: "Place",
    Purpose.FORWARD: "Forward",
    Purpose.BUILD: "Build",
    Purpose.LOG: "Log",
    Purpose.BACKUP: "Backup",
    Purpose.EGRESS: "Egress",
}
RUNNING = (Purpose.PLACE, Purpose.BUILD, Purpose.LOG)
ALLOWED = Admission(allowed=True)


def admit(
    law: Law, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
) -> Admission:
    """Whether it may. `approvals` are those recorded, signed and in force; never what a caller says."""
    return ask(Reading(law=law), data, (place,), purpose, approvals=approvals)[0]


def ask(
    reading: Reading,
    data: Data,
    places: Sequence[Place],
    purpose: Purpose,
    *,
    approvals: frozenset[str] = frozenset(),
) -> list[Admission]:
    """The same of several places, under the law of `reading`, which keeps what is read for the next question."""
    if purpose is Purpose.PLACE and any(ACTIONS[one] in reading.law.singled_out for one in RUNNING):
        answers = zip(*(_ask(reading, data, places, one, approvals) for one in RUNNING), strict=True)
        return [next((one for one in found if not one.allowed), ALLOWED) for found in answers]
    return _ask(reading, data, places, purpose, approvals)


def _ask(
    reading: Reading, data: Data, places: Sequence[Place], purpose: Purpose, approvals: frozenset[str]
) -> list[Admission]:
    law = reading.law
    unknown = sorted(set(data.label.regimes) - law.regimes)
    if unknown:
        return [Admission(allowed=False, problem=_unknown_regime(unknown[0], law))] * len(places)
    try:
        read = reading.of(data, *places)
        request = {
            "principal": read.uids[data],
            "action": {"type": "Kasbah::Action", "id": ACTIONS[purpose]},
            "context": json.dumps({"approvals": sorted(approvals)}),
        }
        requests = [{**request, "resource": read.uids[place]} for place in places]
        answers = cedarpy.is_authorized_batch(requests, law.policies, read.entities, law.schema)
        return [_answer(law, data, *one) for one in zip(places, answers, strict=True)]
    except ValueError as error:
        if len(places) > 1:  # what is wrong with one is nothing to the others
            return [_ask(reading, data, (place,), purpose, approvals)[0] for place in places]
        return [Admission(allowed=False, problem=f"the question could not be asked: {error}")]


def _answer(law: Law, data: Data, place: Place, answer: cedarpy.AuthzResult) -> Admission:
    if answer.diagnostics.errors:
        return Admission(allowed=False, problem=_erring(law, answer.diagnostics.errors[0]))
    if answer.decision is cedarpy.Decision.Allow:
        return ALLOWED
    rules = tuple(sorted((law.rules[name] for name in answer.diagnostics.reasons), key=lambda rule: rule.id))
    unmet = () if rules else _unmet(law, data)
    known = attributes(place, law.geography)
    missing = sorted({need for rule in (*rules, *unmet) for need in rule.needs if need not in known})
    return Admission(allowed=False, rules=rules, unmet=unmet, missing=tuple(missing))


def _unmet(law: Law, data: Data) -> tuple[Rule, ...]:
    """The permits that could have allowed it. One for lower levels than the data's would help nobody."""
    return tuple(rule for rule in law.permits if rule.level is None or data.label.level <= rule.level)


def _erring(law: Law, error: str) -> str:
    """Which rule errs, by its own id; and the next step."""
    words = NUMBERED.sub(lambda found: law.rules[found[0]].id if found[0] in law.rules else found[0], error)
    return f"a rule could not be applied: {words}; whoever keeps its pack must mend it, until then it refuses"


def _unknown_regime(regime: str, law: Law) -> str:
    near = difflib.get_close_matches(regime, sorted(law.regimes), n=1)
    meant = f"did you mean {near[0]}? known" if near else "known"
    known = ", ".join(sorted(law.regimes))
    return f"no policy pack in force knows the regime {regime!r}, so nobody can say that it is kept; {meant}: {known}"


HERE = SiteId("here")
"""One that is asked about alone."""
MOST_KNOWN = 100_000
"""Answers that are kept: classes of labels times classes of sites are far fewer."""


@dataclass(slots=True, kw_only=True)
class Admissions:
    """The answers under one law. Another law needs another of these: that is what forgets."""

    law: Law
    _known: dict[tuple[Data, Place, Purpose, frozenset[str]], Admission] = field(default_factory=dict)
    _reading: Reading = field(init=False)

    def __post_init__(self) -> None:
        self._reading = Reading(law=self.law)

    def admit(
        self, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
    ) -> Admission:
        """As the function says, asked once."""
        known = self._known.get((data, place, purpose, approvals))
        return self.admit_all(data, {HERE: place}, purpose, approvals=approvals)[HERE] if known is None else known

    def admit_all(
        self, data: Data, places: Mapping[SiteId, Place], purpose: Purpose, *, approvals: frozenset[str] = frozenset()
    ) -> dict[SiteId, Admission]:
        """The same of several sites. Of a hundred many are alike; what is not known of them is asked about together."""
        alike = defaultdict[Place, list[SiteId]](list)
        for site, place in places.items():
            alike[place].append(site)
        answers = {place: self._known.get((data, place, purpose, approvals)) for place in alike}
        new = [place for place, answer in answers.items() if answer is None]
        if new:
            if len(self._known) + len(new) > MOST_KNOWN:
                self._known.clear()
            for place, answer in zip(new, ask(self._reading, data, new, purpose, approvals=approvals), strict=True):
                answers[place] = self._known[data, place, purpose, approvals] = answer
        return {site: answer for place, answer in answers.items() if answer is not None for site in alike[place]}
