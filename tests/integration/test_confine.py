"""What a replica cannot do, tried from inside one; and what strangers' programs must still be able to do there.

Each attack is a line of Python that must fail inside; where a wrong line would fail as well, it is first run outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from site_runner import Site, site_in

from kasbah.agent import confine
from kasbah.agent.confine import seccomp, system
from kasbah.agent.confine.kernel import ARCHITECTURE, NUMBERS
from kasbah.domain.ids import ReplicaId
from kasbah.drivers.ports import Ports

pytestmark = pytest.mark.real

A, B = ReplicaId("rp-a"), ReplicaId("rp-b")

TRY = """
import ctypes, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def read(path):
    return open(path, 'rb').read(100)
def listing(path):
    # Folders on the way to its own may be there, in its own /tmp, and empty otherwise.
    if set(os.listdir(path)) <= {'agent'}:
        raise FileNotFoundError(2, 'nothing of others')
def write(path):
    open(path, 'a').write('x')
def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)
def raw(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def attempt(line):
    try:
        exec(line)
    except OSError as error:
        return error.strerror
    return 'DONE'
print(json.dumps([attempt(line) for line in sys.argv[1:]]))
"""


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """A site, below /var/tmp unless the test says otherwise."""
    folder = getattr(request, "param", "/var/tmp")
    with tempfile.TemporaryDirectory(dir=folder, prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            yield site


below_its_own_tmp_and_elsewhere = pytest.mark.parametrize("site", ["/tmp", "/var/tmp"], indirect=True)
"""A replica's /tmp is its own, so what stands below the machine's is seen another way."""


async def tried(site: Site, *lines: str, replica: str = A) -> list[str]:
    """What became of each line inside a replica."""
    return list(json.loads((await site.run(replica, TRY, *lines))[-1]))


async def outcome(site: Site, line: str) -> str:
    return (await tried(site, line))[0]


async def need(site: Site, *mechanisms: str) -> None:
    """Skip, by name, where this machine lacks a mechanism: then `doctor` says that it is missing."""
    isolation = await site.driver.isolation()
    for name in mechanisms:
        if name not in isolation.mechanisms:
            pytest.skip(f"{name} is not in force here: {dict(isolation.missing)[name]}")


@below_its_own_tmp_and_elsewhere
async def test_secrets_and_neighbours_cannot_be_read(site: Site) -> None:
    await need(site, confine.LANDLOCK)
    token = site.paths.data_dir / "admin.token"
    token.write_text("secret")
    desired = site.paths.ledger / "desired.json"
    desired.write_text("{}")
    key = site.source.parent / "home" / ".ssh" / "id_ed25519"
    key.parent.mkdir(parents=True)
    key.write_text("private")
    await site.start(B, "/bin/sleep", "1000")
    neighbour = site.paths.replicas / B / "app" / "notes.txt"
    neighbour.write_text("private")
    secrets = [token, desired, key, neighbour, site.paths.runner / "token", site.paths.runner / f"{B}.replica"]
    lines = [f"read({str(path)!r})" for path in secrets]
    assert subprocess_tries(lines) == ["DONE"] * len(lines)
    assert "DONE" not in await tried(site, *lines)
    folders = [site.paths.data_dir, site.paths.ledger, site.paths.runner, key.parent, Path.home(), Path("/")]
    for folder, said in zip(
        folders, await tried(site, *(f"listing({str(one)!r})" for one in folders), replica="rp-c"), strict=True
    ):
        assert said != "DONE", folder


@below_its_own_tmp_and_elsewhere
async def test_nothing_outside_is_written_to(site: Site) -> None:
    await need(site, confine.LANDLOCK)
    outside = site.source.parent / "outside"
    outside.mkdir()
    (site.source / "app.py").write_text("1")
    targets = [outside / "new", site.source / "app.py", site.source / "new", site.paths.logs / "new", Path("/etc/new")]
    targets += [Path("/usr/new"), Path(sys.prefix) / "new"]
    said = await tried(site, *(f"write({str(path)!r})" for path in targets))
    assert "DONE" not in said
    assert (site.source / "app.py").read_text() == "1"
    assert not any(path.exists() for path in targets if path.name == "new")


async def test_nobody_else_is_signalled_or_traced(site: Site) -> None:
    await need(site, confine.SIGNAL_SCOPE, confine.SECCOMP)
    neighbour = (await site.start(B, "/bin/sleep", "1000")).pid
    for pid in (site.runner_pid, os.getpid(), neighbour):
        said = await tried(
            site,
            f"os.kill({pid}, 0)",
            f"read('/proc/{pid}/environ')",
            f"read('/proc/{pid}/mem')",
            f"os.readlink('/proc/{pid}/fd/0')",
            f"os.listdir('/proc/{pid}/root/')",
            f"os.listdir('/proc/{pid}/cwd/')",
            f"import resource; resource.prlimit({pid}, resource.RLIMIT_NOFILE, (8, 8))",
            f"raw({NUMBERS['ptrace'][column()]}, 16, {pid}, 0, 0)",
            replica=f"rp-{pid}",
        )
        assert "DONE" not in said, said


@below_its_own_tmp_and_elsewhere
async def test_the_sockets_of_the_agent_and_the_machine_cannot_be_reached(site: Site) -> None:
    await need(site, confine.MOUNTS)
    line = f"connect({str(site.paths.runner_socket)!r})"
    assert subprocess_tries([line]) == ["DONE"]
    assert await outcome(site, line) != "DONE"
    assert await site.run(B, "import os; print(os.path.exists('/run/docker.sock'), os.path.isdir('/run'))") == [
        "False True"
    ]


async def test_abstract_sockets_stay_outside(site: Site) -> None:
    await need(site, confine.SIGNAL_SCOPE)
    name = f"kasbah-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        line = f"connect('\\0{name}')"
        assert subprocess_tries([line]) == ["DONE"]
        assert await outcome(site, line) != "DONE"


async def test_the_kernel_refuses_what_attacks_begin_with(site: Site) -> None:
    await need(site, confine.SECCOMP)
    refused = await tried(
        site,
        *(f"raw({NUMBERS[name][column()]}, 0, 0, 0, 0, 0)" for name in ("unshare", "mount", "bpf", "keyctl", "setns")),
        "os.fork() if libc.unshare(0x10000000) == 0 else raw(-1)",
    )
    assert "DONE" not in refused
    missing = await tried(site, *(f"raw({NUMBERS[name][column()]}, 0, 0)" for name in seccomp.UNKNOWN), replica=B)
    assert set(missing) == {os.strerror(38)}


async def test_root_is_not_root_inside(site: Site) -> None:
    await need(site, confine.CAPABILITIES, confine.NO_NEW_PRIVILEGES)
    code = (
        "print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNewPrivs', 'Seccomp:'))))"
    )
    *capabilities, no_new, filtered = (await site.run(A, code))[0].split()
    assert {int(one, 16) for one in capabilities[: 4 if os.getuid() == 0 else 3]} == {0}
    assert no_new == "1"
    assert filtered == "2"


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root owns what others may not read")
async def test_root_s_private_files_stay_private(site: Site) -> None:
    await need(site, confine.LANDLOCK)
    said = await tried(site, "read('/etc/shadow')", "read('/etc/passwd')", "os.listdir('/etc')", "read('/etc/hosts')")
    assert said[0] != "DONE"
    assert said[1:] == ["DONE"] * 3


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root owns what others may not read")
def test_private_parts_of_a_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "open" / "deep").mkdir(parents=True)
    (tmp_path / "open" / "file").write_text("")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "public").write_text("")
    (tmp_path / "mixed" / "secret").write_text("")
    (tmp_path / "closed").mkdir()
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    (tmp_path / "mixed" / "secret").chmod(0o600)
    (tmp_path / "closed").chmod(0o700)
    parts = system.private_parts_left_out(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in parts} == {"open", "mixed/public"}


@below_its_own_tmp_and_elsewhere
async def test_temporary_files_are_its_own(site: Site) -> None:
    await need(site, confine.MOUNTS, confine.LANDLOCK)
    code = (
        "import os, tempfile; from multiprocessing import Lock, shared_memory; Lock();"
        "m = shared_memory.SharedMemory(create=True, size=100); open('/tmp/mine', 'w').write('x');"
        "print(sorted(os.listdir('/dev/shm')) == [m.name], tempfile.gettempdir() == os.environ['TMPDIR'],"
        "os.path.exists(os.environ['TMPDIR'] + '/mine')); m.unlink()"
    )
    assert await site.run(A, code) == ["True True True"]
    assert not Path("/tmp/mine").exists()


async def test_programs_that_fork_and_thread_run(site: Site) -> None:
    code = (
        "import subprocess, threading, concurrent.futures as f, multiprocessing as m, socket, asyncio;"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join();"
        "print(subprocess.run(['sh', '-c', 'echo shell | cat'], capture_output=True, text=True).stdout.strip());"
        "print(list(f.ProcessPoolExecutor(2, m.get_context('fork')).map(abs, [-1])));"
        "print(asyncio.run(asyncio.to_thread(lambda: 'loop')));"
        "open('/dev/stdout', 'w').write('opened\\n'); print(socket.gethostbyname('localhost'))"
    )
    assert set(await site.run(A, code)) == {"thread", "shell", "[1]", "loop", "opened", "127.0.0.1"}


async def test_uvicorn_serves_inside(site: Site) -> None:
    (site.source / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'salam'})\n"
    )
    port = Ports().take()
    argv = (sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), "--workers", "1")
    running = await site.start(A, *argv, port=port, readable=(Path(sys.prefix),))
    await answers(running.address, "salam")


async def test_node_serves_inside(site: Site) -> None:
    if shutil.which("node", path="/usr/bin:/bin") is None:
        pytest.skip("node is not installed")
    (site.source / "index.js").write_text(
        "require('http').createServer((q, a) => a.end('salam ' + require('os').cpus().length))"
        ".listen(+process.env.PORT, '127.0.0.1')"
    )
    port = Ports().take()
    running = await site.start(A, "node", "index.js", env={"PORT": str(port)}, port=port)
    await answers(running.address, "salam")


async def test_npm_runs_inside(site: Site) -> None:
    if shutil.which("npm", path="/usr/bin:/bin") is None:
        pytest.skip("npm is not installed")
    (site.source / "package.json").write_text('{"name": "x", "scripts": {"start": "echo started"}}')
    await site.start(A, "npm", "start", "--silent")
    assert (await site.ended(A)).code == 0
    assert await site.lines(A) == ["started"]


async def test_a_compiled_program_runs_inside(site: Site) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler is installed")
    source = '#include <stdio.h>\nint main(void) { puts("compiled"); return 7; }\n'
    output = str(site.source / "server")
    build = [compiler, "-x", "c", "-", "-o", output]
    await asyncio.to_thread(subprocess.run, build, input=source, text=True, check=True)
    await site.start(A, "./server")
    assert (await site.ended(A)).code == 7
    assert await site.lines(A) == ["compiled"]


def test_a_mechanism_that_breaks_fails_the_start(tmp_path: Path) -> None:
    """Measured once, needed always: where it stops working, replicas stop starting."""
    facts = confine.measure(tmp_path)
    if confine.LANDLOCK not in facts.mechanisms:
        pytest.skip("Landlock is not in force here")
    confinement = confine.Confiner(facts).prepare(private=tmp_path, readable=(), pipes=())
    for file in confinement.files:
        os.close(file)
    child = os.fork()
    if child == 0:
        try:
            confinement.enter()
        except OSError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.skipif(ARCHITECTURE is None, reason="no numbers are known for this machine")
def test_every_refused_call_has_a_number() -> None:
    assert set(seccomp.REFUSED) | set(seccomp.UNKNOWN) | seccomp.NOT_FILTERED == set(NUMBERS)
    known = [number[column()] for number in NUMBERS.values() if number[column()] is not None]
    assert len(set(known)) == len(known)


def column() -> int:
    assert ARCHITECTURE is not None
    return ARCHITECTURE.column


def subprocess_tries(lines: list[str]) -> list[str]:
    """The same lines outside: they must work there, or failing inside shows nothing."""
    ran = subprocess.run([sys.executable, "-c", TRY, *lines], capture_output=True, text=True, check=True)
    return list(json.loads(ran.stdout))


async def answers(address: str, text: str) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            body = (await reader.read()).decode().split("\r\n\r\n", 1)[1]
            writer.close()
            assert body.startswith(text)
            return
