"""What a change of the law, or of what is said of sites, would do: as people read it before they apply it."""

from __future__ import annotations

from collections.abc import Iterator

from kasbah.cli import render
from kasbah.cli.client import Document

MOST_LISTED = 30
"""Changes that are listed one by one where nothing runs; what ends is listed whole."""
CHANGES = ("closes", "opens", "bars", "admits")
"""Of a site, for a service: whether it may run there that does not, and whether its requests may pass there."""


def show(found: Document, *, against: str = "") -> None:
    """Print it: by class first, then one by one. `against` says what it was planned against."""
    losing = f"{found['losing']} of {found['services']} services would lose a placement or a call"
    render.say(
        f"{against}{losing}, and {len(found['stranded'])} would have nowhere to go; the limit is {found['allowed']}."
    )
    for number, (headers, rows) in enumerate(one for one in _tables(found) if one[1]):
        print("\n" if number else "", end="")
        render.table(headers, rows, empty="")
    if (changes := len(_changed(found))) > MOST_LISTED:
        render.say(f"... and {changes - MOST_LISTED} more changes: -o json lists all of them")


def _tables(found: Document) -> Iterator[tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    """What a plan says: by class first, then one by one."""
    yield (
        ("SERVICES WITH", "AT SITES", "LOSE PLACE", "MAY NO MORE", "MAY THEN"),
        [
            (_class_label(one), _class_site(one), one["ends"] or "", one["closes"] or "", one["opens"] or "")
            for one in found["classes"]
        ],
    )
    yield (
        ("ENDS", "AT", "BECAUSE", "MAY GO TO", "WOULD REOPEN"),
        [
            (
                one["service"],
                one["site"],
                one["reason"],
                ", ".join(one["others"]) or "nowhere",
                "; or ".join(one["reopens"]),
            )
            for one in found["ends"]
        ],
    )
    yield (
        ("CUTS", "CALLS TO", "BECAUSE"),
        [(one["service"], one["to"] or "anything outside", one["reason"]) for one in found["cuts"]],
    )
    yield ("CHANGE", "SERVICE", "SITE"), _changed(found)[:MOST_LISTED]


def _changed(found: Document) -> list[tuple[object, ...]]:
    return [(what, one["service"], one["site"]) for what in CHANGES for one in found[what]]


def _class_label(one: Document) -> str:
    data = one["data"]
    level = data["level"] + ("" if one["data_declared"] else ", as unlabelled data is")
    return "; ".join(part for part in (level, ", ".join(data["categories"]), ", ".join(data["regimes"])) if part)


def _class_site(one: Document) -> str:
    return f"{one['kind']}, {one['country'] or 'country not declared'}"
