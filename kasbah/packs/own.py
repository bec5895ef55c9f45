"""Packs of one's own: a folder each, with a table of tests; and those that a site's own owner pins there.

FOLDER/pack.yaml, rules.cedar, tests.yaml      one pack
FOLDER/*/pack.yaml ...                         several
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kasbah import packs
from kasbah.decide.policies import Law
from kasbah.domain.law import Pack
from kasbah.errors import Invalid
from kasbah.packs import tables

TABLE = "tests.yaml"
MOST_PINNED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A pack of one's own, and the table of its tests."""

    pack: Pack
    file: Path
    table: tuple[tables.Case, ...]


def read_own(folder: Path) -> Own:
    """The pack in a folder, and its tests. Raises Invalid where it has none, or can be no law."""
    pack = packs.read(folder)
    file = folder / TABLE
    if not file.exists():
        raise Invalid("a pack without tests is no pack", where=str(file), hint="write the table of its cases")
    packs.check_new(pack)
    return Own(pack=pack, file=file, table=table_in(file))


def table_in(file: Path) -> tuple[tables.Case, ...]:
    """The cases in a file. Raises Invalid where there is none."""
    table = tables.cases(file)
    if not table:
        raise Invalid("there is no case in it", where=str(file), hint="write some: rules are as good as their tests")
    return table


def pinned(folder: Path | None) -> tuple[Pack, ...]:
    """The packs that a site's owner pins: all that are in `folder`, sound, and with tests that hold. None: he pins
    none. Raises Invalid."""
    if folder is None:
        return ()
    found = [read_own(one) for one in _folders(folder)]
    names = [one.pack.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(f"the pack {twice[0]!r} is there twice", where=str(folder), hint="keep one of them")
    law = beside(packs.shipped(), [one.pack for one in found])
    for one in found:
        wrong = [outcome for outcome in tables.run(law, one.table) if outcome.problem]
        if wrong:
            raise Invalid(
                f"{wrong[0].case.name}: {wrong[0].problem}",
                where=str(one.file),
                hint=f"`kasbah policy test {one.file.parent}` shows each case; nothing is pinned before all hold",
                code="pack_tests",
            )
    return tuple(one.pack for one in found)


def beside(law: Iterable[Pack], own: Iterable[Pack]) -> Law:
    """The law of these packs and one's own, in the place of those of the same name. Raises Invalid."""
    own = tuple(own)
    replaced = {one.name for one in own}
    return packs.law_of((*(one for one in law if one.name not in replaced), *own))


def digest_of(pack: Pack) -> str:
    """The digest of a pack's rules, by which two who speak of a pack know that it is the same."""
    return "sha256:" + hashlib.sha256(pack.policies.encode()).hexdigest()


def _folders(folder: Path) -> list[Path]:
    try:
        inside = [folder] if (folder / "pack.yaml").is_file() else sorted(folder.iterdir())
    except OSError as error:
        raise Invalid(
            f"it cannot be read: {error.strerror}", where=str(folder), hint="name a folder that holds packs"
        ) from error
    found = [one for one in inside if (one / "pack.yaml").is_file()]
    if not 0 < len(found) <= MOST_PINNED:
        what = f"more than {MOST_PINNED} packs are" if found else "no pack is"
        hint = "a pack is a folder with pack.yaml, rules.cedar and tests.yaml"
        raise Invalid(f"{what} in it", where=str(folder), hint=hint)
    return found
