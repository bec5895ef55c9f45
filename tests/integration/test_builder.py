"""Builds with the real uv and npm: what comes out starts, what fails says why, what is cut short leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uv
from building import Site, left_behind, make_site, tools_of

from kasbah.agent.build import Built
from kasbah.agent.build.launch import argument_vector
from kasbah.domain.ids import Digest, RevisionId
from kasbah.domain.revision import Revision, Runtime
from kasbah.errors import BuildFailed, Invalid, NotFound
from kasbah.settings import Limits

pytestmark = pytest.mark.real

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
CRI_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z stdout F .*")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., Path]:
    """Makes a wheel by hand: a dependency that needs no network."""

    def _make(name: str, body: str = "", requires: tuple[str, ...] = ()) -> Path:
        path = tmp_path / f"{name}-1.0-py3-none-any.whl"
        info = f"{name}-1.0.dist-info"
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}.py", body)
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
            file.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
        return path

    return _make


def start(built: Built, **more: str) -> str:
    """Run what was built, to its end, with its environment alone."""
    done = subprocess.run(
        built.argv, cwd=built.app, env={**built.env, **more}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def ran(*argv: str, cwd: Path, env: Mapping[str, str]) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=cwd, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


async def sleeper() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 other processes tell no event
            await asyncio.sleep(0.02)


# -- Python


async def test_a_source_without_dependencies_gets_an_environment(site: Site) -> None:
    built = await site.python({"main.py": "import sys, os; print(sys.prefix, os.environ['VIRTUAL_ENV'])"})
    assert start(built).split() == [str(site.folder() / "env")] * 2
    assert site.steps == ["unpacking the source", "compiling"]
    assert built.argv == ("python", "main.py")
    assert built.env["PYTHONUNBUFFERED"] == built.env["DO_NOT_TRACK"] == "1"
    assert built.app.parent in built.readable
    assert not (site.folder() / "work").exists()
    lines = site.log.read_text().splitlines()
    assert lines
    assert all(CRI_LINE.fullmatch(line) for line in lines)


async def test_requirements_are_resolved_installed_and_compiled(site: Site, wheel: Callable[..., Path]) -> None:
    tiny = wheel("tiny", "where = __file__, __cached__")
    built = await site.python(
        {"main.py": "import tiny; print(*tiny.where)", "requirements.txt": f"./{tiny.name}\n", tiny.name: tiny}
    )
    file, cached = start(built).split()
    assert Path(file).is_relative_to(site.folder() / "env")
    assert Path(cached).exists()
    assert "tiny" in (site.folder() / "requirements.lock").read_text()
    assert site.steps[1:] == ["resolving dependencies", "installing 1 package", "compiling"]


async def test_a_real_dependency_from_the_index(site: Site) -> None:
    built = await site.python(
        {"requirements.txt": "itsdangerous==2.2.0\n"}, "python -c 'import itsdangerous; print(1)'"
    )
    assert start(built) == "1\n"
    assert "itsdangerous==2.2.0" in (site.folder() / "requirements.lock").read_text()


async def test_the_bytecode_of_a_copy_is_used(site: Site, tmp_path: Path) -> None:
    built = await site.python({"main.py": "import helper", "helper.py": "print('hi')", "bad.py": "def ("})
    copy = tmp_path / "copy"
    shutil.copytree(built.app, copy, copy_function=shutil.copyfile)  # new times, as any copy may have
    out, err = await ran("python", "-v", "main.py", cwd=copy, env=built.env)
    assert re.search(r"code object from '.*/copy/__pycache__/helper\.[\w-]+\.pyc'", err)
    assert out == "hi\n"


async def test_pyproject_without_a_lock_is_resolved_with_its_own_overrides(
    site: Site, wheel: Callable[..., Path]
) -> None:
    """`tiny` wants a package that exists nowhere; the source overrides it away."""
    tiny = wheel("tiny", "", ("kasbah-no-such-package>=5",))
    project = '[project]\nname = "app"\nversion = "1"\ndependencies = ["tiny"]\n[tool.uv]\nno-index = true\n'
    override = "override-dependencies = [\"kasbah-no-such-package ; sys_platform == 'never'\"]\nfind-links = ['.']\n"
    built = await site.python({"main.py": "import tiny", "pyproject.toml": project + override, tiny.name: tiny})
    start(built)
    assert "no-such" not in (site.folder() / "requirements.lock").read_text().replace("# via", "")


@pytest.mark.parametrize("where", ["/tmp", "/var/tmp"])
async def test_settings_for_uv_above_the_data_folder_are_not_ours(wheel: Callable[..., Path], where: str) -> None:
    """Neither where /tmp is another one for a build, nor where it sees what is around it as it is."""
    with tempfile.TemporaryDirectory(dir=where, prefix="kasbah-test-") as folder:
        os.chmod(folder, 0o755)
        await built_below_settings(Path(folder), wheel)


async def built_below_settings(folder: Path, wheel: Callable[..., Path]) -> None:
    (folder / "pyproject.toml").write_text('[tool.uv]\noverride-dependencies = ["tiny==9"]\nno-index = true\n')
    site = make_site(folder / "data")
    tiny = wheel("tiny")
    built = await site.python({"main.py": "import tiny", "requirements.txt": f"./{tiny.name}\n", tiny.name: tiny})
    start(built)
    project = '[project]\nname = "app"\nversion = "1"\ndependencies = []\n[tool.uv]\npackage = false\n'
    start(await site.python({"main.py": "", "pyproject.toml": project}, name="rv-2"))


async def test_uv_lock_is_followed(site: Site, wheel: Callable[..., Path]) -> None:
    tiny = wheel("tiny", "print('locked')")
    source = site.paths.data_dir / "sources" / "rv-1"
    source.mkdir(parents=True)
    shutil.copy(tiny, source)
    (source / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tiny"]\n'
        f'[tool.uv.sources]\ntiny = {{path = "{tiny.name}"}}\n'
    )
    env = {**os.environ, "UV_CACHE_DIR": str(site.paths.cache / "uv")}
    await ran(uv.find_uv_bin(), "lock", "--offline", "-q", cwd=source, env=env)
    (source / "main.py").write_text("import tiny")
    built = await site.build(await site.sent(source, ("python", "main.py"), Runtime.PYTHON))
    assert start(built) == "locked\n"
    assert "installing what uv.lock names" in site.steps
    assert not (site.folder() / "requirements.lock").exists()


BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "shop-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as file:
        file.writestr("shop.pth", __file__.rpartition("/")[0] + "/src")
        file.writestr("shop-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.0\\n")
        file.writestr("shop-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        file.writestr("shop-1.0.dist-info/entry_points.txt", "[console_scripts]\\nshop = shop:main\\n")
        file.writestr("shop-1.0.dist-info/RECORD", "")
    return name
"""
PACKAGE = """
[project]
name = "shop"
version = "1.0"
[project.scripts]
shop = "shop:main"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


async def test_a_package_is_installed_with_its_script(site: Site) -> None:
    """Its build backend is in the source: nothing comes from the network."""
    shop = "def main(): print(__file__)"
    built = await site.python({"backend.py": BACKEND, "pyproject.toml": PACKAGE, "src/shop.py": shop}, "shop")
    assert start(built).strip() == str(built.app / "src" / "shop.py")


async def test_a_package_that_does_not_build_says_what_to_do(site: Site) -> None:
    with pytest.raises(BuildFailed, match="installing the app itself failed") as caught:
        await site.python({"backend.py": "raise ValueError('my backend')", "pyproject.toml": PACKAGE}, "shop")
    assert any("my backend" in line for line in caught.value.tail)
    assert "[build-system]" in caught.value.hint


async def test_build_commands_run_in_the_environment(site: Site) -> None:
    hook = "import pathlib, sys; pathlib.Path('made.txt').write_text(sys.prefix)"
    files = {
        "convert.py": hook,
        "pyproject.toml": "[tool.kasbah]\nbuild = ['python convert.py']\n",
        "main.py": "print(open('made.txt').read())",
    }
    built = await site.python(files)
    assert start(built).strip() == str(site.folder() / "env")
    assert "running python convert.py" in site.steps


async def test_a_build_that_fails_shows_its_last_lines(site: Site) -> None:
    hook = "for n in range(100): print('line', n)\nprint('\\033[31mred\\033[0m')\nraise SystemExit(3)"
    files = {"convert.py": hook, "pyproject.toml": "[tool.kasbah]\nbuild = 'python convert.py'\n"}
    with pytest.raises(BuildFailed, match=r"`python convert.py` failed: sh ended with status 3") as caught:
        await site.python(files)
    assert caught.value.tail[-2:] == ("line 99", "red")
    assert len(caught.value.tail) == 30
    assert "stdout F line 0\n" in site.log.read_text()
    assert left_behind(site) == []


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"pyproject.toml": "[project\n"}, "pyproject.toml cannot be read.*line 1", "correct it"),
        (
            {"requirements.txt": "kasbah-no-such-package-at-all==1\n"},
            "resolving the dependencies failed",
            "check its name",
        ),
        ({"requirements.txt": "flask===\n"}, "resolving the dependencies failed", "last lines"),
        (
            {"pyproject.toml": '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.99"\n'},
            "needs Python >=3.99, which the site does not have",
            "install that Python",
        ),
        ({"pyproject.toml": "[tool.kasbah]\nbuild = 3\n"}, "not a list of commands", "build ="),
    ],
    ids=["toml", "unknown", "malformed", "python", "hook"],
)
async def test_what_is_wrong_is_said(site: Site, files: dict[str, str | Path], message: str, hint: str) -> None:
    with pytest.raises(BuildFailed, match=message) as caught:
        await site.python({"main.py": "", **files})
    assert hint in caught.value.hint
    assert left_behind(site) == []


async def test_an_index_out_of_reach_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's index settings reach uv, and nothing answers there."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(BuildFailed) as caught:
        await site.python({"requirements.txt": "flask\n"})
    assert "cannot reach the package index" in caught.value.hint
    assert any("127.0.0.1" in line for line in caught.value.tail)


async def test_tools_get_the_index_settings_and_no_secret(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    files = {
        "dump.py": "import json, os; json.dump(dict(os.environ), open('env.json', 'w'))",
        "pyproject.toml": "[tool.kasbah]\nbuild = 'python dump.py'\n",
    }
    built = await site.python(files, "python", "dump.py")
    seen = json.loads((built.app / "env.json").read_text())
    assert seen["HTTPS_PROXY"] == "http://proxy:1"
    assert seen["HOME"] == str(site.folder() / "work" / "home")
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert "PYTHONDONTWRITEBYTECODE" not in seen
    assert "HTTPS_PROXY" not in built.env


# -- the life of a build


async def test_a_build_is_made_once(site: Site) -> None:
    revision = await site.revision({"main.py": ""}, ("python", "main.py"), Runtime.PYTHON)
    assert site.builder.built(revision) is None
    first, second = await asyncio.gather(site.build(revision), site.build(revision))
    assert first == second == site.builder.built(revision)
    assert site.steps.count("unpacking the source") == 1
    again = make_site(site.paths.data_dir)
    assert again.builder.built(revision) == first


SLEEPER = {
    "wait.py": "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\nopen('begun', 'w')\nchild.wait()",
    "pyproject.toml": "[tool.kasbah]\nbuild = 'python wait.py'\n",
    "main.py": "",
}


async def test_a_cancelled_build_leaves_nothing(site: Site) -> None:
    task = asyncio.create_task(site.python(SLEEPER))
    await eventually((site.folder() / "app" / "begun").exists)
    assert {"python", "sleep"} <= set(tools_of(site))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: tools_of(site) == [])
    assert left_behind(site) == []


async def test_a_build_has_a_deadline(tmp_path: Path) -> None:
    site = make_site(tmp_path, Limits(build_seconds=1))
    with pytest.raises(BuildFailed, match="took longer than 1 s"):
        await site.python(SLEEPER)
    assert left_behind(site) == []


async def test_what_a_killed_agent_left_is_ended_and_removed(site: Site) -> None:
    folder = site.folder()
    (folder / "app").mkdir(parents=True)
    (folder / "requirements.lock").write_text("")
    orphan = await sleeper()
    started = Path(f"/proc/{orphan.pid}/stat").read_text().rpartition(")")[2].split()[19]
    (folder / "building").write_text(f"{orphan.pid} {started}")
    await site.builder.recover()
    assert await asyncio.wait_for(orphan.wait(), 30) == -9
    assert left_behind(site) == ["rv-1", "rv-1/requirements.lock"]


async def test_a_process_that_merely_has_the_number_is_left_alone(site: Site) -> None:
    site.folder().mkdir(parents=True)
    stranger = await sleeper()
    (site.folder() / "building").write_text(f"{stranger.pid} 1")
    await site.builder.recover()
    stranger.terminate()
    assert await asyncio.wait_for(stranger.wait(), 30) == -15  # and not -9: nobody killed it before


async def test_a_build_cut_short_is_redone_with_the_versions_resolved(site: Site, wheel: Callable[..., Path]) -> None:
    """The requirement names no version, and the lock that survived names one that only it can come from."""
    tiny = wheel("tiny", "print('first')")
    files = {"main.py": "import tiny", "requirements.txt": f"./{tiny.name}\n", tiny.name: tiny}
    built = await site.python(files)
    (site.folder() / "build.json").unlink()
    (site.folder() / "requirements.lock").write_text("")
    (site.folder() / "app" / "litter").write_text("")
    revision = await site.revision({}, ("python", "-c", "pass"), Runtime.PYTHON)
    again = await site.build(revision)
    assert not (again.app / "litter").exists()
    assert not list((built.app.parent / "env").rglob("tiny.py"))  # the lock kept was followed, not the requirements
    assert "using the versions resolved before" in site.log.read_text()


async def test_a_build_is_removed_and_others_stay(site: Site) -> None:
    for name in ("rv-1", "rv-2", "rv-3"):
        await site.python({"main.py": ""}, name=name)
    await site.builder.remove(RevisionId("rv-1"))
    await site.builder.remove(RevisionId("rv-3"))
    assert [one.name for one in site.paths.builds.iterdir()] == ["rv-2"]


async def test_a_source_that_is_not_here_is_said(site: Site) -> None:
    revision = Revision(
        id=RevisionId("rv-1"),
        source=Digest("sha256:" + "0" * 64),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("x",),
    )
    with pytest.raises(NotFound):
        await site.build(revision)


async def test_an_id_is_no_path(site: Site) -> None:
    with pytest.raises(Invalid):
        await site.builder.remove(RevisionId("../blobs"))


# -- any command


async def test_a_command_is_taken_as_it_is(site: Site) -> None:
    source = site.paths.data_dir / "sources" / "c"
    source.mkdir(parents=True)
    (source / "serve").write_text("#!/bin/sh\necho serving $1 $PORT\n")
    (source / "serve").chmod(0o755)
    built = await site.build(await site.sent(source, ("./serve", "on"), Runtime.COMMAND))
    assert start(built, PORT="80") == "serving on 80\n"
    assert built.argv[0] == str(site.folder() / "app" / "serve")
    line = await site.build(await site.sent(source, ("./serve at-$PORT",), Runtime.COMMAND, "rv-2"))
    assert start(line, PORT="80") == "serving at-80 80\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-program", "x"), "`no-such-program` was not found"),
        (("no-such-program --port $PORT",), "`no-such-program` was not found"),
        (("./missing",), "`./missing` was not found"),
        (("./plain",), "`./plain` is not executable"),
        (("./plain --port $PORT",), "`./plain` is not executable"),
        ((" ",), "empty"),
    ],
)
async def test_a_command_that_cannot_start_fails_the_build(site: Site, command: tuple[str, ...], message: str) -> None:
    revision = await site.revision({"plain": "text"}, command, Runtime.COMMAND)
    with pytest.raises(BuildFailed, match=message):
        await site.build(revision)


# -- Node


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (("serve", "a b", "$X"), ("serve", "a b", "$X")),
        (("serve",), ("serve",)),
        (("./bin/serve", "x"), ("/a/bin/serve", "x")),
        (("/opt/serve",), ("/opt/serve",)),
        (("serve -p $PORT",), ("/bin/sh", "-c", "exec serve -p $PORT")),
        (("$SERVE",), ("/bin/sh", "-c", "exec $SERVE")),
        (("serve > log",), ("/bin/sh", "-c", "exec serve > log")),
        (("a && b",), ("/bin/sh", "-c", "a && b")),
        (("a; b",), ("/bin/sh", "-c", "a; b")),
        (("a | b",), ("/bin/sh", "-c", "a | b")),
        (("X=1 serve",), ("/bin/sh", "-c", "X=1 serve")),
        (("cd src",), ("/bin/sh", "-c", "cd src")),
        (("(serve it)",), ("/bin/sh", "-c", "(serve it)")),
        (("exec serve it",), ("/bin/sh", "-c", "exec serve it")),
        (("./serve it",), ("/bin/sh", "-c", "exec ./serve it")),
    ],
)
def test_a_command_as_an_argument_vector(command: tuple[str, ...], argv: tuple[str, ...]) -> None:
    assert argument_vector(command, Path("/a")) == argv


@needs_npm
async def test_a_node_source_without_packages_needs_no_npm(site: Site) -> None:
    built = await site.node({"main.js": "console.log(process.env.NODE_ENV)", "package.json": "{}"})
    assert start(built) == "production\n"
    assert site.steps == ["unpacking the source"]


@needs_npm
async def test_packages_of_a_workspace_and_a_build_script(site: Site) -> None:
    """Local packages only: nothing comes from the network. The build needs a package that production does not."""
    package = {
        "name": "app",
        "workspaces": ["lib"],
        "dependencies": {"lib": "*"},
        "devDependencies": {"maker": "file:./maker"},
        "scripts": {"build": "make-it"},
    }
    files: dict[str, str | Path] = {
        "package.json": json.dumps(package),
        "lib/package.json": '{"name": "lib", "version": "1.0.0", "main": "lib.js"}',
        "lib/lib.js": "module.exports = 'from lib'",
        "maker/package.json": '{"name": "maker", "version": "1.0.0", "bin": {"make-it": "make.js"}}',
        "maker/make.js": "#!/usr/bin/env node\nrequire('fs').writeFileSync('made.js', 'module.exports = 7')",
        "main.js": "console.log(require('lib'), require('./made.js'))",
    }
    built = await site.node(files)
    assert start(built) == "from lib 7\n"
    modules = site.folder() / "env" / "node_modules"
    assert (built.app / "node_modules").readlink() == modules
    assert (modules / "lib").exists()
    assert not (modules / "maker").exists()
    assert (site.folder() / "package-lock.json").is_file()
    assert str(modules / ".bin") in built.env["PATH"]
    assert "running npm run build" in site.steps


@needs_npm
async def test_a_build_script_that_fails_shows_its_last_lines(site: Site) -> None:
    package = {"name": "app", "scripts": {"build": "echo about to fail; exit 4"}}
    with pytest.raises(BuildFailed, match="the build script failed") as caught:
        await site.node({"main.js": "", "package.json": json.dumps(package)})
    assert "about to fail" in caught.value.tail
    assert left_behind(site) == ["rv-1", "rv-1/package-lock.json"]


@needs_npm
async def test_a_package_json_that_is_none_is_said(site: Site) -> None:
    with pytest.raises(BuildFailed, match=r"package.json cannot be read.*line 1"):
        await site.node({"main.js": "", "package.json": "{,"})


async def test_a_machine_without_node_says_so(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="needs node") as caught:
        await site.node({"main.js": ""})
    assert "install Node.js" in caught.value.hint
