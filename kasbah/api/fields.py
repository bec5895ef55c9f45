"""The values that the fields of kasbah.yaml take, as they are written there: durations, sizes, names, paths, hosts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from kasbah.api.quantities import format_duration, parse_duration, parse_size, write_size
from kasbah.domain.egress import destination

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["500ms", "30s", "1m30s"]}
    ),
]
"""A number and a unit: ms, s, m, h, d."""


def _or_never(value: object) -> timedelta | None:
    return None if value is None or value == "never" else parse_duration(value)


DurationOrNever = Annotated[
    timedelta | None,
    BeforeValidator(_or_never),
    PlainSerializer(lambda value: "never" if value is None else format_duration(value), return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(never|(\d+(\.\d+)?(ms|s|m|h|d))+)$", "examples": ["1m", "30m", "never"]}
    ),
]
"""A duration, or `never`."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(write_size, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": ["512Mi", "8Gi"]}),
]
"""A number of bytes, with a unit: 512Mi, 8Gi."""


def _as_text(value: object) -> object:
    """Environment values are text; YAML reads numbers and booleans out of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


EnvValue = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(max_length=131_072, pattern=r"^[^\x00]*$"),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


def _destination(text: str) -> str:
    destination(text)
    return text


Egress = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_destination)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Path = Annotated[str, Field(pattern=r"^/[^\s\x00]*$", max_length=2_000)]
Argument = Annotated[str, Field(max_length=131_072, pattern=r"^[^\x00]*$")]
Word = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]

ServiceName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
"""A service of the project."""

SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)]
"""How a secret is called: lower-case letters, digits and dashes."""


def _domain(value: object) -> object:
    return value.lower().rstrip(".") if isinstance(value, str) else value


Domain = Annotated[
    str,
    BeforeValidator(_domain),
    Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$", max_length=253),
]
"""A host of one's own, such as shop.example.org; one with other letters as IDNA writes it (xn--...)."""


def _below(value: object) -> object:
    """A path in the app's own folder, without what changes nothing."""
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~")):
        raise ValueError(
            f"{value} is outside the app's folder: replicas share the site's file system, so a volume is put where the "
            "app lies; write a path like data, and let the app find it there or by KASBAH_VOLUME_<NAME>"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError(f"{value!r} does not name a folder in the app's own: write a path like data or var/uploads")
    return "/".join(parts)


FolderBelow = Annotated[str, BeforeValidator(_below), Field(pattern=r"^[^/\s\x00][^\s\x00]*$", max_length=500)]
"""A folder in the app's own, such as data or var/uploads."""

VolumeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
"""How a volume is called: lower-case letters, digits and dashes."""
