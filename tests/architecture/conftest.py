"""What the architecture tests read: the project's own files, those not yet committed included."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A Python file of the project: its path from the root, and its syntax tree."""

    path: str
    lines: int
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def imports(self) -> set[str]:
        """Every module it imports, anywhere in the file, in full."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
        return found


def project_files() -> list[Path]:
    """The project's files as git would commit them, or all of them where this is no git checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def read_module(path: Path) -> Module:
    text = path.read_text()
    return Module(path=path.relative_to(ROOT).as_posix(), lines=text.count("\n"), tree=ast.parse(text))


@pytest.fixture(scope="session")
def files() -> list[Path]:
    return project_files()


@pytest.fixture(scope="session")
def modules(files: list[Path]) -> list[Module]:
    """Every module of the package `kasbah`."""
    return [read_module(path) for path in files if path.suffix == ".py" and ROOT / "kasbah" in path.parents]
