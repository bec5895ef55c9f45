"""What a Python source says about itself: its dependencies, and the web app that a module makes. Pure; never raises.

Apps are found in the syntax tree: a call of a framework's class (or of a factory) bound to a name at module level.
"""

from __future__ import annotations

import ast
import re
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kasbah.decide.detected import Files

REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?", re.ASCII)
BRINGS = {
    "fastapi[standard]": "uvicorn",
    "fastapi[all]": "uvicorn",
    "litestar[standard]": "uvicorn",
    "channels[daphne]": "daphne",
    "quart": "hypercorn",
    "gradio": "uvicorn",
    "python-fasthtml": "uvicorn",
}
"""Dependencies that bring a server along."""

ASGI = {
    "fastapi.FastAPI": "FastAPI",
    "starlette.Starlette": "Starlette",
    "litestar.Litestar": "Litestar",
    "quart.Quart": "Quart",
    "blacksheep.Application": "BlackSheep",
    "connexion.AsyncApp": "Connexion",
    "fasthtml.FastHTML": "FastHTML",
    "socketio.ASGIApp": "Socket.IO",
    "django.get_asgi_application": "Django",
}
WSGI = {
    "flask.Flask": "Flask",
    "apiflask.APIFlask": "Flask",
    "bottle.Bottle": "Bottle",
    "bottle.default_app": "Bottle",
    "falcon.App": "Falcon",
    "socketio.WSGIApp": "Socket.IO",
    "django.get_wsgi_application": "Django",
}
FACTORY = re.compile(r"(create|make|build|get)_(app|application|asgi|wsgi)\w*")
USUAL = ("app", "application", "api")
ASGI_FRAMEWORKS = ("fastapi", "starlette", "litestar", "quart")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What pyproject.toml and the requirements files say. `declares`: there is a file that lists dependencies."""

    dependencies: frozenset[str] = frozenset()
    scripts: tuple[str, ...] = ()
    is_package: bool = False
    declares: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A web app that a module makes: `variable` holds it, or makes it when called (`factory`)."""

    path: str
    variable: str
    framework: str
    asynchronous: bool
    factory: bool = False


def read_project(files: Files) -> Project:
    """The project's dependencies, their names in the canonical spelling, and what else detection asks of it."""
    pyproject = _toml(files.get("pyproject.toml"))
    project, poetry = _table(pyproject, "project"), _table(_table(pyproject, "tool"), "poetry")
    lines = [line for path, text in files.items() if "requirements" in path for line in (text or "").splitlines()]
    declared = project.get("dependencies")
    lines += [line for line in (declared if isinstance(declared, list) else []) if isinstance(line, str)]
    names = set(_names(lines))
    for name, wanted in _table(poetry, "dependencies").items():
        extras = wanted.get("extras") if isinstance(wanted, dict) else None
        names.update(_with_extras(name, [str(one) for one in extras] if isinstance(extras, list) else []))
    scripts = {**_table(poetry, "scripts"), **_table(project, "scripts")}
    return Project(
        dependencies=frozenset(names | {BRINGS[name] for name in names & BRINGS.keys()}),
        scripts=tuple(scripts),
        is_package="build-system" in pyproject and "requirements.txt" not in files,
        declares=bool(project or poetry or {"requirements.txt", "uv.lock", "setup.py"} & files.keys()),
    )


def _toml(text: str | None) -> Mapping[str, object]:
    try:
        return tomllib.loads(text or "")
    except (ValueError, RecursionError):
        return {}  # the build says what is wrong with it


