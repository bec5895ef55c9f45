"""`policy.yaml`: the law as its owner writes it, and the lawbook that becomes of it.

    home: MA                       the installation's own country
    packs:                         all that are in force, by name
      base:                        as in force; else as it comes with Kasbah
      gdpr: {version: 1}           this version: the one in force, or the one that comes with Kasbah
      house:                       a pack of one's own: a folder beside this file
        path: packs/house
        two_person: true           nobody changes it alone
    stale_after:                   how long a site that is cut off may serve data of a level
      sensitive: 15m
    limit: 2                       services that a change may end without being told to; or a part of all: 10%

A pack of one's own needs tests, and they must hold under the law that it makes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kasbah import packs
from kasbah.api.fields import Duration
from kasbah.cli.exits import Failed
from kasbah.decide.policies import Law
from kasbah.domain.charter import Lawbook, Limit
from kasbah.domain.ids import InstallationId
from kasbah.domain.label import Level, LevelName
from kasbah.domain.law import Pack
from kasbah.errors import Invalid
from kasbah.packs import tables
from kasbah.packs.own import Own, read_own
from kasbah.packs.tables import Country

PackName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?%$")]


class PackChoice(packs.Strict):
    """Which version of a pack, or where a pack of one's own is; and whether nobody changes it alone."""

    version: int | None = Field(default=None, ge=1)
    path: str | None = Field(default=None, min_length=1)
    two_person: bool = False


class PolicyFile(packs.Strict):
    """The file."""

    home: Country | None = None
    packs: dict[PackName, PackChoice | None] = Field(min_length=1, max_length=200)
    stale_after: dict[LevelName, Duration] = Field(default_factory=dict)
    limit: Annotated[int, Field(ge=0)] | Percent | None = None


def lawbook_of(file: Path, installation: InstallationId, version: int, in_force: Iterable[Pack]) -> Lawbook:
    """The lawbook that a policy file describes. The tests of one's own packs were run, and hold. Raises Invalid and
    Failed."""
    said = packs.parse(file, PolicyFile)
    chosen = {name: choice or PackChoice() for name, choice in said.packs.items()}
    own = {name: _own(file, name, one) for name, one in chosen.items() if one.path is not None}
    known = {one.name: one for one in in_force}
    found = tuple(
        own[name].pack if name in own else _known(file, name, choice, known) for name, choice in chosen.items()
    )
    found = tuple(sorted(found, key=lambda pack: (pack.name != "base", pack.name)))  # as they come with Kasbah
    law = packs.law_of(found)
    for one in own.values():
        hold(law, one)
    return Lawbook(
        installation=installation,
        version=version,
        home=said.home,
        packs=found,
        stale_after={int(level.level): after for level, after in said.stale_after.items()},
        two_person=tuple(sorted(name for name, choice in chosen.items() if choice.two_person)),
        limit=_limit(said.limit),
    )


def hold(law: Law, own: Own) -> int:
    """How many cases hold under this law. Raises Failed where one does not."""
    wrong = [one for one in tables.run(law, own.table) if one.problem]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Failed(
            f"{own.file}: {wrong[0].case.name}: {wrong[0].problem}{more}",
            hint=f"`kasbah policy test {own.file.parent}` shows each case",
            code="pack_tests",
        )
    return len(own.table)


def adopted(lawbook: Lawbook, version: int) -> Lawbook:
    """The law in force with the newest version of each pack that comes with Kasbah."""
    newest = {one.name: one for one in packs.shipped()}
    renewed = (newest[one.name] if is_newer(newest.get(one.name), one) else one for one in lawbook.packs)
    return _numbered(lawbook, version, tuple(renewed))


def again(lawbook: Lawbook, version: int) -> Lawbook:
    """A law of before as a new version: numbers only grow."""
    return _numbered(lawbook, version, lawbook.packs)


def is_newer(shipped: Pack | None, held: Pack) -> bool:
    """Whether Kasbah brings a newer version of a pack in force."""
    return shipped is not None and shipped.version > held.version


def written(lawbook: Lawbook) -> dict[str, object]:
    """The policy file that says what holds; own packs by the version in force."""
    limit = lawbook.limit
    said: dict[str, object] = {"home": lawbook.home} if lawbook.home else {}
    said["packs"] = {
        one.name: {"version": one.version, **({"two_person": True} if one.name in lawbook.two_person else {})}
        for one in lawbook.packs
    }
    if lawbook.stale_after:
        said["stale_after"] = {
            Level(level).word.value: f"{after.total_seconds():g}s" for level, after in lawbook.stale_after.items()
        }
    if limit.percent is not None or limit.services is not None:
        said["limit"] = limit.services if limit.percent is None else f"{limit.percent:g}%"
    return said


def _numbered(lawbook: Lawbook, version: int, found: tuple[Pack, ...]) -> Lawbook:
    return Lawbook(
        installation=lawbook.installation,
        version=version,
        home=lawbook.home,
        packs=found,
        stale_after=lawbook.stale_after,
        two_person=lawbook.two_person,
        limit=lawbook.limit,
    )


def _own(file: Path, name: str, choice: PackChoice) -> Own:
    folder = file.parent / (choice.path or "")
    own = read_own(folder)
    if own.pack.name != name:
        raise Invalid(
            f"the pack in {folder} is called {own.pack.name!r}", where=f"{file}: packs.{name}", hint="use its own name"
        )
    if choice.version is not None and choice.version != own.pack.version:
        raise Invalid(
            f"the pack in {folder} is at version {own.pack.version}, not {choice.version}",
            where=f"{file}: packs.{name}.version",
            hint="leave the version out, or put that version there",
        )
    return own


def _known(file: Path, name: str, choice: PackChoice, in_force: Mapping[str, Pack]) -> Pack:
    """The pack in force, or the one that comes with Kasbah."""
    candidates = [one for one in (in_force.get(name), _shipped(name)) if one is not None]
    if not candidates:
        names = sorted({*in_force, *(one.name for one in packs.shipped())})
        meant = difflib.get_close_matches(name, names, n=1)
        likely = f"did you mean {meant[0]}? " if meant else ""
        raise Invalid(
            f"there is no pack {name!r} in force, and none comes with Kasbah",
            where=f"{file}: packs.{name}",
            hint=f"{likely}`kasbah policy list` lists them; one of your own needs a path",
        )
    for one in candidates:
        if choice.version in (None, one.version):
            return one
    there = ", ".join(str(one.version) for one in candidates)
    raise Invalid(
        f"there is no version {choice.version} of it; there is: {there}",
        where=f"{file}: packs.{name}.version",
        hint="leave the version out to keep the one in force",
    )


def _shipped(name: str) -> Pack | None:
    return next((one for one in packs.shipped() if one.name == name), None)


def _limit(said: int | str | None) -> Limit:
    if said is None:
        return Limit()
    return Limit(services=said) if isinstance(said, int) else Limit(percent=float(said.removesuffix("%")))
