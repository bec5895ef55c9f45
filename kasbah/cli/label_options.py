"""A label from the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasbah.domain.label import LevelName
from kasbah.errors import Invalid

if TYPE_CHECKING:
    from kasbah.api.manifest import DataSection


def label_section(level: LevelName, categories: list[str], regimes: list[str]) -> DataSection:
    """The label that they make. Raises Invalid with the option that is wrong."""
    from pydantic import ValidationError

    from kasbah.api.manifest import DataSection

    try:
        return DataSection(level=level, categories=tuple(categories), regimes=tuple(regimes))
    except ValidationError as error:
        first = error.errors()[0]
        option = "--category" if first["loc"][0] == "categories" else "--regime"
        raise Invalid(str(first["msg"]).removeprefix("Value error, "), where=option, code="usage") from error
