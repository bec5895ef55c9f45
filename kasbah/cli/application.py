"""What PATH means: the services of a `kasbah.yaml`, or a folder without one as a single service; each resolved, with
what was found out about it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kasbah.api.manifest import ResolvedService, ServiceSection, resolve
from kasbah.cli import manifest
from kasbah.cli.detection import look
from kasbah.domain.service import name_error
from kasbah.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A service to deploy: its folder, what it will run, and what was found out rather than said."""

    name: str
    folder: Path
    config: ResolvedService
    found: tuple[str, ...]


def load(path: Path, *, name: str | None, only: str | None) -> list[Candidate]:
    """The services that PATH means, in the order of the file. Raises Invalid where something is wrong with them."""
    file = _file(path)
    if file is None:
        return [_of_folder(path, name)]
    if name is not None:
        raise Invalid(
            f"--name is for a folder without a file, and there is {file}",
            hint="services are named in the file; --service picks one of them",
            code="usage",
        )
    read = manifest.read(file)
    chosen = {key: one for key, one in read.services.items() if only in (None, key)}
    if not chosen:
        raise NotFound(f"{file} has no service {only!r}", hint=f"it has {', '.join(read.services)}")
    return [_of_section(key, section, read.folder, str(file)) for key, section in chosen.items()]


def valid_name(text: str) -> str:
    """A valid name as near to `text` as there is one.

    >>> valid_name("My App_2.0")
    'my-app-2-0'
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name = re.sub(r"^[0-9-]+", "", name)[:40].rstrip("-")
    return name if name and name_error(name) is None else f"app-{name}"[:40].rstrip("-")


def _file(path: Path) -> Path | None:
    """The file that PATH names or holds; None for a folder without one."""
    hint = "give a folder with an app, or a kasbah.yaml"
    try:
        if path.is_file():
            return path
        if not path.is_dir():
            raise Invalid(f"{path} is not there", hint=hint, code="no_such_path")
        return next((path / one for one in manifest.NAMES if (path / one).is_file()), None)
    except OSError as error:  # a name that no file can have, a folder that may not be looked into
        raise Invalid(f"{path} cannot be read: {error.strerror}", hint=hint, code="no_such_path") from error


def _of_folder(path: Path, name: str | None) -> Candidate:
    if name is not None and (reason := name_error(name)):
        raise Invalid(reason, where="--name", code="usage")
    chosen = name or valid_name(path.resolve().name)
    return _of_section(chosen, ServiceSection(source="."), path, str(path))


def _of_section(name: str, section: ServiceSection, folder: Path, where: str) -> Candidate:
    source = folder / (section.source or ".")
    seen = look(source, section, name=name, where=where)
    if seen.port is not None:
        section = section.model_copy(update={"port": seen.port})
    try:
        config = resolve(section, runtime=seen.runtime, command=seen.command)
    except ValidationError as error:  # what was found out does not go with what was written
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise Invalid(f"{name}: {reason}", where=where, code="invalid_file") from error
    return Candidate(name=name, folder=source, config=config, found=seen.found)
