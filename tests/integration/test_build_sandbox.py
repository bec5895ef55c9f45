"""What a source brings along runs while it is built, and is anybody's code: it reads, changes, sees and ends nothing
that is not its own, and what it leaves behind misleads nobody."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from building import BUILDER, Site, attack, left_behind, make_site, mechanisms, tools_of
from ordinary_user import as_ordinary_user

from kasbah.agent.build.sandbox import NOT_CONFINED, Sandbox, main
from kasbah.agent.confine import LANDLOCK, MOUNTS, OWN_PROCESSES, SIGNAL_SCOPE, measure, system
from kasbah.domain.revision import Runtime
from kasbah.errors import BuildFailed, Invalid

pytestmark = pytest.mark.real

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
as_root = pytest.mark.skipif(BUILDER is None, reason="only root can make users")
SECRET = "what the neighbour knows"


def needs(*names: str) -> pytest.MarkDecorator:
    missing = set(names) - set(mechanisms())
    return pytest.mark.skipif(bool(missing), reason=f"{missing} are missing on this machine")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


def tries(words: str, target: object) -> dict[str, str | Path]:
    """A source whose build command tries this with `it`, and writes down how that went."""
    return attack(f"""
        import os, pathlib, shutil
        it = pathlib.Path({str(target)!r})
        try:
            {words}
            said = "done"
        except OSError as error:
            said = type(error).__name__
        pathlib.Path("said").write_text(said)
    """)


async def said(site: Site, source: dict[str, str | Path]) -> str:
    built = await site.python(source)
    return (built.app / "said").read_text()


@needs(LANDLOCK)
async def test_it_reads_nothing_of_the_site(site: Site) -> None:
    await site.python({"main.py": SECRET}, name="rv-2")
    kept = site.paths.volumes / "sv-2" / "data" / "rows"
    key = site.paths.data_dir / "owner.key"
    kept.parent.mkdir(parents=True)
    for file in (kept, key):
        file.write_text(SECRET)
        file.chmod(0o644)
    targets = [kept, key, site.folder("rv-2") / "app" / "main.py", *site.paths.blobs.rglob("*")]
    assert len(targets) > 3
    source = attack(f"""
        import json, os
        read = []
        for path in {[str(one) for one in targets]!r}:
            try:
                open(path, 'rb').read()
                read.append(path)
            except OSError:
                pass
        json.dump([read, open('main.py').read()], open('said', 'w'))
    """)
    assert json.loads(await said(site, source)) == [[], ""]


@needs(LANDLOCK)
@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("it.write_text('{}')", "build.json"),
        ("it.write_text('evil==1')", "requirements.lock"),
        ("it.write_text('1 1')", "building"),
        ("it.rename(it.with_name('gone'))", "app"),
        ("it.rename(it.with_name('gone'))", "env"),
        ("it.symlink_to('/')", "more"),
    ],
)
async def test_it_changes_nothing_beside_its_own(site: Site, words: str, target: str) -> None:
    assert await said(site, tries(words, site.folder() / target)) != "done"
    assert set(left_behind(site)) >= {"rv-1/build.json", "rv-1/app/main.py", "rv-1/env/bin/python"}


@as_root
async def test_it_has_a_user_of_its_own_and_leaves_the_site_s(site: Site) -> None:
    code = "open('said', 'w').write(f'{os.getresuid()} {os.getgroups()} {pwd.getpwuid(os.getuid()).pw_name}')"
    built = await site.python(attack(f"import os, pwd\n{code}\nos.chmod('said', 0o6777)"))
    assert (built.app / "said").read_text() == f"{(BUILDER,) * 3} [] app"
    owners = {path.lstat().st_uid for path in site.paths.builds.rglob("*")}
    assert owners == {os.getuid()}
    assert (built.app / "said").stat().st_mode & 0o6000 == 0


@needs(OWN_PROCESSES, SIGNAL_SCOPE)
async def test_it_sees_and_ends_no_process_of_others(site: Site) -> None:
    source = attack(f"""
        import json, os
        seen = [name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())]
        ended = []
        for pid in {[os.getpid(), os.getppid()]}:
            try:
                os.kill(pid, 0)
                ended.append(pid)
            except OSError:
                pass
        own = [name for name in seen if os.path.exists(f'/proc/{{name}}/cwd')]
        json.dump([len(seen) <= 2, ended], open('said', 'w'))
    """)
    assert json.loads(await said(site, source)) == [True, []]


@needs(OWN_PROCESSES)
async def test_what_it_leaves_behind_ends_with_it(site: Site) -> None:
    """However far it went: twice forked, in a session of its own."""
    code = """
        import os, subprocess
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "600"])
            os._exit(0)
        os.wait()
    """
    await site.python(attack(code))
    assert tools_of(site) == []


@needs(MOUNTS)
async def test_it_reaches_no_socket_of_the_site(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        path = site.paths.sockets / "door.sock"
        listening.bind(str(path))
        path.chmod(0o777)
        listening.listen()
        words = "__import__('socket').socket(__import__('socket').AF_UNIX).connect(str(it))"
        assert await said(site, tries(words, path)) != "done"


async def test_a_build_backend_is_confined_too(site: Site) -> None:
    """What runs is in a package that is installed, not in a command."""
    secret = site.paths.data_dir / "owner.key"
    secret.write_text(SECRET)
    backend = f"stolen = open({str(secret)!r}).read()\nraise SystemExit(stolen)"
    project = '[project]\nname = "a"\nversion = "1"\n[build-system]\nrequires = []\n'
    project += 'build-backend = "backend"\nbackend-path = ["."]\n'
    with pytest.raises(BuildFailed) as caught:
        await site.python({"backend.py": backend, "pyproject.toml": project, "main.py": ""})
    assert SECRET not in site.log.read_text()
    assert any("Error" in line for line in caught.value.tail)


async def test_caches_are_of_one_kind(site: Site) -> None:
    """What a build leaves in its cache is there for the next of its kind, and for no other."""
    source = attack(f"""
        import json, os
        found = []
        for name in ("pj-1.1.00000000", "pj-1.3.00000000", "pj-2.3.00000000"):
            folder = os.path.join({str(site.paths.cache)!r}, name)
            try:
                open(os.path.join(folder, "left-by-" + os.environ["WHO"]), "w").close()
                found.append([name, sorted(one for one in os.listdir(folder) if one.startswith("left"))])
            except OSError:
                pass
        json.dump(found, open("said", "w"))
    """)
    told = {}
    for who, cache in (
        ("a", "pj-1.1.00000000"),
        ("b", "pj-1.3.00000000"),
        ("c", "pj-1.3.00000000"),
        ("d", "pj-2.3.00000000"),
    ):
        files = {**source, "pyproject.toml": f"[tool.kasbah]\nbuild = 'WHO={who} python attack.py'\n"}
        revision = await site.revision(files, ("python", "main.py"), Runtime.PYTHON, f"rv-{who}")
        built = await site.build(revision, cache)
        told[who] = json.loads((built.app / "said").read_text())
    assert told == {
        "a": [["pj-1.1.00000000", ["left-by-a"]]],
        "b": [["pj-1.3.00000000", ["left-by-b"]]],
        "c": [["pj-1.3.00000000", ["left-by-b", "left-by-c"]]],
        "d": [["pj-2.3.00000000", ["left-by-d"]]],
    }


async def test_a_cache_s_name_is_no_path(site: Site) -> None:
    revision = await site.revision({"main.py": ""}, ("python", "main.py"), Runtime.PYTHON)
    with pytest.raises(Invalid):
        await site.build(revision, "../blobs.3.00000000")


# -- what it leaves behind is looked at as it stands


@needs_npm
async def test_a_lock_that_is_a_link_is_not_followed(site: Site) -> None:
    """The versions resolved are kept and given to the next build of the same source: a link would carry a secret."""
    secret = site.paths.data_dir / "owner.key"
    secret.write_text(SECRET)
    links = f"rm -f package-lock.json && ln -s {secret} package-lock.json"
    package = {"name": "a", "version": "1.0.0", "scripts": {"postinstall": links}}
    files: dict[str, str | Path] = {"package.json": json.dumps(package), "main.js": ""}
    with pytest.raises(BuildFailed, match=r"package-lock\.json is not a file of this build"):
        await site.node(files)
    kept = site.folder() / "package-lock.json"
    assert not kept.exists() or SECRET not in kept.read_text()


@needs_npm
async def test_modules_that_are_a_link_are_refused(site: Site) -> None:
    with pytest.raises(BuildFailed, match="made a link of node_modules"):
        await site.node(linked_modules(site, "node_modules"))
    assert (site.paths.data_dir / "elsewhere" / "current").readlink() == Path("v1")


@needs_npm
async def test_a_scope_of_modules_that_is_a_link_changes_nothing_elsewhere(site: Site) -> None:
    await site.node(linked_modules(site, "node_modules/@scope"))
    assert (site.paths.data_dir / "elsewhere" / "current").readlink() == Path("v1")


def linked_modules(site: Site, place: str) -> dict[str, str | Path]:
    """A source that puts a link in the place of modules, to where a link of the site's lies."""
    elsewhere = site.paths.data_dir / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "current").symlink_to("v1")
    links = f"rm -rf {place} && mkdir -p $(dirname {place}) && ln -s {elsewhere} {place}"
    return {"package.json": json.dumps({"name": "a", "scripts": {"postinstall": links}}), "main.js": ""}


