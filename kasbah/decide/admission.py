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
from collections.abc import Mapping
from dataclasses import dataclass, field

import cedarpy

from kasbah.decide.conclusions import Attribute, attributes
from kasbah.decide.policies import NUMBERED, Law
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
DATA, SITE = {"type": "Kasbah::Data", "id": "data"}, {"type": "Kasbah::Site", "id": "site"}


def admit(
    law: Law, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
) -> Admission:
    """Whether it may. `approvals` are those recorded, signed and in force; never what a caller says."""
    if purpose is Purpose.PLACE and any(ACTIONS[one] in law.singled_out for one in RUNNING):
        answers = (_admit(law, data, place, one, approvals) for one in RUNNING)
        return next((one for one in answers if not one.allowed), Admission(allowed=True))
    return _admit(law, data, place, purpose, approvals)


def _admit(law: Law, data: Data, place: Place, purpose: Purpose, approvals: frozenset[str]) -> Admission:
    unknown = sorted(set(data.label.regimes) - law.regimes)
    if unknown:
        return Admission(allowed=False, problem=_unknown_regime(unknown[0], law))
    request = {
        "principal": DATA,
        "action": {"type": "Kasbah::Action", "id": ACTIONS[purpose]},
        "resource": SITE,
        "context": {"approvals": sorted(approvals)},
    }
    try:
        entities = cedarpy.Entities.from_json_str(_entities(law, data, place), schema=law.schema)
        answer = cedarpy.is_authorized(request, law.policies, entities, law.schema)
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


def _entities(law: Law, data: Data, place: Place) -> str:
    label = {
        "level": int(data.label.level),
        "categories": list(data.label.categories),
        "regimes": list(data.label.regimes),
    }
    said: dict[str, object] = {"kind": data.kind.value, "label": label}
    if data.risk is not None:
        said["risk"] = data.risk.value
    site: Mapping[str, Attribute] = attributes(place, law.geography)
    return json.dumps([{"uid": DATA, "attrs": said, "parents": []}, {"uid": SITE, "attrs": site, "parents": []}])


MOST_KNOWN = 100_000
"""Answers that are kept: classes of labels times classes of sites are far fewer."""


@dataclass(slots=True, kw_only=True)
class Admissions:
    """The answers under one law. Another law needs another of these: that is what forgets."""

    law: Law
    _known: dict[tuple[Data, Place, Purpose, frozenset[str]], Admission] = field(default_factory=dict)

    def admit(
        self, data: Data, place: Place, purpose: Purpose, *, approvals: frozenset[str] = frozenset()
    ) -> Admission:
        """As `admit` says, asked once."""
        asked = (data, place, purpose, approvals)
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[asked] = admit(self.law, data, place, purpose, approvals=approvals)
        return found
