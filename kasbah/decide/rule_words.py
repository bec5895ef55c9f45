"""Does a policy speak of what there is? Who speaks of what is not there has written a rule that never applies, and a
`forbid` that never applies allows.

Cedar finds misspelt attributes and types, not all else: `resource == Kasbah::Site::"paris"` is sound to it, though
sites have no names here; so is `resource has cuntry`, which is only never so, and `resource.kind == "onprem"`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kasbah.domain.country import COUNTRIES, country_error
from kasbah.domain.label import CATEGORIES, Level
from kasbah.domain.law import DataKind, Risk
from kasbah.domain.site import SiteKind

NAMELESS = {
    "Kasbah::Site": "sites have no names in a rule: say by its facts which is meant (`resource.country == ...`); what "
    "is to hold at one site alone is pinned at its agent, and a service avoids one with `placement.avoid`",
    "Kasbah::Data": "data has no name in a rule: say by its label which is meant (`principal.label.categories`, or a "
    "regime of your own, named as your pack is)",
}
OWNERS = {"principal": "entity Data", "resource": "entity Site", "principal.label": "type Label"}
"""Whose attributes can be asked for, and where the schema lists them."""
DECLARED = re.compile(r"^\s*(\w+)\??:", re.MULTILINE)
"""A name in the schema that has a type."""
WORDS: Mapping[str, Collection[str]] = {
    "resource.kind": [one.value for one in SiteKind],
    "principal.kind": [one.value for one in DataKind],
    "principal.risk": [one.value for one in Risk],
    "principal.label.categories": CATEGORIES,
    "resource.country": COUNTRIES,
    "resource.operatorHome": COUNTRIES,
    "resource.exposure": COUNTRIES,
    "resource.administeredFrom": COUNTRIES,
}
"""The words that each can be, or have among others. Regimes and certificates are whatever packs and owners name."""
LEVEL = "principal.label.level"
COMPARES = ("==", "!=", "<", "<=", ">", ">=", "contains", "containsAny", "containsAll", "in")

Part = Any
"""A part of a policy in Cedar's JSON."""
Fault = tuple[str, str]
"""What is wrong, and the next step."""


def fault(policy: Mapping[str, Part], schema: str) -> Fault | None:
    """The first thing in a policy that speaks of nothing; None where there is none."""
    found = (_fault(kind, said, schema) for part in parts(policy) for kind, said in part.items())
    return next((one for one in found if one is not None), None)


def parts(policy: Mapping[str, Part]) -> Iterator[dict[str, Part]]:
    """All that a policy consists of."""
    left: list[Part] = [dict(policy)]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _fault(kind: str, said: Part, schema: str) -> Fault | None:
    if kind in ("entity", "__entity", "entities"):
        return next((one for one in map(_named, said if isinstance(said, list) else [said]) if one), None)
    if kind == "has":
        return _asks(_path(said["left"]), said["attr"], schema)
    if kind in COMPARES and isinstance(said, dict):
        left, right = said.get("left"), said.get("right")
        return _compares(_path(left), right) or _compares(_path(right), left)
    return None


def _named(entity: Mapping[str, str]) -> Fault | None:
    hint = NAMELESS.get(entity["type"])
    return None if hint is None else (f'it never applies: it is about {entity["type"]}::"{entity["id"]}" alone', hint)


def _asks(owner: str, attribute: str, schema: str) -> Fault | None:
    """Whether what it asks for (`has`) is anything that the owner can have."""
    if owner not in OWNERS:
        return None
    body = re.search(OWNERS[owner] + r"\b[^{]*{([^}]*)}", schema)
    known = DECLARED.findall(body[1]) if body is not None else []
    if attribute in known:
        return None
    return f"`{owner}` never has `{attribute}`", _meant(attribute, known)


def _compares(path: str, other: Part) -> Fault | None:
    """Whether what it is compared with is anything that it can be."""
    if path == LEVEL:
        strange = [one for one in _values(other) if one not in {int(level) for level in Level}]
        return (f"no level is {strange[0]}", f"levels are 0 to {int(max(Level))}") if strange else None
    words = WORDS.get(path)
    if words is None:
        return None
    odd = next((one for one in _values(other) if isinstance(one, str) and one not in words), None)
    if odd is None:
        return None
    hint = country_error(odd) or "" if words is COUNTRIES else _meant(odd, words)
    return f'`{path}` is never "{odd}"', hint


def _meant(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known are {', '.join(sorted(known))}"


def _path(part: Part) -> str:
    """`resource.kind`, say; "" for what is no attribute of what is asked about."""
    match part:
        case {"Var": str(name)}:
            return name
        case {".": {"left": left, "attr": str(name)}}:
            return f"{owner}.{name}" if (owner := _path(left)) else ""
        case _:
            return ""


def _values(part: Part) -> Iterator[object]:
    """The literals of a side of a comparison."""
    match part:
        case {"Value": value}:
            yield value
        case {"Set": [*members]}:
            for one in members:
                yield from _values(one)
        case _:
            return
