"""The feel of the code: sizes, names, and that what is public is explained."""

from __future__ import annotations

import ast

MAX_FILE = 400
MAX_FUNCTION = 70

LONGER_FILES: dict[str, int] = {}
"""Files allowed to be longer, with their own limit. Each entry needs a reason beside it."""

LONGER_FUNCTIONS: dict[str, int] = {
    "kasbah/control/store/migrations/versions/v0001_first.py::upgrade": 220,  # every table, one after the other
}
"""Functions allowed to be longer, as `path::name`, with their own limit. Each entry needs a reason beside it."""

EMPTY_NAMES = frozenset({"utils", "util", "helpers", "helper", "misc", "common"})
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def test_files_are_short_enough_to_read_at_once(modules) -> None:
    long = {m.path: m.lines for m in modules if m.lines > LONGER_FILES.get(m.path, MAX_FILE)}
    assert not long


def test_functions_are_short_enough_to_see_at_once(modules) -> None:
    long = {
        name: lines
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1)
        > LONGER_FUNCTIONS.get(name := f"{module.path}::{node.name}", MAX_FUNCTION)
    }
    assert not long


def test_the_lists_of_exceptions_hold_no_leftovers(modules) -> None:
    sizes = {module.path: module.lines for module in modules}
    assert all(sizes.get(path, 0) > MAX_FILE for path in LONGER_FILES)
    names = {f"{m.path}::{n.name}" for m in modules for n in ast.walk(m.tree) if isinstance(n, FUNCTIONS)}
    assert names >= LONGER_FUNCTIONS.keys()


def test_nothing_is_named_after_having_no_name(modules) -> None:
    named = {module.path for module in modules if EMPTY_NAMES & set(module.name.split("."))}
    assert not named, "name a module by what it answers"


def test_what_is_public_says_what_it_is(modules) -> None:
    silent = {
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules
        for node in module.tree.body
        if isinstance(node, FUNCTIONS | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    }
    silent |= {module.path for module in modules if not ast.get_docstring(module.tree)}
    assert not silent


def test_each_setting_is_explained_below_it(modules) -> None:
    settings = next(module for module in modules if module.path == "kasbah/settings.py")
    groups = [node for node in settings.tree.body if isinstance(node, ast.ClassDef)]
    group_names = {group.name for group in groups}
    unexplained = {
        f"{group.name}.{field.target.id}"
        for group in groups
        for field, below in zip(group.body, [*group.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and ast.unparse(field.annotation) not in group_names  # a group explains itself
        and not (
            isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
        )
    }
    assert groups
    assert not unexplained


def test_test_files_have_names_of_their_own(files) -> None:
    names = [path.name for path in files if path.parts[-2:-1] != ("tests",) and path.match("tests/*/*.py")]
    twice = {name for name in names if names.count(name) > 1 and name not in ("conftest.py", "__init__.py")}
    assert not twice, "pytest imports them by their bare names"