def _table(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _names(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if found := REQUIREMENT.match(line):
            yield from _with_extras(found[1], (found[2] or "").split(","))


def _with_extras(name: str, extras: list[str]) -> Iterator[str]:
    """`fastapi` and `fastapi[standard]`: the name alone, and with each of its extras."""
    plain = re.sub(r"[-_.]+", "-", name).lower()
    yield plain
    yield from (f"{plain}[{extra.strip().lower()}]" for extra in extras if extra.strip())


def parse(text: str | None) -> ast.Module | None:
    """The syntax tree; None where the text is no Python that this interpreter reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about their code, not ours
            return ast.parse(text or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imported(tree: ast.Module) -> dict[str, str]:
    """The names that the module's imports bind, each with what it stands for in full."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname or one.name.partition(".")[0]: one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module or ''}.{one.name}" for one in node.names}
    return names


def find_app(path: str, tree: ast.Module, project: Project) -> App | None:
    """The web app that the module makes, if it makes one; where it makes several, the one with a usual name."""
    names = imported(tree)
    found = list(_apps(path, tree.body, names, project))
    ranked = sorted(found, key=lambda one: (one.factory, one.variable not in USUAL))
    return ranked[0] if ranked else None


def _apps(path: str, body: list[ast.stmt], names: Mapping[str, str], project: Project) -> Iterator[App]:
    for node in _statements(body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            variables = [one.id for one in targets if isinstance(one, ast.Name)]
            kind = _kind(node.value.func, names) or _made_by_factory(node.value.func, variables, project)
            yield from (_app(path, variable, kind) for variable in variables if kind)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function_app(path, node, names)
        elif isinstance(node, ast.ImportFrom) and re.search(r"(^|/)[aw]sgi\.py$", path):
            kind = ("web", path.endswith("asgi.py"))
            bound = [one.asname or one.name for one in node.names]
            yield from (_app(path, variable, kind) for variable in bound if variable in USUAL[:2])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements at module level, those under `if` and `try` included."""
    waiting = list(reversed(body))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            inner = [*node.body, *(one for handler in handlers for one in handler.body), *getattr(node, "orelse", [])]
            waiting.extend(reversed(inner))


def _app(path: str, variable: str, kind: tuple[str, bool], *, factory: bool = False) -> App:
    return App(path=path, variable=variable, framework=kind[0], asynchronous=kind[1], factory=factory)


def _kind(called: ast.expr, names: Mapping[str, str]) -> tuple[str, bool] | None:
    """The framework whose class is called, and whether it is asynchronous."""
    parts: list[str] = []
    while isinstance(called, ast.Attribute):
        parts.append(called.attr)
        called = called.value
    if not isinstance(called, ast.Name) or called.id not in names:
        return None
    full = ".".join([names[called.id], *reversed(parts)])
    if full.endswith("falcon.asgi.App"):
        return ("Falcon", True)
    short = f"{full.partition('.')[0]}.{full.rpartition('.')[2]}"
    if short in ASGI:
        return (ASGI[short], True)
    return (WSGI[short], False) if short in WSGI else None


def _made_by_factory(called: ast.expr, variables: list[str], project: Project) -> tuple[str, bool] | None:
    """`app = create_app()`: the dependencies tell which framework."""
    if not (isinstance(called, ast.Name) and FACTORY.fullmatch(called.id) and {*variables} & {*USUAL}):
        return None
    return _by_dependencies(project)


def _by_dependencies(project: Project) -> tuple[str, bool] | None:
    found = next((name for name in ASGI_FRAMEWORKS if name in project.dependencies), None)
    if found:
        return (found.capitalize().replace("api", "API"), True)
    return ("Flask", False) if "flask" in project.dependencies else None


def _function_app(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef, names: Mapping[str, str]) -> Iterator[App]:
    """An app that is a plain function, or a factory that makes one."""
    parameters = [one.arg for one in node.args.args]
    if isinstance(node, ast.AsyncFunctionDef):
        if parameters == ["scope", "receive", "send"]:
            yield _app(path, node.name, ("ASGI", True))
        return
    if parameters == ["environ", "start_response"]:
        yield _app(path, node.name, ("WSGI", False))
    needed = len(parameters) > len(node.args.defaults) or None in node.args.kw_defaults
    if FACTORY.fullmatch(node.name) and not needed:
        local = {**names, **imported(ast.Module(body=[node], type_ignores=[]))}
        calls = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
        kind = next((kind for call in calls if (kind := _kind(call, local))), None)
        if kind:
            yield _app(path, node.name, kind, factory=True)
