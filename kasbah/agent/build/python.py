"""Building a Python source with uv: an interpreter, a virtual environment, what the source depends on, bytecode.

Dependencies come from the first of these that is there: `uv.lock` (kept to the letter), `requirements.txt`,
`pyproject.toml`. The last two are resolved once; the answer is kept as `requirements.lock` beside the build and used
by every later build of the revision. `[tool.uv]` of the source's own pyproject is honoured, and no other one's.
`[tool.kasbah] build` lists commands that run in the finished environment, in the source folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

import uv

from kasbah.agent.build.launch import Launch
from kasbah.agent.build.workshop import Workshop
from kasbah.errors import BuildFailed

OUR_PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE_LINE = re.compile(r"^(?!#|--|\s).", re.MULTILINE)
LOCK = "requirements.lock"
SPECIFIERS = re.compile(r"[\w\s.,<>=!~*+-]+")
NOT_A_PACKAGE = "correct [build-system] in pyproject.toml, or remove it: the app then runs from its folder"

FROZEN_WORKERS_LIVE = {"GUNICORN_CMD_ARGS": "--timeout=0"}
"""gunicorn kills workers it has not heard of for 30 s, which is every one that was frozen for longer. Requests have
deadlines of their own."""


class Source(Enum):
    """Where the dependencies are named."""

    UV_LOCK = auto()
    REQUIREMENTS = auto()
    PROJECT = auto()
    NOWHERE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What the build needs of a source folder. `own_settings`: its pyproject has a `[tool.uv]`."""

    source: Source
    requires_python: str | None = None
    is_package: bool = False
    own_settings: bool = False
    hooks: tuple[str, ...] = ()


async def build_python(shop: Workshop) -> Launch:
    """Build the source in `shop`. Raises BuildFailed."""
    project = read_project(shop.app)
    await _make_environment(shop, project)
    interpreter = _interpreter_folders(shop.env)  # as it was made: what follows runs what the source brings along
    shop.hand_over(shop.env)
    shop = replace(shop, readable=(Path(uv.find_uv_bin()).parent, *interpreter))
    await _install(shop, project)
    for hook in project.hooks:
        shop.log.step(f"running {hook}")
        await shop.run(("/bin/sh", "-c", hook), doing=f"the build command `{hook}`", env=_activated(shop))
    await _compile(shop)
    return Launch(
        path=(shop.env / "bin",),
        variables={"VIRTUAL_ENV": str(shop.env), "PYTHONUNBUFFERED": "1", **FROZEN_WORKERS_LIVE},
        readable=interpreter,
    )


def read_project(app: Path) -> Project:
    """What the source says about itself. Raises BuildFailed where pyproject.toml cannot be read."""
    pyproject = _read_pyproject(app / "pyproject.toml")
    tool = _table(pyproject, "tool")
    described = bool(_table(pyproject, "project") or _table(tool, "poetry"))
    if described and (app / "uv.lock").is_file():
        source = Source.UV_LOCK
    elif (app / "requirements.txt").is_file():
        source = Source.REQUIREMENTS
    else:
        source = Source.PROJECT if described else Source.NOWHERE
    wanted = _table(pyproject, "project").get("requires-python")
    return Project(
        source=source,
        requires_python=wanted if isinstance(wanted, str) else None,
        is_package=source is Source.PROJECT and "build-system" in pyproject,
        own_settings="uv" in tool or (app / "uv.toml").is_file(),
        hooks=_hooks(_table(tool, "kasbah").get("build", [])),
    )


