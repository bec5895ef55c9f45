"""Writes docs/reference/ from the code: `python -m kasbah.cli.reference [FOLDER]`. A test checks that it is current."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kasbah.api import manifest
from kasbah.cli import shapes
from kasbah.cli.exits import MEANINGS
from kasbah.cli.main import SECTIONS, load

EXAMPLE = """```yaml
services:
  shop:                          # http://shop.localhost:8080/
    source: ./shop               # the folder to build, relative to this file
    command: gunicorn -b 127.0.0.1:$PORT shop:app
    env: {LOG_LEVEL: info}
    access: public               # without it, callers need a key
    health: {startup: {path: /health}}
    scaling: {min: 0, max: 4, concurrency: 20}
    sleep: {freeze_after: 1m, stop_after: 30m}
    rollout: {strategy: canary, steps: [5, 25], pause: 5m}
    resources: {cpu: 1, memory: 512Mi}
    data: {level: restricted, categories: [personal], regimes: [gdpr]}
```
"""

MADE = "<!-- Made by `python -m kasbah.cli.reference` from the code: change that, not this. -->\n"


def pages() -> dict[str, str]:
    """The files of the reference, by name."""
    return {
        "cli.md": _cli(),
        "kasbah-yaml.md": _kasbah_yaml(),
        "kasbah.schema.json": json.dumps(manifest.schema(), indent=2) + "\n",
        "json-output.md": _json_output(),
        "json-output.schema.json": json.dumps(shapes.schema(), indent=2) + "\n",
    }


def _cli() -> str:
    codes = _table(("code", "meaning"), [(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
    return "\n".join(
        [
            MADE,
            "# The command line\n",
            "Results go to standard output, everything said on the way to standard error. Where standard output is no",
            "terminal, or `NO_COLOR` is set, there are no colours and nothing moves.\n",
            "The installation is found by `KASBAH_URL` and `KASBAH_TOKEN`, or by the context file that `kasbah up`",
            "writes (`$KASBAH_CONTEXT`, or `~/.config/kasbah/context.json`).\n",
            "## Exit codes\n",
            codes,
            *(line for section, entries in SECTIONS.items() for line in _section(section, list(entries))),
        ]
    )


def _section(title: str, names: list[str]) -> Iterator[str]:
    yield f"## {title}\n"
    for name in names:
        command = load(name)
        for path, one in _with_children(name, command):
            yield f"### kasbah {path}\n"
            yield f"```text\n{_help(one, f'kasbah {path}')}\n```\n"


def _with_children(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from _with_children(f"{path} {name}", child)


def _help(command: Any, path: str) -> str:
    width = {"max_content_width": 100, "terminal_width": 100}
    inherited = {"help_option_names": ["-h", "--help"]}  # from the groups that a command stands in
    with command.make_context(path, [], resilient_parsing=True, **width, **inherited) as context:
        return str(command.get_help(context)).rstrip()


def _kasbah_yaml() -> str:
    schema = manifest.schema()
    sections = [
        "ServiceSection", "HealthSection", "ProbeSection", "ScalingSection", "SleepSection", "PlacementSection",
        "RolloutSection",
        "SecretSection", "ResourcesSection", "VolumeSection", "DeadlinesSection", "DataSection",
    ]  # fmt: skip
    return "\n".join(
        [
            MADE,
            "# kasbah.yaml\n",
            "The services of an application, by name: a name has lower-case letters, digits and single dashes, a",
            "letter first, 40 characters at most. Unknown keys are refused. Durations are a number and a unit",
            "(`500ms`, `30s`, `1m30s`, `2h`, `7d`), sizes too (`512Mi`, `8Gi`). Editors can check the file with",
            "[kasbah.schema.json](kasbah.schema.json), which `kasbah schema` prints too.\n",
            EXAMPLE,
            *(_shape(name, schema["$defs"][name]) for name in sections),
        ]
    )


def _json_output() -> str:
    schema = shapes.schema()
    rows = [(_command(name), _type(shape)) for name, shape in schema["properties"].items()]
    return "\n".join(
        [
            MADE,
            "# What is printed as JSON\n",
            "With `-o json`; `-o yaml` prints the same as YAML. Times are ISO 8601 in UTC. Fields may be added; none",
            "is taken away within a version of the API. The JSON Schema is",
            "[json-output.schema.json](json-output.schema.json).\n",
            _table(("command", "prints"), rows),
            *(_shape(name, shape) for name, shape in schema["$defs"].items() if "properties" in shape),
        ]
    )


def _command(name: str) -> str:
    return name if name.startswith("any") else f"`kasbah {name}`"


def _shape(title: str, shape: dict[str, Any]) -> str:
    """A definition of a JSON Schema as a heading, its words and a table of its fields."""
    rows = [
        (f"`{name}`", _type(one), _default(one), one.get("description", ""))
        for name, one in shape.get("properties", {}).items()
    ]
    words = " ".join(shape.get("description", "").split())
    return f"## {title}\n\n{words}\n\n{_table(('field', 'type', 'default', 'meaning'), rows)}"


def _type(shape: dict[str, Any]) -> str:
    """The type of a field, in words."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return _named(name)
    if "enum" in shape:
        return " or ".join(f"`{one}`" for one in shape["enum"])
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_type(one) for one in shape["anyOf"]))
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    if isinstance(shape.get("type"), list):
        return " or ".join(shape["type"])
    if shape.get("type") == "object":
        return f"map of {_type(shape.get('additionalProperties') or {})}"
    examples = f", such as {', '.join(f'`{one}`' for one in shape['examples'])}" if "examples" in shape else ""
    return f"{shape.get('format', shape.get('type', 'anything'))}{examples}"


def _named(name: str) -> str:
    definition = _definitions()[name]
    return _type(definition) if "enum" in definition else f"[{name}](#{name.lower()})"


@cache
def _definitions() -> dict[str, Any]:
    return {**shapes.schema()["$defs"], **manifest.schema()["$defs"]}


def _default(shape: dict[str, Any]) -> str:
    if "default" not in shape or isinstance(shape["default"], dict) or shape["default"] is None:
        return ""
    return f"`{json.dumps(shape['default'])}`"


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    escaped = [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]
    lines = [headers, tuple("---" for _ in headers), *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(folder: Path) -> None:
    """Write the reference."""
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
