"""The runner with real processes: what it gives a replica, what it keeps, and that it can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from site_runner import Site, site_in, state_of, until

from kasbah import proc
from kasbah.agent.paths import Paths
from kasbah.agent.runner.held import Held
from kasbah.agent.runner.journal import Journal
from kasbah.agent.runner.launch import ALREADY_RUNS, PROGRAM, _answers, layout_of, process_driver
from kasbah.agent.runner.layout import Layout
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.reaper import Reaper
from kasbah.agent.runner.records import RUNNING, Ending, Record, Records
from kasbah.agent.runner.sampling import Sampler
from kasbah.agent.runner.workdir import Workdir
from kasbah.domain.ids import ReplicaId
from kasbah.domain.revision import Resources
from kasbah.drivers.ports import Ports, is_free
from kasbah.errors import Denied, Invalid, KasbahError
from kasbah.settings import Limits

pytestmark = pytest.mark.real

A = ReplicaId("rp-a")
SLEEPS = ("/bin/sleep", "1000")

QUOTAS = ("cpu.cfs_quota_us", "cpu.max")

SERVES = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print('asked', self.path)
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
print('up')
server.serve_forever()
"""

LEAVES_A_DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve('/bin/sleep', ['sleep', '1000'], {} if sys.argv[1] == 'bare' else os.environ)
    os._exit(0)
os.wait()
print('up')
time.sleep(1000)
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        yield site


def test_the_runner_is_standard_library_only() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import kasbah.agent.runner.__main__;"
        "print('\\n'.join(name for name in sys.modules if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(PROGRAM.parents[3])], capture_output=True, text=True, check=True
    )
    foreign = {
        name for name in ran.stdout.split() if not name.startswith(("kasbah.agent.runner", "kasbah.agent.confine"))
    }
    assert foreign == {"__main__", "kasbah", "kasbah.agent", "kasbah.proc"}


async def test_the_runner_stands_alone(site: Site) -> None:
    pid = site.runner_pid
    assert os.getsid(pid) != os.getsid(0)
    files = {os.readlink(f"/proc/{pid}/fd/{name}") for name in ("0", "1", "2")}
    assert files == {os.devnull, str(site.paths.runner / "runner.log")}
    assert site.paths.runner_socket.stat().st_mode & 0o777 == 0o600


async def test_one_runner_per_data_folder(site: Site) -> None:
    before = site.runner_pid
    layout = layout_of(site.paths, site.limits)
    ran = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", str(PROGRAM), layout.to_json())
    assert await ran.wait() == ALREADY_RUNS
    await asyncio.gather(*(site.ensure() for _ in range(3)))
    assert site.runner_pid == before


async def test_agents_that_race_get_one_runner(site: Site) -> None:
    await site.kill_runner()
    await asyncio.gather(*(site.ensure() for _ in range(4)))
    others = [
        process.pid
        for process in proc.everyone()
        if str(site.paths.data_dir).encode() in _command_line(process.pid)
        and site.runner_pid not in (process.pid, process.parent)  # its seats
    ]
    assert not [one for one in others if proc.runs(one)]


