"""A builder with folders of its own, as an agent has it: its tools are kept apart by all that works on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import Builder, Built
from kasbah.agent.build.sandbox import Sandbox
from kasbah.agent.build.sandboxes import hidden_of
from kasbah.agent.confine import measure
from kasbah.agent.paths import Paths
from kasbah.agent.runner.claims import BUILDER_SLOT, FIRST_USER
from kasbah.api.bundle import pack
from kasbah.domain.ids import RevisionId
from kasbah.domain.revision import Revision, Runtime
from kasbah.settings import Limits

BUILDER = FIRST_USER + BUILDER_SLOT if os.getuid() == 0 else None
CACHE = "pj-1.3.00000000"
HOOK = "[tool.kasbah]\nbuild = 'python attack.py'\n"


@dataclass
class Site:
    """A builder with its folders, and what it reported."""

    paths: Paths
    blobs: BlobStore
    builder: Builder
    steps: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.paths.logs / "sv-1" / "build-rv-1.log"

    def folder(self, name: str = "rv-1") -> Path:
        return self.paths.builds / name

    async def revision(
        self, files: dict[str, str | Path], command: tuple[str, ...], runtime: Runtime, name: str = "rv-1"
    ) -> Revision:
        source = self.paths.data_dir / "sources" / name
        for path, body in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(body, Path):
                shutil.copy(body, source / path)
            else:
                (source / path).write_text(body)
        return await self.sent(source, command, runtime, name)

    async def sent(self, source: Path, command: tuple[str, ...], runtime: Runtime, name: str = "rv-1") -> Revision:
        bundle = pack(source)
        bundle.path.rename(self.blobs.path(bundle.digest))
        return Revision(
            id=RevisionId(name), source=bundle.digest, source_size=bundle.size, runtime=runtime, command=command
        )

    async def build(self, revision: Revision, cache: str = CACHE) -> Built:
        return await self.builder.build(revision, cache=cache, report=self.steps.append, log=self.log)

    async def python(self, files: dict[str, str | Path], *command: str, name: str = "rv-1") -> Built:
        return await self.build(await self.revision(files, command or ("python", "main.py"), Runtime.PYTHON, name))

    async def node(self, files: dict[str, str | Path], *command: str, name: str = "rv-1") -> Built:
        return await self.build(await self.revision(files, command or ("node", "main.js"), Runtime.NODE, name))


def make_site(folder: Path, limits: Limits | None = None) -> Site:
    paths = Paths(folder)
    paths.make()
    limits = limits or Limits()
    blobs = BlobStore(paths, limits)

    async def sandboxes(*, closed: bool) -> Sandbox:
        return Sandbox(mechanisms=mechanisms(), user=BUILDER, hidden=hidden_of(paths))

    return Site(paths=paths, blobs=blobs, builder=Builder(paths, limits, blobs, sandboxes=sandboxes))


def attack(code: str) -> dict[str, str | Path]:
    """A source whose build command runs this."""
    return {"attack.py": textwrap.dedent(code), "pyproject.toml": HOOK, "main.py": ""}


@cache
def mechanisms() -> tuple[str, ...]:
    """What keeps things apart on this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        return measure(Path(scratch), user=BUILDER).mechanisms


def left_behind(site: Site) -> list[str]:
    return sorted(str(one.relative_to(site.paths.builds)) for one in site.paths.builds.rglob("*"))


def tools_of(site: Site) -> list[str]:
    """The programs of this site's builds that run: they have other pids where they are, and a home there."""
    home = f"HOME={site.folder() / 'work' / 'home'}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if home in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "comm").read_text().strip())
    return found
