"""Are these policies sound, and what do they say of themselves? Packs become a law that admission can ask.

Cedar skips a policy that errs, so that an erring `forbid` allows: policies that do not validate against the schema are
never loaded. Cedar numbers policies by their place, so each is known by its own @id, which is why it must have one.

Cedar reads what is nested by calling itself, and a text that is nested a thousand deep ends the process: what is too
long or too deep is refused before Cedar sees it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cedarpy

from kasbah.decide import rule_words
from kasbah.domain.law import Geography, Pack, Rule

REQUIRED = ("id", "title", "advice", "cite", "verified")
KNOWN = frozenset({*REQUIRED, "needs", "approval", "unmet", "level"})
LEVELS = frozenset("01234")
ACTION, EVERYTHING = "Kasbah::Action", "Process"
"""What is done with data, and the action that stands for all of them."""
NUMBERED = re.compile(r"policy\d+")
OF_POLICY = re.compile(r"^for policy `policy\d+`, ")
ATTRIBUTE = re.compile(r"attribute `(?P<path>[\w.]+)`")

LONGEST_TEXT = 200_000
"""Characters of a pack's policies."""
DEEPEST, MOST_OPERATORS = 40, 200
"""Of one policy: brackets in brackets, and what else makes an expression deep. 1,000 were seen to end a process; 300 of
each are read in a thread."""
QUIET = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*', re.DOTALL)
OPERATOR = re.compile(r"&&|\|\||[-+*.!<>=]|\b(?:if|has|like|in|is|when|unless)\b")


