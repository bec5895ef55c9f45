"""What lists are ordered by: a name, and an id where two names are the same."""

from __future__ import annotations

from typing import Protocol


class Listed(Protocol):
    """Anything that lists are ordered by."""

    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
