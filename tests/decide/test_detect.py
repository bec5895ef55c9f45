"""Detection: sources of many shapes, what they run as, and what is said where that cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.api.glance import glance
from kasbah.decide.detect import detect, runtime_of, wanted
from kasbah.decide.detected import Detected, Refusal, vector_or_line
from kasbah.domain.revision import Runtime

UVICORN = "uvicorn {} --host 127.0.0.1 --port $PORT"
GUNICORN = "gunicorn {} --bind 127.0.0.1:$PORT --threads 8"
FLASK_RUN = "flask --app {} run --host 127.0.0.1 --port $PORT"
RUNSERVER = "python manage.py runserver --noreload 127.0.0.1:$PORT"

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FACTORY = "from flask import Flask\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app\n"
MANAGE = "import os, django\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n"
DJANGO = {"manage.py": MANAGE, "mysite/wsgi.py": "", "mysite/asgi.py": "", "mysite/settings.py": None}
POETRY = '[tool.poetry.dependencies]\npython = "^3.11"\nfastapi = {version = "1", extras = ["standard"]}\n'


def project(*dependencies: str, more: str = "") -> str:
    return f'[project]\nname = "app"\nversion = "1"\ndependencies = {json.dumps(dependencies)}\n{more}'


def package(**fields: object) -> str:
    return json.dumps(fields)


PYTHON = {
    "fastapi with uvicorn": (
        {"main.py": FASTAPI, "requirements.txt": "fastapi\nuvicorn[standard]>=0.3"},
        UVICORN.format("main:app"),
    ),
    "fastapi[standard] brings uvicorn": (
        {"app.py": FASTAPI, "requirements.txt": "FastAPI[standard]==1"},
        UVICORN.format("app:app"),
    ),
    "pyproject": (
        {"main.py": FASTAPI, "pyproject.toml": project("fastapi", "Uvicorn ~= 0.3")},
        UVICORN.format("main:app"),
    ),
    "poetry": ({"main.py": FASTAPI, "pyproject.toml": POETRY}, UVICORN.format("main:app")),
    "hypercorn": (
        {"main.py": FASTAPI, "requirements.txt": "fastapi\nhypercorn"},
        "hypercorn main:app --bind 127.0.0.1:$PORT",
    ),
    "an import shows the server": (
        {
            "main.py": FASTAPI + "import uvicorn\nif __name__ == '__main__':\n    uvicorn.run(app, port=8000)",
            "requirements.txt": "bundle",
        },
        UVICORN.format("main:app"),
    ),
    "as a module's attribute": (
        {"main.py": "import fastapi as f\nweb = f.FastAPI()", "requirements.txt": "fastapi\nuvicorn"},
        UVICORN.format("main:web"),
    ),
    "annotated, under try": (
        {
            "main.py": "from fastapi import FastAPI\ntry:\n    api: FastAPI = FastAPI()\nexcept ValueError:\n    pass",
            "requirements.txt": "uvicorn",
        },
        UVICORN.format("main:api"),
    ),
    "the usual name wins": (
        {"main.py": "from fastapi import FastAPI\nadmin = FastAPI()\napp = FastAPI()", "requirements.txt": "uvicorn"},
        UVICORN.format("main:app"),
    ),
    "starlette": (
        {"app.py": "from starlette.applications import Starlette\napp = Starlette()", "requirements.txt": "uvicorn"},
        UVICORN.format("app:app"),
    ),
    "plain asgi": (
        {"app.py": "async def app(scope, receive, send): ...", "requirements.txt": "uvicorn"},
        UVICORN.format("app:app"),
    ),
    "quart brings hypercorn": (
        {"app.py": "from quart import Quart\napp = Quart(__name__)", "requirements.txt": "quart"},
        "hypercorn app:app --bind 127.0.0.1:$PORT",
    ),
    "in a package": ({"app/main.py": FASTAPI, "requirements.txt": "uvicorn"}, UVICORN.format("app.main:app")),
    "below src": (
        {"src/shop/main.py": FASTAPI, "pyproject.toml": project("uvicorn")},
        "PYTHONPATH=src exec " + UVICORN.format("shop.main:app"),
    ),
    "asgi factory": (
        {
            "main.py": "def create_app():\n    from fastapi import FastAPI\n    return FastAPI()",
            "requirements.txt": "uvicorn",
        },
        UVICORN.format("main:create_app --factory"),
    ),
    "the tests' app is not the app": (
        {"tests/app.py": FASTAPI, "main.py": FASTAPI, "requirements.txt": "uvicorn"},
        UVICORN.format("main:app"),
    ),
    "flask with gunicorn": ({"app.py": FLASK, "requirements.txt": "flask\ngunicorn"}, GUNICORN.format("app:app")),
    "flask with waitress": (
        {"app.py": FLASK, "requirements.txt": "flask\nwaitress"},
        "waitress-serve --listen=127.0.0.1:$PORT app:app",
    ),
    "flask alone": ({"app.py": FLASK, "requirements.txt": "Flask==3.0"}, FLASK_RUN.format("app:app")),
    "flask that runs itself": (
        {"app.py": FLASK + "if __name__ == '__main__':\n    app.run(port=5000)", "requirements.txt": "flask"},
        FLASK_RUN.format("app:app"),
    ),
    "flask under any name": ({"hello.py": FLASK, "requirements.txt": "flask"}, FLASK_RUN.format("hello:app")),
    "flask factory": ({"flaskr/__init__.py": FACTORY, "requirements.txt": "flask"}, FLASK_RUN.format("flaskr")),
    "flask factory, gunicorn": (
        {"flaskr/__init__.py": FACTORY, "pyproject.toml": project("flask", "gunicorn")},
        GUNICORN.format("'flaskr:create_app()'"),
    ),
    "wsgi.py that calls a factory": (
        {
            "wsgi.py": "from shop import create_app\napp = create_app()",
            "shop/__init__.py": "",
            "requirements.txt": "flask\ngunicorn",
        },
        GUNICORN.format("wsgi:app"),
    ),
    "wsgi.py that imports": (
        {"wsgi.py": "from shop import app as application", "requirements.txt": "gunicorn"},
        GUNICORN.format("wsgi:application"),
    ),
    "a nested requirements file": (
        {"main.py": FASTAPI, "requirements.txt": "-r requirements/base.txt", "requirements/base.txt": "uvicorn"},
        UVICORN.format("main:app"),
    ),
    "django with gunicorn": (
        {**DJANGO, "requirements.txt": "Django\ngunicorn"},
        GUNICORN.format("mysite.wsgi:application"),
    ),
    "django with uvicorn": (
        {**DJANGO, "requirements.txt": "django\nuvicorn"},
        UVICORN.format("mysite.asgi:application"),
    ),
    "django alone": ({**DJANGO, "requirements.txt": "django"}, RUNSERVER),
    "django, settings elsewhere": (
        {"manage.py": "import django", "config/wsgi.py": "", "requirements.txt": "gunicorn"},
        GUNICORN.format("config.wsgi:application"),
    ),
    "streamlit": (
        {"app.py": "import streamlit as st\nst.title('x')", "requirements.txt": "streamlit"},
        "streamlit run app.py --server.port $PORT --server.address 127.0.0.1 --server.headless true "
        "--browser.gatherUsageStats false",
    ),
    "gradio": (
        {"app.py": "import gradio as gr\ngr.Interface(str, 'text', 'text').launch()", "requirements.txt": "gradio"},
        "GRADIO_SERVER_NAME=127.0.0.1 GRADIO_SERVER_PORT=$PORT GRADIO_ANALYTICS_ENABLED=False exec python app.py",
    ),
    "main.py": ({"main.py": "print()", "requirements.txt": ""}, ("python", "main.py")),
    "app.py alone": ({"app.py": "print()"}, ("python", "app.py")),
    "main.py before others": ({"app.py": "", "main.py": ""}, ("python", "main.py")),
    "the only file": ({"serve.py": "print()", "test_serve.py": "", "setup.py": ""}, ("python", "serve.py")),
    "not Python to us": ({"main.py": "def ("}, ("python", "main.py")),
    "one script": (
        {"pyproject.toml": project(more='[project.scripts]\nshop = "shop:main"\n[build-system]\nrequires = []')},
        ("shop",),
    ),
    "a package that runs": ({"shop/__main__.py": "", "pyproject.toml": project()}, ("python", "-m", "shop")),
    "procfile": (
        {
            "Procfile": "worker: x\nweb: gunicorn shop.wsgi --bind :$PORT\n",
            "requirements.txt": "flask",
            "app.py": FLASK,
        },
        "gunicorn shop.wsgi --bind :$PORT",
    ),
    "procfile, plain words": (
        {"Procfile": "web:   python serve.py --x=1", "serve.py": ""},
        ("python", "serve.py", "--x=1"),
    ),
}

EXPRESS = "const port = process.env.PORT || 3000\napp.listen(port)"
NODE = {
    "start, plain": ({"package.json": package(scripts={"start": "node server.js"})}, ("node", "server.js")),
    "start, with options": (
        {"package.json": package(scripts={"start": "node --import ./x.mjs ./bin/www"})},
        ("node", "--import", "./x.mjs", "./bin/www"),
    ),
    "start, a tool": ({"package.json": package(scripts={"start": "next start -p $PORT"})}, "next start -p $PORT"),
    "start, a variable first": (
        {"package.json": package(scripts={"start": "NODE_ENV=x node a.js"})},
        "NODE_ENV=x node a.js",
    ),
    "start after prestart": (
        {"package.json": package(scripts={"start": "node a.js", "prestart": "x"})},
        ("npm", "start"),
    ),
    "start that needs npm": ({"package.json": package(scripts={"start": "echo $npm_package_name"})}, ("npm", "start")),
    "main": ({"package.json": package(main="./lib/web.js"), "lib/web.js": None}, ("node", "lib/web.js")),
    "main without ending": (
        {"package.json": package(main="lib"), "lib/index.js": None, "index.js": ""},
        ("node", "lib"),
    ),
    "main that the build makes": (
        {"package.json": package(main="dist/x.js", scripts={"build": "tsc"})},
        ("node", "dist/x.js"),
    ),
    "main that is not there": ({"package.json": package(main="index.js"), "server.js": EXPRESS}, ("node", "server.js")),
    "no package.json": ({"app.js": ""}, ("node", "app.js")),
    "below src": ({"package.json": "{}", "src/index.js": ""}, ("node", "src/index.js")),
    "a byte order mark": ({"package.json": "\ufeff" + package(main="a.js"), "a.js": ""}, ("node", "a.js")),
    "a Python tool beside": (
        {"package.json": package(scripts={"start": "node a.js"}), "pyproject.toml": "[tool.ruff]"},
        ("node", "a.js"),
    ),
    "a start script beats a guess": (
        {"package.json": package(scripts={"start": "node a.js"}), "main.py": "", "requirements.txt": ""},
        ("node", "a.js"),
    ),
    "procfile": ({"package.json": "{}", "requirements.txt": "x", "Procfile": "web: node a.js"}, ("node", "a.js")),
}


@pytest.mark.parametrize(("files", "command"), PYTHON.values(), ids=PYTHON)
def test_python(files: dict[str, str | None], command: str | tuple[str, ...]) -> None:
    found = detect(files)
    assert isinstance(found, Detected), found
    assert found.command == ((command,) if isinstance(command, str) else command)
    assert found.runtime is Runtime.PYTHON
    assert found.reasons


@pytest.mark.parametrize(("files", "command"), NODE.values(), ids=NODE)
def test_node(files: dict[str, str | None], command: str | tuple[str, ...]) -> None:
    found = detect(files)
    assert isinstance(found, Detected), found
    assert found.command == ((command,) if isinstance(command, str) else command)
    assert found.runtime is Runtime.NODE
    assert found.reasons


def test_flask_beside_the_package_json_of_its_styles_is_python() -> None:
    files = {"app.py": FLASK, "requirements.txt": "flask", "package.json": package(devDependencies={"tailwind": "1"})}
    found = detect(files)
    assert isinstance(found, Detected)
    assert found.runtime is Runtime.PYTHON
    assert any("Python and Node" in reason for reason in found.reasons)


REFUSED = {
    "nothing known": ({"server": None, "README.md": None}, "no Procfile", "command:"),
    "empty": ({}, "no Procfile", "command:"),
    "asgi without a server": (
        {"main.py": FASTAPI, "requirements.txt": "fastapi"},
        "main.py makes a FastAPI app",
        "add uvicorn",
    ),
    "wsgi without a server": (
        {"a.py": "from bottle import Bottle\nx = Bottle()", "requirements.txt": "bottle"},
        "no server",
        "add gunicorn",
    ),
    "nothing to install from": ({"main.py": FASTAPI}, "no file says what to install", "fastapi and uvicorn"),
    "two apps": (
        {"a.py": FLASK, "b.py": FLASK, "requirements.txt": "flask"},
        "a.py and b.py both",
        "rename it to main.py",
    ),
    "no entry": ({"requirements.txt": "flask", "a.py": "", "b.py": ""}, "nothing here says", "command:"),
    "two scripts": (
        {"pyproject.toml": project(more='[project.scripts]\na = "a"\nb = "b"\n[build-system]')},
        "nothing here says",
        "command:",
    ),
    "bad json": ({"package.json": "{"}, "not valid JSON: .*line 1", "correct"),
    "no object": ({"package.json": "[]"}, "not an object", "correct"),
    "no start": ({"package.json": "{}", "lib.js": ""}, "no start script", "scripts"),
}


@pytest.mark.parametrize(("files", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_refused(files: dict[str, str | None], message: str, hint: str) -> None:
    found = detect(files)
    assert isinstance(found, Refusal), found
    with pytest.raises(ValueError, match=message):
        raise ValueError(found.message)
    assert hint in found.hint


@pytest.mark.parametrize(
    ("name", "text", "port"),
    [
        ("index.js", "app.listen(3000)", 3000),
        ("index.js", "const port = 8081;\napp.listen(port)", 8081),
        ("index.js", EXPRESS, None),
        ("index.js", "const { PORT = 3000 } = process.env; app.listen(PORT)", None),
        ("index.js", "app.listen(99999)", None),
        ("main.py", "serve(port=9000)", 9000),
        ("main.py", "HTTPServer(('0.0.0.0', 8000), Handler)", 8000),
        ("main.py", "serve(port=int(os.environ.get('PORT', 8000)))", None),
        ("main.py", "", None),
    ],
)
def test_a_port_written_into_the_code_is_seen(name: str, text: str, port: int | None) -> None:
    found = detect({name: text})
    assert isinstance(found, Detected)
    assert found.port == port


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("node a.js", ("node", "a.js")),
        ("  a  b ", ("a", "b")),
        ("a $PORT", ("a $PORT",)),
        ("a 'b c'", ("a 'b c'",)),
        ("X=1 a", ("X=1 a",)),
        ("a *.js", ("a *.js",)),
        ("a && b", ("a && b",)),
        ("", ("",)),
    ],
)
def test_a_line_is_split_only_where_no_shell_would_do_more(line: str, command: tuple[str, ...]) -> None:
    assert vector_or_line(line) == command


@pytest.mark.parametrize(
    ("files", "command", "runtime"),
    [
        ({"requirements.txt": ""}, (), Runtime.PYTHON),
        ({"package.json": "{}"}, (), Runtime.NODE),
        ({"package.json": "{}", "tool.py": ""}, (), Runtime.NODE),
        ({"package.json": "{}", "requirements.txt": ""}, ("./serve",), Runtime.PYTHON),
        ({"package.json": "{}", "requirements.txt": ""}, ("npm run x",), Runtime.NODE),
        ({"server": None}, ("./server",), Runtime.COMMAND),
        ({"server": None}, ("",), Runtime.COMMAND),
    ],
)
def test_the_runtime_where_the_command_is_given(
    files: dict[str, str | None], command: tuple[str, ...], runtime: Runtime
) -> None:
    assert runtime_of(files, command) is runtime


def test_only_entry_points_are_read() -> None:
    read = {
        "Procfile",
        "manage.py",
        "hello.py",
        "pkg/main.py",
        "src/pkg/app.py",
        "requirements/base.txt",
        "src/main.py",
    }
    assert {path for path in read if not wanted(path)} == set()
    assert not any(map(wanted, ["data.csv", "pkg/models.py", "a/b/main.py", "README.md", "src/pkg/x.py"]))


def test_a_folder_at_a_glance(tmp_path: Path) -> None:
    for name in ("main.py", "pkg/app.py", "pkg/data/x.txt", "a/b/c/deep.txt", "node_modules/x.js", "ignored/app.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "app.py").symlink_to("main.py")
    (tmp_path / "server.py").write_bytes(b"\xff\xfe")
    seen = glance(tmp_path)
    assert seen == {
        ".gitignore": None,
        "app.py": None,
        "main.py": "text",
        "server.py": "\ufffd\ufffd",
        "pkg/app.py": "text",
        "pkg/data/x.txt": None,
    }


NAMES = st.sampled_from(
    [
        "Procfile",
        "package.json",
        "pyproject.toml",
        "requirements.txt",
        "main.py",
        "app.py",
        "manage.py",
        "a/wsgi.py",
        "index.js",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["scripts", "start", "main", "build"]) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=8,
)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            FASTAPI,
            FLASK,
            FACTORY,
            MANAGE,
            "web: x $PORT\n",
            "[project]\n",
            "dependencies = 3\n",
            "[tool]\npoetry = 1\n",
            "app = f()()\n",
            "app: int = create_app()\n",
            "port = 99\n",
            "from . import app\n",
            "import a.b.c as d\n",
        ]
    )
    | st.text(max_size=15),
    max_size=6,
).map("".join)
TEXTS = st.none() | st.text(max_size=60) | FRAGMENTS | VALUES.map(json.dumps)


@given(st.dictionaries(NAMES | st.text(max_size=12), TEXTS, max_size=7))
def test_nothing_in_a_source_makes_it_raise(files: dict[str, str | None]) -> None:
    found = detect(files)
    if isinstance(found, Detected):
        assert all(found.command)
        assert found.port is None or 0 < found.port < 65_536
        assert found == detect(dict(reversed(files.items()))), "the order of the files decides nothing"
    else:
        assert found.message
        assert found.hint


@pytest.mark.parametrize(
    "text", ["(" * 10_000, "x = " + "-" * 50_000 + "1", "if 1:\n  x\n" + "elif 1:\n  x\n" * 3_000, "[" * 50_000, "\0"]
)
def test_nesting_without_end_is_survived(text: str) -> None:
    for name in ("main.py", "package.json", "pyproject.toml"):
        assert detect({name: text, "requirements.txt": "flask"}) is not None
