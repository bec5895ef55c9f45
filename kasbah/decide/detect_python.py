"""How a Python source runs: Django, else a web app that a module makes with the server among the dependencies, else
Streamlit or Gradio, else a file with a usual name, else the project's one script."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from kasbah.decide.detected import Detected, Files, Refusal
from kasbah.decide.python_source import App, Project, find_app, imported, parse, read_project
from kasbah.domain.revision import Runtime

ENTRIES = ("main", "app", "server", "asgi", "wsgi", "api", "application")
SCRIPTS = ("main.py", "app.py", "server.py", "run.py", "__main__.py")
NO_ENTRY = re.compile(r"(test_.*|.*_test|conftest|setup|manage|noxfile|tasks|fabfile)\.py")
NO_PACKAGE = re.compile(r"(tests?|docs?|examples?|scripts|migrations|\..*)/.*")
MODULE = re.compile(r"\w[\w.-]*", re.ASCII)
READS_PORT = re.compile(r"['\"]PORT['\"]")
FIXED_PORT = re.compile(r"\bport\b\s*[=:]\s*(\d{2,5})\b|\(\s*['\"][\w.:]*['\"]\s*,\s*(\d{2,5})\s*\)", re.IGNORECASE)
SETTINGS = re.compile(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)['\"]")

ASGI_SERVERS = {
    "uvicorn": "uvicorn {target} --host 127.0.0.1 --port $PORT",
    "hypercorn": "hypercorn {target} --bind 127.0.0.1:$PORT",
    "granian": "granian --interface asgi {target} --host 127.0.0.1 --port $PORT",
    "daphne": "daphne -b 127.0.0.1 -p $PORT {target}",
}
WSGI_SERVERS = {
    "gunicorn": "gunicorn {target} --bind 127.0.0.1:$PORT --threads 8",
    "waitress": "waitress-serve --listen=127.0.0.1:$PORT {target}",
}
"""gunicorn's default answers one request at a time, so that one stream would hold up everybody."""

STREAMLIT = (
    "streamlit run {path} --server.port $PORT --server.address 127.0.0.1 --server.headless true "
    "--browser.gatherUsageStats false"
)
GRADIO = "GRADIO_SERVER_NAME=127.0.0.1 GRADIO_SERVER_PORT=$PORT GRADIO_ANALYTICS_ENABLED=False exec python {path}"
NO_ENTRY_POINT = Refusal(
    message="nothing here says how the app starts: no web app in a module at the top, and no main.py or app.py",
    hint="write `command:` in kasbah.yaml, for example  command: python serve.py",
)


def detect_python(files: Files) -> Detected | Refusal:
    """How a Python source runs, or why that cannot be told."""
    project = read_project(files)
    trees = {path: tree for path in _candidates(files) if (tree := parse(files.get(path))) is not None}
    servers = _servers(project, trees)
    if re.search("django", files.get("manage.py") or "", re.IGNORECASE):
        return _django(files, servers)
    app = _one_app(trees, project)
    if isinstance(app, Refusal):
        return app
    if app is not None:
        return _web_app(app, project, servers)
    return _by_library(trees) or _by_file(files) or _by_script(project) or _last_guess(files) or NO_ENTRY_POINT


def _candidates(files: Files) -> list[str]:
    """The modules that may make the app, the likeliest first: usual names at the top, then any other file there, then
    usual names in a package."""
    usual = {f"{name}.py": rank for rank, name in enumerate((*ENTRIES, "__init__"))}
    ranked = []
    for path in files:
        parts = path.split("/")
        name, folder = parts[-1], parts[:-1]
        if not name.endswith(".py") or NO_ENTRY.fullmatch(name) or NO_PACKAGE.match(path):
            continue
        inside = folder[1:] if folder[:1] == ["src"] else folder
        if len(inside) < 2 and (name in usual or not folder):
            ranked.append((len(inside), usual.get(name, len(usual)), len(folder), path))
    return [path for *_, path in sorted(ranked)]


def _servers(project: Project, trees: Mapping[str, ast.Module]) -> frozenset[str]:
    """The servers that will be there: dependencies, and what the code imports and must therefore have."""
    names = {full.partition(".")[0] for tree in trees.values() for full in imported(tree).values()}
    return project.dependencies | (names & {*ASGI_SERVERS, *WSGI_SERVERS})


def _django(files: Files, servers: frozenset[str]) -> Detected:
    found = SETTINGS.search(files.get("manage.py") or "")
    site = found[1].partition(".")[0] if found else ""
    if f"{site}/wsgi.py" not in files and f"{site}/asgi.py" not in files:
        site = next((path.partition("/")[0] for path in sorted(files) if re.fullmatch(r"\w+/[aw]sgi\.py", path)), "")
    reason = "manage.py is Django's"
    for gateway, commands in (("wsgi", WSGI_SERVERS), ("asgi", ASGI_SERVERS)):
        server = next((name for name in commands if name in servers), None)
        if server and f"{site}/{gateway}.py" in files:
            line = commands[server].format(target=f"{site}.{gateway}:application")
            return _line(line, reason, f"{server} is a dependency")
    line = "python manage.py runserver --noreload 127.0.0.1:$PORT"
    return _line(line, reason, "no server such as gunicorn is among the dependencies: Django's own serves")