async def test_a_replica_gets_its_environment_and_nothing_else(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SECRET", "do not tell")
    (site.source / "page.txt").write_text("content")
    lines = await site.run(
        A,
        "import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.listdir()]))",
        env={"GREETING": "salam"},
    )
    env, cwd, entries = json.loads(lines[0])
    private = site.paths.replicas / A
    env.pop("LC_CTYPE", None)  # Python's own
    assert env == {
        "PATH": "/usr/bin:/bin",
        "GREETING": "salam",
        "KASBAH_REPLICA": A,
        "KASBAH_SCRATCH": str(private),
        "HOME": str(private / "home"),
        "TMPDIR": str(private / "tmp"),
        "PWD": str(private / "app"),
    }
    assert cwd == str(private / "app")
    assert entries == ["page.txt"]


async def test_a_replica_has_clean_files_signals_and_session(site: Site) -> None:
    code = (
        "import os, signal, json;"
        "print(json.dumps([sorted(map(int, os.listdir('/proc/self/fd')))[:3], len(os.listdir('/proc/self/fd')),"
        "os.getsid(0) == os.getpid(), [s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN"
        " and s not in (signal.SIGPIPE, signal.SIGXFSZ)], os.umask(0)]))"
    )
    standard, count, leads, ignored, umask = json.loads((await site.run(A, code))[0])
    assert standard == [0, 1, 2]
    assert count == 4  # those, and the folder being listed
    assert leads
    assert ignored == []
    assert umask == 0o077


async def test_the_source_is_never_written_to(site: Site) -> None:
    (site.source / "app.db").write_text("shipped")
    (site.source / "pages").mkdir()
    (site.source / "pages" / "a.html").write_text("a")
    code = (
        "open('app.db', 'a').write(' and written'); open('pages/b.html', 'w').write('b');print(open('app.db').read())"
    )
    assert await site.run(A, code) == ["shipped and written"]
    assert (site.source / "app.db").read_text() == "shipped"
    assert [path.name for path in (site.source / "pages").iterdir()] == ["a.html"]
    await site.driver.forget(A)
    await until(lambda: not list(site.paths.replicas.iterdir()))


async def test_times_survive_the_copy(site: Site) -> None:
    page = site.source / "page.txt"
    page.write_text("old")
    os.utime(page, ns=(1_000_000_000, 2_000_000_001))
    assert await site.run(A, "import os; print(os.stat('page.txt').st_mtime_ns)") == ["2000000001"]


async def test_a_large_source_is_linked(site: Site) -> None:
    with (site.source / "weights.bin").open("wb") as file:
        file.truncate(40 * 2**20)
    (site.source / "lib").mkdir()
    (site.source / "lib" / "a.py").write_text("x = 1")
    code = (
        "import os, sys; sys.path.insert(0, '.'); import lib.a; open('lib/new', 'w').write('n');"
        "print(os.path.islink('weights.bin'), os.path.getsize('weights.bin'), lib.a.x)"
    )
    assert await site.run(A, code) == [f"True {40 * 2**20} 1"]
    assert not (site.source / "lib" / "new").exists()


async def test_installed_dependencies_are_linked(site: Site) -> None:
    (site.source / "node_modules" / "left-pad").mkdir(parents=True)
    (site.source / "node_modules" / "left-pad" / "index.js").write_text("module.exports = 1")
    code = "import os; print(os.path.islink('node_modules'), os.listdir('node_modules/left-pad'))"
    assert await site.run(A, code) == ["True ['index.js']"]


async def test_freezing_stops_every_process(site: Site) -> None:
    await site.python(A, LEAVES_A_DAEMON, "marked")
    await site.said(A, "up")
    leader = (await site.the(A)).pid
    assert leader is not None
    daemon = _daemon_of(site, A, leader)
    await site.driver.freeze(A)
    assert (state_of(leader), state_of(daemon)) == ("T", "T")
    await site.driver.thaw(A)
    await until(lambda: state_of(leader) != "T" and state_of(daemon) != "T")


@pytest.mark.parametrize("kind", ["marked", "bare"])
async def test_what_a_replica_left_running_ends_with_it(site: Site, kind: str) -> None:
    await site.python(A, LEAVES_A_DAEMON, kind)
    await site.said(A, "up")
    leader = (await site.the(A)).pid
    assert leader is not None
    daemon = _daemon_of(site, A, leader)
    await site.driver.stop(A, drain=timedelta(seconds=20))
    assert (await site.ended(A)).signal == "SIGTERM"
    assert not proc.runs(daemon)


async def test_that_a_replica_answers_nobody_is_told_before_its_end(site: Site) -> None:
    pid = (await site.start(A, *SLEEPS)).pid
    assert pid is not None
    told: list[str] = []
    site.driver.on_ending = lambda replica: told.append(f"ending {replica}")
    events = await site.driver.events()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        told.append(f"ended {await anext(events)}")
    assert told == [f"ending {A}", f"ended {A}"]


async def test_replicas_outlive_their_runner(site: Site) -> None:
    port = Ports().take()
    await site.python(A, SERVES, str(port), port=port)
    await site.said(A, "up")
    before = await site.the(A)
    pid = await _get(before.address, "/before")  # as it sees itself: in a pid namespace not as we do
    await site.kill_runner()
    assert await _get(before.address, "/alone") == pid
    await site.ensure()
    assert await site.the(A) == before
    assert await _get(before.address, "/adopted") == pid
    await site.said(A, "asked /alone")  # written while nobody read it
    await site.said(A, "asked /adopted")
    events = await site.driver.events()
    await site.driver.freeze(A)
    await site.driver.thaw(A)
    await site.driver.stop(A, drain=timedelta(seconds=20))
    async with asyncio.timeout(20):
        assert await anext(events) == A
    ending = await site.ended(A)
    assert (ending.code, ending.signal) == (None, None)
    assert "unknown" in ending.reason
    assert "asked /adopted" in ending.tail


async def test_a_frozen_replica_stays_frozen_without_its_runner(site: Site) -> None:
    pid = (await site.start(A, *SLEEPS)).pid
    assert pid is not None
    await site.driver.freeze(A)
    await site.kill_runner()
    await site.ensure()
    assert (await site.the(A)).frozen
    assert state_of(pid) == "T"
    await site.driver.thaw(A)
    await until(lambda: state_of(pid) != "T")


async def test_an_end_that_nobody_saw_is_told(site: Site) -> None:
    pid = (await site.start(A, *SLEEPS)).pid
    assert pid is not None
    await site.kill_runner()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not proc.runs(pid))
    events = await site.driver.events()
    async with asyncio.timeout(20):
        assert await anext(events) == A
    assert "unknown" in (await site.ended(A)).reason


