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
from dataclasses import dataclass, field

import cedarpy

from kasbah.decide.conclusions import attributes
from kasbah.decide.policies import NUMBERED, Law
from kasbah.decide.reading import Reading
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


def admit(
    law: Law, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
) -> Admission:
    """Whether it may. `approvals` are those recorded, signed and in force; never what a caller says."""
    return ask(Reading(law=law), data, place, purpose, approvals=approvals)


def ask(
    reading: Reading, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
) -> Admission:
    """The same under the law of `reading`, which keeps what is read for the next question."""
    if purpose is Purpose.PLACE and any(ACTIONS[one] in reading.law.singled_out for one in RUNNING):
        answers = (_ask(reading, data, place, one, approvals) for one in RUNNING)
        return next((one for one in answers if not one.allowed), Admission(allowed=True))
    return _ask(reading, data, place, purpose, approvals)


def _ask(reading: Reading, data: Data, place: Place, purpose: Purpose, approvals: frozenset[str]) -> Admission:
    law = reading.law
    unknown = sorted(set(data.label.regimes) - law.regimes)
    if unknown:
        return Admission(allowed=False, problem=_unknown_regime(unknown[0], law))
    try:
        read = reading.of(data, place)
        request = {
            "principal": read.uids[data],
            "action": {"type": "Kasbah::Action", "id": ACTIONS[purpose]},
            "resource": read.uids[place],
            "context": {"approvals": sorted(approvals)},
        }
        answer = cedarpy.is_authorized(request, law.policies, read.entities, law.schema)
    except ValueError as error:
        return Admission(allowed=False, problem=f"the question could not be asked: {error}")
    if answer.diagnostics.errors:
        return Admission(allowed=False, problem=_erring(law, answer.diagnostics.errors[0]))
    if answer.decision is cedarpy.Decision.Allow:
        return Admission(allowed=True)
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
        asked = (data, place, purpose, approvals)
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[asked] = ask(self._reading, data, place, purpose, approvals=approvals)
        return found
