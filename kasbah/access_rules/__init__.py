"""The rules of access that come with Kasbah, as data in Cedar: `schema.cedarschema` and `rules.cedar`.

`kasbah.decide.access` reads and asks them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from kasbah.decide.access import AccessRules, access_rules

HERE = files(__package__)


def schema() -> str:
    """What the rules may speak of, in Cedar's language."""
    return (HERE / "schema.cedarschema").read_text(encoding="utf-8")


def rules() -> str:
    """The rules, in Cedar's language."""
    return (HERE / "rules.cedar").read_text(encoding="utf-8")


@cache
def shipped_access() -> AccessRules:
    """The rules, read once."""
    return access_rules(rules(), schema())