async def test_a_stop_is_finished_by_the_next_runner(site: Site) -> None:
    await site.start(A, "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    await site.said(A, "up")
    await site.driver.stop(A, drain=timedelta(seconds=0.2))
    await site.kill_runner()
    assert (await site.ended(A)).reason


async def test_a_process_without_a_record_is_ended(site: Site) -> None:
    pid = (await site.start(A, *SLEEPS)).pid
    assert pid is not None
    await site.kill_runner()
    (site.paths.runner / f"{A}.replica").write_text("{ cut")
    await site.ensure()
    await until(lambda: not proc.runs(pid))
    assert await site.driver.list() == ()
    await until(lambda: not list(site.paths.replicas.iterdir()))


def test_a_record_survives_a_cut_at_any_step(tmp_path: Path) -> None:
    book = Records(tmp_path)
    old = Record(replica=A, service="sv", revision="rv", port=1, boot="b", started_at="")
    new = replace(old, pid=7, ending=Ending(code=1, tail=("last",)))
    book.save(old)
    (tmp_path / f"{A}.new").write_text('{"version": 1, "rep')  # cut while the new one was being written
    assert book.load() == [old]
    book.save(new)
    (tmp_path / f"{A}.replica").rename(tmp_path / f"{A}.new")  # cut between its two steps
    assert book.load() == [new]
    assert [path.name for path in tmp_path.iterdir()] == [f"{A}.replica"]


async def test_subscribers_survive_the_runner(site: Site) -> None:
    events = await site.driver.events()
    await site.start(A, "/bin/true")
    async with asyncio.timeout(20):
        assert await anext(events) == A
    await site.kill_runner()
    await site.start("rp-b", "/bin/true")
    async with asyncio.timeout(20):
        assert await anext(events) == "rp-b"


async def test_a_memory_limit_is_kept_and_named(site: Site) -> None:
    resources = Resources(memory=64 * 2**20)
    await site.python(A, "x = bytearray(256 * 2**20); import time; time.sleep(1000)", resources=resources)
    ending = await site.ended(A)
    assert ending.signal == "SIGKILL"
    assert "64Mi" in ending.reason


def test_without_control_groups_memory_is_sampled(tmp_path: Path) -> None:
    greedy = "x = bytearray(96 * 2**20); print('up', flush=True); import time; time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-c", greedy], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        held, sampler = _sampled(tmp_path, child.pid, limit=512 * 2**20)
        sampler.begin()
        assert child.poll() is None
        held.change(memory=32 * 2**20)
        sampler.begin()
        assert child.wait(20) == -signal.SIGKILL
        assert "its limit is 32Mi" in held.cause


def _sampled(tmp_path: Path, pid: int, *, limit: int) -> tuple[Held, Sampler]:
    """A held replica whose process is `pid`, and what looks at its memory."""
    layout = Layout(
        home=tmp_path,
        replicas=tmp_path,
        logs=tmp_path,
        volumes=tmp_path,
        socket=tmp_path / "s",
        log_file_bytes=1,
        log_files=1,
    )
    found = proc.look(pid)
    assert found is not None
    record = Record(
        replica=A, service="sv", revision="rv", port=1, boot="", started_at="", memory=limit, state=RUNNING, pid=pid
    )
    reactor = Reactor()
    held = Held(record, workdir=Workdir(tmp_path), log=Journal(tmp_path / "l", file_bytes=1, files=1), reactor=reactor)
    held.change(start_time=found.start_time)
    everyone = {A: held}
    reaper = Reaper(layout, reactor, held=everyone, book=Records(tmp_path), ended=lambda _replica: None)
    return held, Sampler(reactor, everyone, reaper)


async def test_a_processor_limit_is_set(site: Site) -> None:
    if "cpu-limit" not in (await site.driver.isolation()).mechanisms:
        pytest.skip("this machine's processor control group cannot be written")
    await site.start(A, *SLEEPS, resources=Resources(cpu=0.5))
    groups = _groups(site, A)
    assert groups
    quotas = [path.read_text() for group in groups for path in group.glob("cpu.*") if path.name in QUOTAS]
    assert any(text.split()[0] == "50000" for text in quotas)
    await site.driver.stop(A, drain=timedelta())
    await site.ended(A)
    await until(lambda: not any(group.exists() for group in groups))