def _read_pyproject(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise BuildFailed(f"pyproject.toml cannot be read: {error}", hint="correct it and deploy again") from error


def _table(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _hooks(found: object) -> tuple[str, ...]:
    lines = [found] if isinstance(found, str) else found
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BuildFailed(
            "pyproject.toml: [tool.kasbah] build is not a list of commands", hint='build = ["python x.py"]'
        )
    return tuple(lines)


async def _make_environment(shop: Workshop, project: Project) -> None:
    """A virtual environment of our own interpreter, or of the one the source insists on, if it is installed."""
    wanted = project.requires_python
    if wanted is not None and not SPECIFIERS.fullmatch(wanted):
        raise BuildFailed(f"requires-python is {wanted!r}, which names no versions", hint='requires-python = ">=3.11"')
    python = wanted or str(OUR_PYTHON)
    how = ("--no-config", "--no-project", "--no-cache", "--quiet", "--python", python)
    try:
        await shop.run_ours(
            (uv.find_uv_bin(), "venv", *how, str(shop.env)),
            doing="making the Python environment",
            env=_settings(shop),
        )
    except BuildFailed as error:
        if not wanted:
            raise
        ours = ".".join(map(str, sys.version_info[:2]))
        raise BuildFailed(
            f"this app needs Python {wanted}, which the site does not have (its own is {ours})",
            hint="install that Python on the site, or widen requires-python",
            tail=error.tail,
        ) from error


async def _install(shop: Workshop, project: Project) -> None:
    if project.source is Source.NOWHERE:
        return
    if project.source is Source.UV_LOCK:
        shop.log.step("installing what uv.lock names")
        await _uv(shop, project, "sync", "--frozen", "--no-dev", doing="installing the dependencies")
        return
    lock = await _resolve(shop, project)
    count = len(PACKAGE_LINE.findall(lock.read_text()))
    if count:
        shop.log.step(f"installing {count} package{'s' if count > 1 else ''}")
        await _uv(shop, project, "pip", "sync", str(lock), doing="installing the dependencies")
    if project.is_package:
        shop.log.step("installing the app itself")
        await _uv(
            shop,
            project,
            "pip",
            "install",
            "--no-deps",
            "--editable",
            ".",
            doing="installing the app itself",
            hint=NOT_A_PACKAGE,
        )


async def _resolve(shop: Workshop, project: Project) -> Path:
    """The file that names every package and version: the one resolved before, where there is one."""
    kept, lock = shop.folder / LOCK, shop.work / LOCK
    if kept.is_file():
        shop.log.note("using the versions resolved before")
        shutil.copyfile(kept, lock)
        lock.chmod(0o644)
        return lock
    if (shop.app / "poetry.lock").is_file():
        shop.log.note("poetry.lock is not read: versions are resolved from pyproject.toml")
    name = "requirements.txt" if project.source is Source.REQUIREMENTS else "pyproject.toml"
    hashes = ("--generate-hashes",) if "--hash" in (shop.app / name).read_text(errors="replace") else ()
    shop.log.step("resolving dependencies")
    made = shop.home / LOCK
    await _uv(
        shop, project, "pip", "compile", name, "--quiet", "--no-header", *hashes, "-o", str(made),
        doing="resolving the dependencies",
    )  # fmt: skip
    shutil.copyfile(shop.keep(made, LOCK), lock)
    lock.chmod(0o644)
    return lock


async def _uv(shop: Workshop, project: Project, *words: str, doing: str, hint: str = "") -> None:
    """Run uv in the environment. Unless the source has settings for uv, it must find none: it would look for them in
    every folder above, and the site's data may lie inside somebody's project."""
    command, *rest = words
    settings = () if project.own_settings or command == "sync" else ("--no-config",)
    python = () if command == "sync" else ("--python", str(shop.env / "bin" / "python"))
    await shop.run((uv.find_uv_bin(), *settings, command, *rest, *python), doing=doing, hint=hint, env=_settings(shop))


def _settings(shop: Workshop) -> dict[str, str]:
    """uv's settings for a build. Our interpreter is found first; none is ever downloaded."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {
        "PATH": f"{OUR_PYTHON.parent}:{path}",
        "UV_CACHE_DIR": str(shop.cache / "uv"),
        "UV_COMPILE_BYTECODE": "1",
        "UV_LINK_MODE": "copy",
        "UV_NO_PROGRESS": "1",
        "UV_PROJECT_ENVIRONMENT": str(shop.env),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_PREFERENCE": "system",
    }


def _activated(shop: Workshop) -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {"PATH": f"{shop.env / 'bin'}:{path}", "VIRTUAL_ENV": str(shop.env), "PYTHONUNBUFFERED": "1"}


async def _compile(shop: Workshop) -> None:
    """Bytecode for the source. It is never compared with its source again: the file times are nobody's, and change
    when a replica gets a copy. A file that is no valid Python is the app's own business, at run time."""
    shop.log.step("compiling")
    python = str(shop.env / "bin" / "python")
    words = (python, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", ".")
    try:
        await shop.run(words, doing="compiling")
    except BuildFailed as error:
        shop.log.note(f"{error}: what could not be compiled is left as it is")


def _interpreter_folders(env: Path) -> tuple[Path, ...]:
    """Where the environment's interpreter lives: as it is named, and where the names lead."""
    python = env / "bin" / "python"
    named = Path(os.readlink(python)) if python.is_symlink() else python
    return tuple(dict.fromkeys((named.parent.parent, python.resolve().parent.parent)))