async def test_an_interpreter_that_is_a_link_elsewhere_opens_nothing(site: Site) -> None:
    """Replicas may read where their interpreter lives, as it was when the environment was made."""
    code = "p = os.environ['VIRTUAL_ENV'] + '/bin/python'\nos.unlink(p)\nos.symlink('/etc/a/b/python', p)"
    source = attack(f"import os\n{code}")
    built = await site.python(source, "/bin/true")
    assert not any(str(path).startswith("/etc") for path in built.readable)


@pytest.mark.parametrize("wanted", ["/bin/sh", "./evil", "evil/bin/python"])
async def test_a_version_of_python_is_no_path(site: Site, wanted: str) -> None:
    project = f'[project]\nname = "a"\nversion = "1"\nrequires-python = "{wanted}"\n'
    with pytest.raises(BuildFailed, match="names no versions"):
        await site.python({"pyproject.toml": project, "main.py": ""})


async def test_a_version_of_python_is_nothing_of_the_source_s(site: Site) -> None:
    """Without a slash it could still name a folder in the source, whose interpreter would be asked who it is."""
    project = '[project]\nname = "a"\nversion = "1"\nrequires-python = "evil"\n'
    witness = site.paths.data_dir / "witness"
    files: dict[str, str | Path] = {"pyproject.toml": project, "evil/bin/python": f"#!/bin/sh\ntouch {witness}\n"}
    source = site.paths.data_dir / "sources" / "rv-1"
    (source / "evil" / "bin").mkdir(parents=True)
    (source / "evil" / "bin" / "python").touch(mode=0o755)
    with pytest.raises(BuildFailed, match="needs Python evil"):
        await site.python(files)
    assert not witness.exists()