@pytest.mark.parametrize(
    ("name", "text", "mode", "code", "words"),
    [
        ("plain", "#!/bin/sh\n", 0o644, "not_executable", "is not executable"),
        ("lost", "#!/opt/nowhere/python\n", 0o755, "bad_interpreter", "/opt/nowhere/python"),
        ("noise", "\x00\x01\x02", 0o755, "not_executable", "neither a program"),
    ],
)
async def test_a_program_that_cannot_run_says_why(
    site: Site, name: str, text: str, mode: int, code: str, words: str
) -> None:
    (site.source / name).write_text(text)
    (site.source / name).chmod(mode)
    with pytest.raises(Invalid, match=words) as refused:
        await site.start(A, f"./{name}")
    assert refused.value.code == code
    assert await site.driver.list() == ()
    assert not list(site.paths.runner.glob(f"{A}.*"))
    await until(lambda: not list(site.paths.replicas.iterdir()))


async def test_a_missing_folder_is_named(site: Site) -> None:
    gone = site.source / "gone"
    with pytest.raises(Invalid, match=str(gone)):
        await site.start(A, *SLEEPS, readable=(gone,))


async def test_a_flood_of_lines_is_bounded(tmp_path: Path) -> None:
    limits = Limits(log_file_bytes=64 * 1024, log_files=3)
    async with site_in(tmp_path, limits) as site:
        lines = await site.run(A, "for i in range(20_000): print(i, 'x' * 60)")
        assert lines[-1].startswith("19999 ")
        files = list((site.paths.logs / "sv-a").iterdir())
        assert {path.name for path in files} == {"rp-a.log", "rp-a.log.1", "rp-a.log.2"}
        assert all(path.stat().st_size <= limits.log_file_bytes for path in files)


async def test_a_caller_needs_the_token(site: Site) -> None:
    (site.paths.runner / "stolen").write_text("guess")
    stranger = process_driver(site.paths)
    stranger._token = site.paths.runner / "stolen"
    with pytest.raises(Denied):
        await stranger.list()
    await stranger.close()


async def test_noise_on_the_socket_harms_nobody(site: Site) -> None:
    reader, writer = await asyncio.open_unix_connection(site.paths.runner_socket)
    writer.write(b'not json\n{"id": 7, "op": "list"}\n[]\n\xff\xfe\n')
    async with asyncio.timeout(20):
        answers = [json.loads(await reader.readline()) for _ in range(4)]
    assert [answer["error"]["code"] for answer in answers] == ["invalid", "denied", "invalid", "invalid"]
    writer.close()
    assert await site.driver.list() == ()


async def test_an_id_that_is_no_name_is_refused(site: Site) -> None:
    with pytest.raises(KasbahError):
        await site.start("../escape", *SLEEPS)


async def test_shutdown_leaves_nothing(site: Site) -> None:
    first = (await site.start(A, *SLEEPS)).pid
    second = (await site.start("rp-b", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.02; done")).pid
    runner = site.runner_pid
    await site.driver.shutdown(drain=timedelta(seconds=0.1))
    await until(lambda: not proc.runs(runner))
    assert first is not None
    assert second is not None
    assert not proc.runs(first)
    assert not proc.runs(second)


async def test_terminating_the_runner_ends_its_replicas(site: Site) -> None:
    pid = (await site.start(A, *SLEEPS)).pid
    assert pid is not None
    runner = site.runner_pid
    os.kill(runner, signal.SIGTERM)
    await until(lambda: not proc.runs(runner))
    assert not proc.runs(pid)


def test_ports_are_not_handed_out_twice() -> None:
    ports = Ports()
    taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", taken[0]))
        busy.listen()
        assert not is_free(taken[0])


def _daemon_of(site: Site, replica: str, leader: int) -> int:
    """The process a replica left in a session of its own: it sleeps in the replica's folder."""
    folder = str(site.paths.replicas / replica / "app")
    return next(
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != leader and _cwd(int(name)) == folder and b"sleep" in _command_line(int(name))
    )


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _groups(site: Site, replica: str) -> list[Path]:
    record = json.loads((site.paths.runner / f"{replica}.replica").read_text())
    return [Path(group) for group in record["groups"]]


async def _get(address: str, path: str) -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer.decode().split("\r\n\r\n", 1)[1]


@pytest.mark.parametrize("killed", [False, True])
def test_a_socket_that_only_a_fork_of_a_dead_runner_has_open_is_no_runner(tmp_path: Path, killed: bool) -> None:
    layout = layout_of(Paths(tmp_path / "data"))
    layout.socket.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", LISTENS, str(layout.socket)], stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        fork = int(runner.stdout.readline())
        try:
            if killed:
                runner.kill()
                runner.wait()
            assert asyncio.run(_answers(layout)) is not killed
        finally:
            os.kill(fork, signal.SIGKILL)
            runner.kill()


LISTENS = """
import os, socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
if (fork := os.fork()):
    print(fork, flush=True)
time.sleep(1000)
"""
