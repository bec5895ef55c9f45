"""Imports point one way, decisions stay pure, and a plain agent or CLI carries nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PURE = frozenset(
    {"__future__", "abc", "base64", "bisect", "collections", "collections.abc", "dataclasses", "datetime", "enum"}
    | {
        "difflib",
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "statistics",
        "string",
    }
    | {"ast", "cedarpy", "ipaddress", "tomllib", "typing", "warnings", "zlib"}
)
"""What `domain` and `decide` may import beside themselves: nothing that waits, touches the machine or draws lots."""

AGENTS_SIDE = ("kasbah/agent/runner/launch.py",)
"""The part of the runner's folder that the agent runs."""

HEAVY = frozenset({"ray", "kubernetes", "torch", "vllm", "numpy", "pandas"})


def test_the_contracts_in_pyproject_hold() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("folder", ["domain", "decide"])
def test_decisions_and_nouns_import_only_what_is_pure(modules, folder: str) -> None:
    own = ("kasbah.domain",) if folder == "domain" else ("kasbah.domain", "kasbah.decide")
    wrong = {
        module.path: sorted(foreign)
        for module in modules
        if module.path.startswith(f"kasbah/{folder}/")
        and (foreign := {one for one in module.imports - PURE if not one.startswith(own)})
    }
    assert not wrong


def test_the_runner_needs_the_standard_library_only(modules) -> None:
    folders = ("kasbah/agent/runner/", "kasbah/agent/confine/")
    names = [
        m.name for m in modules if m.path.startswith(folders) and m.path not in AGENTS_SIDE and "__main__" not in m.path
    ]
    assert names
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(names)}"
    bare = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert bare.returncode == 0, f"the runner outlives the agent and whatever is installed around it\n{bare.stderr}"


@pytest.mark.parametrize("entry", ["kasbah.cli.main", "kasbah.agent.entry", "kasbah.control.app"])
def test_nothing_heavy_is_loaded_by_a_plain_process(entry: str) -> None:
    code = f"import json, sys, {entry}; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert not HEAVY & set(json.loads(loaded.stdout.splitlines()[-1]))


def test_the_command_line_does_not_load_the_servers() -> None:
    code = "import json, sys, kasbah.cli.main; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"fastapi", "sqlalchemy", "grpc", "uvicorn"} & set(json.loads(loaded.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", ["ps", "logs", "keys", "sites", "up"])
def test_a_command_that_only_asks_loads_nothing_that_it_does_not_need(command: str) -> None:
    code = (
        f"import json, sys; from kasbah.cli import main; main.load('{command}'); print(json.dumps(sorted(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    slow = {"pydantic", "cedarpy", "cryptography", "rich", "pygments", "ruamel", "sqlalchemy"}
    assert not slow & set(json.loads(loaded.stdout.splitlines()[-1]))


def test_only_the_clock_reads_wall_time(modules) -> None:
    reads = {("datetime", "now"), ("datetime", "utcnow"), ("time", "time"), ("date", "today")}
    found = {
        f"{module.path}:{node.lineno}"
        for module in modules
        if module.path != "kasbah/clock.py" and not module.path.startswith("kasbah/agent/runner/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in reads
    }
    assert not found, "take a Clock; the runner, which may import nothing of ours, is the one exception"