# -- settings of the site


async def test_private_files_that_settings_name_are_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for an index are the site's, and what fetches from it needs them."""
    folder = site.paths.data_dir / "closed"
    folder.mkdir(mode=0o700)
    (folder / "netrc").write_text("machine index.example")
    (folder / "netrc").chmod(0o600)
    wheels = folder / "wheels"
    wheels.mkdir(mode=0o755)
    (wheels / "here").write_text("")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("PIP_FIND_LINKS", f"https://x/y file://{wheels}")
    code = f"""
        import json, os
        json.dump([open(os.environ['NETRC']).read(), os.listdir({str(wheels)!r})], open('said', 'w'))
    """
    assert json.loads(await said(site, attack(code))) == ["machine index.example", ["here"]]


def test_what_cannot_be_confined_does_not_run(tmp_path: Path) -> None:
    """What worked when the runner began, and does not now, ends the build: it never goes on without."""
    sandbox = Sandbox(mechanisms=mechanisms(), user=BUILDER)
    nowhere, witness = tmp_path / "nowhere", tmp_path / "witness"
    command = sandbox.command(
        ["/bin/touch", str(witness)], cwd=tmp_path, private=nowhere, writable=[tmp_path], readable=[]
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == NOT_CONFINED
    assert "the build could not be confined" in done.stderr
    assert not witness.exists()


def test_a_tool_s_end_is_told_as_it_was(tmp_path: Path) -> None:
    sandbox = Sandbox(mechanisms=mechanisms(), user=BUILDER)
    (tmp_path / "tmp").mkdir()
    for script, code in (("exit 7", 7), ("kill -TERM $$", -15), ("kill -KILL $$", -9)):
        command = sandbox.command(["/bin/sh", "-c", script], cwd=Path("/"), private=tmp_path, writable=[], readable=[])
        assert subprocess.run(command, timeout=60, check=False).returncode == code, script


def test_without_root_a_tool_is_kept_apart_too() -> None:
    """By user namespaces and Landlock, where the machine has them: it writes to its own and reads nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        private, data, own = (Path(folder) / name for name in ("private", "data", "own"))
        script = f"cat {data}/key > {own}/found 2>/dev/null; echo $$ > {own}/pid; exit 3"

        def work() -> object:
            system.interpreter = tuple  # it may lie where only root goes, and no tool here needs it
            for made in (private / "tmp", data, own):
                made.mkdir(parents=True)
            (data / "key").write_text(SECRET)
            works = measure(private).mechanisms
            sandbox = Sandbox(mechanisms=works, hidden=(data,))
            command = ["/bin/sh", "-c", script]
            *_, plan = sandbox.command(command, cwd=own, private=private, writable=[own], readable=[])
            code = main([plan])
            return [list(works), code, (own / "found").read_text(), (own / "pid").read_text().strip()]

        told = as_ordinary_user(work)
        assert isinstance(told, list), told
        works, code, found, pid = told
        assert code == 3
        assert found == "" or LANDLOCK not in works
        assert pid == "2" or OWN_PROCESSES not in works
