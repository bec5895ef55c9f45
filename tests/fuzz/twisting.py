"""What fits a shape, and what nearly fits it: JSON with other things put where something was, or cut short."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, TypeVar

from hypothesis import strategies as st
from pydantic import TypeAdapter

T = TypeVar("T")


def mostly(plain: list[T], odd: list[T]) -> st.SearchStrategy[T]:
    """One of the plain ones, nine times of ten: what is odd everywhere is refused for the first oddity."""
    return st.integers(0, 9).flatmap(lambda draw: st.sampled_from(plain if draw else odd))


FAR = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-03-01T12:00:00", "0001-01-01T00:00:00"]
MOMENTS = mostly(*([datetime.fromisoformat(one) for one in many] for many in (["2026-03-01T12:00:00+00:00"], FAR)))
TEXT = mostly(["", "a", "é"], ["\0", "\u202e", "é" * 300, "../../x", "'; --", "\U0001f600"])
WHOLE = mostly([0, 1, 2, 40], [-1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**30])
AMISS = [None, True, -1, 2**63, 10**400, 1e300, float("nan"), float("-inf"), "", "\0", "x" * 5_000, [], {}, [[]]]
INSTEAD = st.sampled_from([*AMISS, *FAR])


def written(shape: TypeAdapter[Any], value: Any) -> bytes:
    """The value in JSON, and in what passes for it: NaN, Infinity."""
    return json.dumps(shape.dump_python(value, mode="json")).encode()


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(one for key, inner in inside for one in _places(inner, (*place, key)))]


@st.composite
def nearly(draw: st.DrawFn, fits: st.SearchStrategy[bytes]) -> bytes:
    """A document with one place taken out, doubled, or filled with something else; or its bytes cut or changed."""
    data = draw(fits)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 8)) :]
    whole = json.loads(data)
    place = draw(st.sampled_from(_places(whole)))
    if not place:
        return json.dumps(draw(INSTEAD)).encode()
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    change = draw(st.sampled_from(["out", "twice", "instead", "instead"]))
    if change == "out":
        del inner[place[-1]]
    elif change == "twice" and isinstance(inner, list):
        inner.append(inner[place[-1]])
    else:
        inner[place[-1]] = draw(INSTEAD)
    return json.dumps(whole).encode()
