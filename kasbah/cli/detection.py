"""How a folder runs: what the file says, and for the rest what `decide/detect.py` finds out from the files here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kasbah.api.ignore import travelling
from kasbah.api.manifest import ServiceSection
from kasbah.decide.detect import DEPTH, LARGEST_TEXT, detect, runtime_of, wanted
from kasbah.decide.detected import Files, Refusal
from kasbah.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How a folder runs. `found` tells people what was found out, and from what."""

    runtime: str
    command: tuple[str, ...]
    port: int | None
    found: tuple[str, ...] = ()


def look(folder: Path, section: ServiceSection, *, name: str, where: str) -> Seen:
    """How the service `name` of `where`, whose source is `folder`, runs. Raises Invalid where that cannot be told."""
    files = read_files(folder)
    command = section.command
    if command is not None:
        told = (command,) if isinstance(command, str) else command
        return Seen(runtime=section.runtime or runtime_of(files).value, command=told, port=section.port)
    found = detect(files)
    if isinstance(found, Refusal):
        raise Invalid(
            f"{name}: it is not known how {folder} starts: {found.message}", where=where, hint=found.hint,
            code="nothing_detected",
        )  # fmt: skip
    runtime = section.runtime or found.runtime.value
    lines = [f"{runtime}, starts with `{' '.join(found.command)}`", *found.reasons]
    if found.guess:
        lines.append("the command is a guess: if it is wrong, write `command:` in kasbah.yaml")
    if section.port is None and found.port is not None:
        lines.append(f"it insists on port {found.port}")
    return Seen(runtime=runtime, command=found.command, port=section.port or found.port, found=tuple(lines))


def read_files(folder: Path) -> Files:
    """The names of the files near the top that would travel, and the texts that detection wants."""
    return {path: _text(folder / path) if wanted(path) else None for path in travelling(folder, depth=DEPTH)}


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as opened:
            return opened.read(LARGEST_TEXT).decode(errors="replace")
    except OSError:
        return None
