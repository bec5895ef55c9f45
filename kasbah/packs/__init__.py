"""The policy packs that come with Kasbah, as data: a folder each, with its rules, what they are, and their tests.

    PACK/pack.yaml      name, title, version, whether it is a draft
    PACK/rules.cedar    the policies
    PACK/tests.yaml     a table: this data, at this site, is allowed or refused, by these rules
    schema.cedarschema  what policies may speak of
    countries.yaml      which countries belong where, each list with its source and date

`kasbah.decide.policies` makes a law of them, `kasbah.decide.admission` asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kasbah.api import yaml_lines
from kasbah.api.yaml_words import Words
from kasbah.decide import policies
from kasbah.decide.policies import Law, Unsound, law
from kasbah.domain.law import Geography, Pack
from kasbah.errors import Invalid

HERE = files(__package__)
SCHEMA, COUNTRIES = "schema.cedarschema", "countries.yaml"
LARGEST_FILE = 1_000_000
MOST_SHOWN = 9
PATTERNS = {
    r"^[a-z][a-z0-9-]{1,40}$": "a pack's name has lower-case letters, digits and dashes, a letter first",
    r"^[A-Z]{2}$": "a country is two capital letters (ISO 3166-1), such as MA",
    r"^\d{1,3}(\.\d+)?%$": "a number of services is expected, or a part of all, such as 10%",
}


class Strict(BaseModel):
    """A part of a file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PackFile(Strict):
    """`pack.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")
    title: str = Field(min_length=1, max_length=200)
    version: int = Field(ge=1)
    draft: bool = False


class CountryList(Strict):
    """Some countries, and who says so. `verified`: when it was looked up, or `unverified`."""

    countries: tuple[str, ...]
    source: str
    verified: date | str


class CountriesFile(Strict):
    """`countries.yaml`."""

    eea: CountryList
    adequate: dict[str, CountryList]


Shape = TypeVar("Shape", bound=BaseModel)


def schema() -> str:
    """What policies may speak of, in Cedar's language."""
    return (HERE / SCHEMA).read_text(encoding="utf-8")


@cache
def geography() -> Geography:
    """Which countries belong where."""
    found = parse(HERE / COUNTRIES, CountriesFile)
    return Geography(
        eea=frozenset(found.eea.countries),
        adequate={regime: frozenset(one.countries) for regime, one in found.adequate.items()},
    )


@cache
def shipped() -> tuple[Pack, ...]:
    """The packs that come with Kasbah, drafts included; `base` first, then by name."""
    folders = [one for one in HERE.iterdir() if one.is_dir() and (one / "pack.yaml").is_file()]
    packs = [read(folder) for folder in folders]
    return tuple(sorted(packs, key=lambda pack: (pack.name != "base", pack.name)))


@cache
def shipped_law() -> Law:
    """What holds where nobody chose otherwise: every shipped pack that is no draft."""
    return law_of(pack for pack in shipped() if not pack.draft)


def law_of(packs: Iterable[Pack]) -> Law:
    """The law of these packs, under the shipped schema. Raises Invalid, naming the rule that is unsound."""
    with _naming_the_rule():
        return law(packs, schema(), geography())


def check_new(pack: Pack) -> None:
    """Refuse a pack that is to become law and cannot, or has a rule that speaks of what is not there."""
    with _naming_the_rule():
        policies.check_new(pack, schema())


@contextmanager
def _naming_the_rule() -> Iterator[None]:
    try:
        yield
    except Unsound as error:
        raise Invalid(
            error.message,
            where=f"{error.pack}/rules.cedar" + (f": {error.rule}" if error.rule else ""),
            code="policy_unsound",
            hint=error.hint or "mend the rule; nothing of a pack holds until all of it is sound",
        ) from error


def read(folder: Traversable | Path) -> Pack:
    """The pack in a folder. Raises Invalid."""
    said = parse(folder / "pack.yaml", PackFile)
    return Pack(
        name=said.name,
        title=said.title,
        version=said.version,
        draft=said.draft,
        policies=text_of(folder / "rules.cedar"),
    )


def parse(path: Traversable | Path, shape: type[Shape]) -> Shape:
    """What a YAML file says, in this shape. Raises Invalid, naming file, line and key of all that is wrong."""
    lines = yaml_lines.read(_bytes(path), as_written=lambda _path: False)
    if not lines.problems:
        try:
            return shape.model_validate(lines.data)
        except ValidationError as error:
            lines.problems += _words(shape).problems(error.errors(include_url=False), lines)
    first, *others = sorted(set(lines.problems))
    more = [f"line {one.line}: {one.path + ': ' if one.path else ''}{one.message}" for one in others[:MOST_SHOWN]]
    raise Invalid(
        "\n  ".join((first.message, *more)),
        where=f"{path}:{first.line}" + (f": {first.path}" if first.path else ""),
        hint="mend the file and try again",
    )


@cache
def _words(shape: type[BaseModel]) -> Words:
    return Words(shape.model_json_schema(), PATTERNS)


def text_of(path: Traversable | Path) -> str:
    """A file's text. Raises Invalid."""
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("it is not UTF-8 text", where=str(path), hint="save it as UTF-8") from error


def _bytes(path: Traversable | Path) -> bytes:
    try:
        with path.open("rb") as file:
            found: bytes = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise Invalid(
            f"it cannot be read: {error.strerror}", where=str(path), hint="give a path that is there and readable"
        ) from error
    if len(found) > LARGEST_FILE:
        raise Invalid(f"it is larger than {LARGEST_FILE:,} bytes", where=str(path), hint="split it")
    return found
