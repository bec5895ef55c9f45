"""Writes desired states: the same bytes as `DESIRED_STATE` makes of each, but what several of them say is written once.

A hundred sites are told of the same thousand services, and most of what each is told is what all are.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from kasbah.domain.desired import DesiredState


def _fields() -> tuple[tuple[str, bytes, TypeAdapter[Any], bool], ...]:
    """Of each field of a desired state its name, how it begins, and what writes it: each of its items by itself, where
    it has any."""
    shapes, found = get_type_hints(DesiredState), []
    for field in fields(DesiredState):
        shape = shapes[field.name]
        of_items = get_origin(shape) is tuple
        found.append(
            (field.name, f'"{field.name}":'.encode(), TypeAdapter(get_args(shape)[0] if of_items else shape), of_items)
        )
    return tuple(found)


FIELDS = _fields()


class Writer:
    """Writes desired states that are made of the same objects, which it holds on to: for those of one moment."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bytes]] = {}
        """By the identity of an object, which is kept so that no other is given its own."""

    def write(self, state: DesiredState) -> bytes:
        """The document."""
        parts = []
        for name, begins, shape, of_items in FIELDS:
            value = getattr(state, name)
            parts.append(begins + (self._items(shape, value) if of_items else shape.dump_json(value)))
        return b"{" + b",".join(parts) + b"}"

    def _items(self, shape: TypeAdapter[Any], items: tuple[object, ...]) -> bytes:
        known, written = self._known, []
        for one in items:
            found = known.get(id(one))
            if found is None:
                found = known[id(one)] = (one, shape.dump_json(one))
            written.append(found[1])
        return b"[" + b",".join(written) + b"]"