def _one_app(trees: Mapping[str, ast.Module], project: Project) -> App | Refusal | None:
    """The app to serve: the likeliest module's, unless nothing tells two files at the top apart."""
    found = [app for path, tree in trees.items() if (app := find_app(path, tree, project)) is not None]
    odd = [app.path for app in found if "/" not in app.path and app.path.removesuffix(".py") not in ENTRIES]
    if found and found[0].path in odd and len(odd) > 1:
        return Refusal(
            message=f"{odd[0]} and {odd[1]} both make a web app",
            hint="say which one to serve: rename it to main.py, or write `command:` in kasbah.yaml",
        )
    return next((app for app in found if MODULE.fullmatch(_module(app.path))), None)


def _web_app(app: App, project: Project, servers: frozenset[str]) -> Detected | Refusal:
    made = f"{app.path} makes {'an' if app.framework[0] in 'AEIO' else 'a'} {app.framework} app"
    commands = ASGI_SERVERS if app.asynchronous else WSGI_SERVERS
    server = next((name for name in commands if name in servers), None)
    if not project.declares:
        wanted = " and ".join(dict.fromkeys((app.framework.lower(), next(iter(commands)))))
        return Refusal(
            message=f"{made}, but no file says what to install", hint=f"add a requirements.txt with {wanted}"
        )
    if server is not None:
        line = commands[server].format(target=_target(app, server))
        return _line(_at_source(app, line), made, f"{server} is a dependency")
    if app.framework == "Flask":
        name = _module(app.path) + ("" if app.factory else f":{app.variable}")
        line = f"flask --app {name} run --host 127.0.0.1 --port $PORT"
        return _line(
            _at_source(app, line), made, "no server such as gunicorn is among the dependencies: Flask's own serves"
        )
    first = next(iter(commands))
    return Refusal(
        message=f"{made}, but no server that could run it is among the dependencies",
        hint=f"add {first} to the dependencies, or write `command:` in kasbah.yaml",
    )


def _target(app: App, server: str) -> str:
    """The app as the server wants it named; each has its own way to call a factory."""
    name = f"{_module(app.path)}:{app.variable}"
    if not app.factory:
        return name
    ways = {"uvicorn": f"{name} --factory", "granian": f"{name} --factory", "waitress": f"--call {name}"}
    return ways.get(server, f"'{name}()'")


def _module(path: str) -> str:
    module = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    return module.removesuffix(".__init__")


def _at_source(app: App, line: str) -> str:
    return f"PYTHONPATH=src exec {line}" if app.path.startswith("src/") else line


def _by_library(trees: Mapping[str, ast.Module]) -> Detected | None:
    """Streamlit runs a file; Gradio's file runs itself."""
    for path, tree in trees.items():
        names = {full.partition(".")[0] for full in imported(tree).values()}
        for library, template in (("streamlit", STREAMLIT), ("gradio", GRADIO)):
            if library in names and MODULE.fullmatch(path.replace("/", ".")):
                return _line(template.format(path=path), f"{path} imports {library}")
    return None


def _by_file(files: Files) -> Detected | None:
    path = next((name for name in SCRIPTS if name in files), None)
    return None if path is None else _run_file(path, files)


def _run_file(path: str, files: Files) -> Detected:
    return Detected(
        runtime=Runtime.PYTHON,
        command=("python", path),
        port=_port(files.get(path)),
        reasons=(f"there is {path}",),
        guess=True,
    )


def _by_script(project: Project) -> Detected | None:
    if not project.is_package or len(project.scripts) != 1:
        return None
    name = project.scripts[0]
    return Detected(runtime=Runtime.PYTHON, command=(name,), reasons=(f"pyproject.toml has one script, {name}",))


def _last_guess(files: Files) -> Detected | None:
    """The one file at the top, or the one package that can be run."""
    top = [path for path in files if "/" not in path and path.endswith(".py") and not NO_ENTRY.fullmatch(path)]
    if len(top) == 1:
        return _run_file(top[0], files)
    packages = [path for path in files if re.fullmatch(r"\w+/__main__\.py", path) and not NO_PACKAGE.match(path)]
    if len(packages) != 1:
        return None
    name = packages[0].partition("/")[0]
    reason = f"{name} is a package that can be run"
    return Detected(runtime=Runtime.PYTHON, command=("python", "-m", name), reasons=(reason,), guess=True)


def _port(text: str | None) -> int | None:
    """The port written into the code, where it does not ask for PORT."""
    found = None if READS_PORT.search(text or "") else FIXED_PORT.search(text or "")
    port = int(found[1] or found[2]) if found else 0
    return port if 0 < port < 65_536 else None


def _line(line: str, *reasons: str) -> Detected:
    return Detected(runtime=Runtime.PYTHON, command=(line,), reasons=reasons)