class Unsound(ValueError):
    """Policies that cannot be law. `pack` and `rule` say where, `hint` what to do where that can be said."""

    def __init__(self, message: str, *, pack: str, rule: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.pack = pack
        self.rule = rule
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Policies in force, parsed once. `rules` is by the name that Cedar gives each policy; `permits` are those whose
    absence means no. `singled_out` are the actions that some policy speaks of by name: what else is done with data is
    answered alike."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    rules: Mapping[str, Rule]
    permits: tuple[Rule, ...]
    packs: tuple[Pack, ...]
    geography: Geography = field(default_factory=Geography)
    singled_out: frozenset[str] = frozenset()

    @property
    def regimes(self) -> frozenset[str]:
        """The regimes that packs in force know."""
        return frozenset(pack.name for pack in self.packs)


def law(packs: Iterable[Pack], schema: str, geography: Geography) -> Law:
    """The law that these packs make. Raises Unsound."""
    found = tuple(packs)
    described = [one for pack in found for one in _described(pack, schema)]
    _only_once(described)
    text = "\n".join(pack.policies for pack in found)
    parsed = _static(text)  # in the order of the text, which is the order of `described`
    rules = {name: rule for name, (rule, _) in zip(parsed, described, strict=True)}
    return Law(
        policies=cedarpy.PolicySet.from_str(text),
        schema=cedarpy.Schema.from_str(schema),
        rules=rules,
        permits=tuple(rule for rule, effect in described if effect == "permit"),
        packs=found,
        geography=geography,
        singled_out=frozenset(name for policy in parsed.values() for name in _actions(policy)) - {EVERYTHING},
    )


def check_new(pack: Pack, schema: str) -> None:
    """Raise Unsound where a pack cannot become law, or speaks of what is not there. What is law already stays it, also
    where more is asked of new ones than was of it."""
    for (rule, _), policy in zip(_described(pack, schema), _static(pack.policies).values(), strict=True):
        found = rule_words.fault(policy, schema)
        if found is not None:
            raise Unsound(found[0], pack=pack.name, rule=rule.id, hint=found[1])


def _described(pack: Pack, schema: str) -> list[tuple[Rule, str]]:
    """A pack's rules with their effects, once it is sound."""
    _check_size(pack)
    try:
        parsed = _static(pack.policies)
    except (ValueError, RecursionError) as error:
        raise Unsound(f"this is not Cedar: {_at_line(pack.policies)}{error}", pack=pack.name) from error
    if not parsed:
        raise Unsound("there is no policy in it", pack=pack.name)
    described = [(_rule(pack, name, policy), str(policy["effect"])) for name, policy in parsed.items()]
    checked = cedarpy.validate_policies(pack.policies, schema)
    if not checked.validation_passed:
        named = {name: rule.id for name, (rule, _) in zip(parsed, described, strict=True)}
        first = checked.errors[0]
        words = NUMBERED.sub(lambda found: named.get(found[0], found[0]), OF_POLICY.sub("", first.error))
        raise Unsound(words, pack=pack.name, rule=named.get(first.policy_id, ""), hint=_hint(first.error, schema))
    return described


def _at_line(policies: str) -> str:
    """Where the first policy begins that Cedar cannot read, for it does not say; "" where each can be read alone."""
    plain = QUIET.sub(lambda quiet: re.sub(r"[^\n]", " ", quiet[0]), policies)
    start = 0
    for end in (*(found.end() for found in re.finditer(";", plain)), len(plain)):
        if plain[start:end].strip():
            begins = end - len(plain[start:end].lstrip())
            try:
                cedarpy.policies_to_json_str(policies[start:end])
            except ValueError:
                return f"the policy at line {plain.count(chr(10), 0, begins) + 1}: "
        start = end
    return ""


def _hint(error: str, schema: str) -> str:
    """The next step about what Cedar found not to fit the schema; "" where there is none in particular."""
    found = ATTRIBUTE.search(error)
    if found is None:
        return ""
    path = found["path"]
    if "optional" in error:
        return f"where nobody declared it, it is not there: ask for it first, `resource has {path} && ...`"
    near = difflib.get_close_matches(path.rpartition(".")[2], rule_words.DECLARED.findall(schema), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}what policies may speak of is in kasbah/packs/schema.cedarschema"


def _check_size(pack: Pack) -> None:
    if len(pack.policies) > LONGEST_TEXT:
        raise Unsound(f"its policies are longer than {LONGEST_TEXT:,} characters", pack=pack.name)
    for number, policy in enumerate(QUIET.sub('""', pack.policies).split(";"), start=1):
        if _depth(policy) > DEEPEST or len(OPERATOR.findall(policy)) > MOST_OPERATORS:
            words = f"it is nested deeper than {DEEPEST}, or has more than {MOST_OPERATORS} operators: split it"
            raise Unsound(words, pack=pack.name, rule=f"rule {number}")


def _depth(policy: str) -> int:
    """How deep brackets stand in brackets."""
    deepest = depth = 0
    for character in policy:
        depth = max(depth + (character in "([{") - (character in ")]}"), 0)
        deepest = max(deepest, depth)
    return deepest


def _static(text: str) -> dict[str, dict[str, Any]]:
    """Policies by the name that Cedar gives them, in their order."""
    read = json.loads(cedarpy.policies_to_json_str(text))
    if read.get("templates"):
        raise ValueError("templates (?principal, ?resource) are no rules of a pack")
    found: dict[str, dict[str, Any]] = read["staticPolicies"]
    return dict(sorted(found.items(), key=lambda one: int(one[0].removeprefix("policy"))))


def _rule(pack: Pack, name: str, policy: Mapping[str, Any]) -> Rule:
    said: dict[str, str] = policy.get("annotations") or {}
    known_as = said.get("id") or f"rule {int(name.removeprefix('policy')) + 1}"
    for word in REQUIRED:
        if not said.get(word):
            raise Unsound(f"it has no @{word}", pack=pack.name, rule=known_as)
    for word in said:
        if word not in KNOWN:
            raise Unsound(f"@{word} means nothing here; known are @{', @'.join(sorted(KNOWN))}", pack=pack.name,
                          rule=known_as)  # fmt: skip
    if not said["id"].startswith(f"{pack.name}."):
        raise Unsound(f"its @id must begin with {pack.name}.", pack=pack.name, rule=known_as)
    level = said.get("level", "")
    if policy["effect"] == "permit" and not (said.get("unmet") and level in LEVELS):
        words = "a permit needs @level, the highest that it can allow (0 to 4), and @unmet, what it then asks for"
        raise Unsound(words, pack=pack.name, rule=known_as)
    return Rule(
        id=said["id"],
        pack=pack.name,
        title=said["title"],
        advice=said["advice"],
        citation=said["cite"],
        verified=said["verified"],
        needs=tuple(said.get("needs", "").split()),
        approval=said.get("approval", ""),
        unmet=said.get("unmet", ""),
        level=int(level) if level in LEVELS else None,
    )


def _actions(policy: Mapping[str, Any]) -> Iterator[str]:
    """The actions that a policy names, in its scope or its conditions."""
    return (part["id"] for part in rule_words.parts(policy) if part.get("type") == ACTION)


def _only_once(described: list[tuple[Rule, str]]) -> None:
    counts = Counter(rule.id for rule, _ in described)
    for rule, _ in described:
        if counts[rule.id] > 1:
            raise Unsound("two rules have this @id", pack=rule.pack, rule=rule.id)
