"""`kasbah exec`, as people use it: through the gateway, into a real replica, with real terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import KASBAH, Site, eventually, probe, resident_bytes
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from kasbah.api.owner import load_or_make

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def visited(site: Site) -> str:
    """A service that sleeps soon."""
    folder: Path = probe(site.home / "visited", {"visited": {"sleep": {"freeze_after": "1s", "stop_after": "never"}}})
    site.deploy(folder)
    return "visited"


def exec_(site: Site, name: str, *command: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; `given` is piped to it."""
    return subprocess.run(
        [str(KASBAH), "exec", name, "--", *command],
        input=b"" if given is None else given,
        capture_output=True,
        env=site.env,
        timeout=60,
        check=False,
    )


@contextmanager
def running(site: Site, name: str, *command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command under way; it is killed at the end."""
    with subprocess.Popen(
        [str(KASBAH), "exec", name, "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=site.env,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def marked(mark: str) -> list[int]:
    """The processes outside of Kasbah's own that have this word among their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if mark.encode() in words and b"exec" not in words:
                found.append(int(folder.name))
    return found


def test_output_errors_and_status_are_the_commands(site: Site, probed: str) -> None:
    ran = exec_(site, probed, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.stdout, ran.stderr, ran.returncode) == (b"out\n", b"err\n", 7)
    assert exec_(site, probed, "sh", "-c", "kill -9 $$").returncode == 137
    missing = exec_(site, probed, "no-such-program")
    assert missing.returncode == 127
    assert b"command not found" in missing.stderr
    assert exec_(site, probed, "/etc/passwd").returncode == 126


def test_input_is_carried_whole_and_ends(site: Site, probed: str) -> None:
    given = os.urandom(3_000_000)
    ran = exec_(site, probed, "cat", given=given)
    assert ran.stdout == given
    assert ran.returncode == 0


def test_errors_say_what_is_wrong(site: Site, probed: str) -> None:
    assert "there is no service" in site.run("exec", "nobody", "--", "true").said
    no_command = site.run("exec", probed)
    assert no_command.code == 2
    assert "no command was given" in no_command.said
    other = site.run("exec", probed, "--replica", "rp-0000000000000000", "--", "true")
    assert other.code == 5
    assert "has no replica rp-0000000000000000" in other.said


def test_the_door_wants_a_ticket_for_this_and_upgrades_nothing_else(site: Site, probed: str) -> None:
    headers = {"authorization": f"Bearer {site.token}"}
    api = f"{site.api}/api/v1/services/{probed}"
    logs = httpx.post(f"{api}/log-door", headers=headers, json={}).json()
    commands = httpx.post(f"{api}/exec-door", headers=headers, json={"program": "true"}).json()
    host, _, port = site.gateway.rpartition(":")

    def opened(path: str, ticket: str) -> ClientConnection:
        return connect(
            f"ws://{logs['host']}{path}",
            sock=socket.create_connection((host, int(port))),
            additional_headers={"authorization": f"Bearer {ticket}"},
            proxy=None,
        )

    with opened(commands["path"], logs["ticket"]) as connection:
        said = connection.recv(timeout=10)
        assert isinstance(said, bytes)
        assert json.loads(said[1:])["error"]["message"] == "this ticket is for something else"
    with pytest.raises(InvalidStatus), opened(logs["path"], logs["ticket"]):
        pass


def test_what_nobody_reads_waits_at_its_source(site: Site, probed: str) -> None:
    agent = site.pid("agent")
    with running(site, probed, "cat", "/dev/zero") as process:
        assert process.stdout is not None
        left = 100 * 2**20
        before = resident_bytes(agent)
        while left > 0:
            left -= len(process.stdout.read1(2**20))
        assert resident_bytes(agent) - before < 30 * 2**20
        assert exec_(site, probed, "true").returncode == 0, "another command is not kept waiting"


def test_a_sleeper_wakes_stays_awake_and_sleeps_again(site: Site, visited: str) -> None:
    site.reaches(visited, "frozen")
    with running(site, visited, "sh", "-c", "echo here; cat") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"here\n"
        began = time.monotonic()

        def long_after() -> bool:
            assert site.describe(visited)["state"] == "running"
            return time.monotonic() - began > 2.5

        eventually(long_after, lambda: "time stood still")
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert b"waking it" in process.stderr.read()
    site.reaches(visited, "frozen")


def test_all_that_was_started_ends_with_the_caller(site: Site, probed: str) -> None:
    mark = f"mark-{os.getpid()}-caller"
    start = f"setsid sh -c 'sleep 600; : $0' {mark} & (env -i setsid sh -c 'sleep 600; : $0' {mark} &) ; echo on; cat"
    with running(site, probed, "sh", "-c", start, mark) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        eventually(lambda: len(marked(mark)) >= 3, lambda: f"only {marked(mark)} run")
        process.kill()
        process.wait()
        eventually(lambda: not marked(mark), lambda: f"{marked(mark)} were left")


def test_it_ends_with_its_replica(site: Site, probed: str) -> None:
    with running(site, probed, "sh", "-c", "echo on; sleep 600") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"on\n"
        (replica,) = [one["id"] for one in site.describe(probed)["replicas"] if one["state"] == "ready"]
        os.kill(site.process_of(replica), signal.SIGKILL)
        assert process.wait(20) == 1
        assert b"ended, and the command with it" in process.stderr.read()
    site.reaches(probed, "running")


@pytest.fixture
def debugger(site: Site) -> Iterator[dict[str, str]]:
    """Somebody who may run commands in what is labelled up to internal, and read its logs."""
    may = [word for act in ("service.exec", "service.logs", "service.read") for word in ("--action", act)]
    made = site.run("tokens", "create", "debugger", *may, "--project", "default", "--max-level", "internal")
    assert made.code == 0, made.said
    yield {**site.env, "KASBAH_TOKEN": made.out.strip()}
    site.run("tokens", "revoke", "debugger")


@pytest.mark.parametrize("by", ["token", "label"])
def test_who_may_no_more_is_sent_away(site: Site, debugger: dict[str, str], by: str) -> None:
    name = f"open-{by}"
    folder: Path = probe(site.home / name, {name: {"data": {"level": "internal"}}})
    site.deploy(folder)
    mark = f"mark-{os.getpid()}-{by}"
    into = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": debugger}
    shell = [str(KASBAH), "exec", name, "--", "sh", "-c", "echo on; sleep 600; : $0", mark]
    with (
        subprocess.Popen(shell, **into) as process,  # type: ignore[call-overload]
        subprocess.Popen([str(KASBAH), "logs", name, "-f"], **into) as reader,  # type: ignore[call-overload]
    ):
        try:
            assert process.stdout.readline() == b"on\n"
            assert reader.stdout.readline()
            if by == "token":
                assert site.run("tokens", "disable", "debugger").code == 0
            else:
                site.deploy(probe(folder, {name: {"data": {"level": "restricted"}, "env": {"NEW": "1"}}}))
            ended, said = process.wait(20), process.stderr.read()
            if by == "token":  # a label comes with a new revision, which may end the replica first
                assert (ended, b"not allowed any more" in said) == (4, True), said
            assert ended != 0
            eventually(lambda: not marked(mark), lambda: f"{marked(mark)} were left")
            assert reader.wait(20) == 4
            assert (b"switched off" if by == "token" else b"above") in reader.stderr.read()
        finally:
            process.kill()
            reader.kill()
    site.run("tokens", "enable", "debugger")
    site.run("delete", name, "--yes")


def test_what_is_sensitive_is_open_to_deployers(site: Site, tmp_path: Path) -> None:
    site.deploy(probe(site.home / "vault", {"vault": {"data": {"level": "sensitive"}, "access": "key"}}))
    assert exec_(site, "vault", "echo", "in").stdout == b"in\n"
    assert site.run("logs", "vault").code == 0
    stranger = tmp_path / "deployer.key"
    load_or_make(stranger, whose="deployer")
    for command, rest in (("exec", ("--", "true")), ("logs", ())):
        refused = site.run(command, "vault", "--deployer-key", stranger, *rest)
        assert refused.code == 4
        assert "the owner has not named its deployer" in refused.said
        assert "--deployer-key" in refused.said
    site.run("delete", "vault", "--yes")


def test_it_is_confined_as_its_replica_is(site: Site, probed: str) -> None:
    look = (
        "import os,json,sys\n"
        "def may(p):\n"
        "  try: os.listdir(p); return True\n"
        "  except OSError: return False\n"
        "s=dict(l.split(':',1) for l in open('/proc/self/status').read().splitlines())\n"
        "ns={n: os.readlink('/proc/self/ns/'+n) for n in ('pid','net','mnt','ipc','user')}\n"
        "kill=True\n"
        "try: os.kill(int(sys.argv[2]),0)\n"
        "except OSError: kill=False\n"
        "print(json.dumps({'ns':ns,'uid':os.getuid(),'caps':s['CapEff'].strip(),'seccomp':s['Seccomp'].strip(),"
        "'nnp':s['NoNewPrivs'].strip(),'runner':may(sys.argv[1]),'root':may('/root'),'kill':kill,'cwd':os.getcwd()}))"
    )
    runner = site.data_dir / "agent/runner"
    runner_pid = json.loads((runner / "runner.json").read_text())["pid"]
    ran = exec_(site, probed, "python3", "-c", look, str(runner), str(runner_pid))
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    replica = next(one["id"] for one in site.describe(probed)["replicas"] if one["state"] == "ready")
    pid = site.process_of(replica)
    theirs = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in ("pid", "net", "mnt", "ipc", "user")}
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert seen["ns"] == theirs
    assert seen["uid"] == int(status["Uid"].split()[0])
    assert (seen["caps"], seen["seccomp"], seen["nnp"]) == ("0" * 16, status["Seccomp"].strip(), "1")
    assert not (seen["runner"])
    assert not (seen["root"])
    assert not (seen["kill"])
    assert seen["cwd"].endswith(f"{replica}/app")


def test_a_terminal_is_one(site: Site, probed: str) -> None:
    pid, ours = pty.fork()
    if pid == 0:
        os.execve(KASBAH, [str(KASBAH), "exec", probed, "--", "sh"], site.env)
    said = b""

    def says(pattern: bytes) -> None:
        nonlocal said
        give_up = time.monotonic() + 30
        while not re.search(pattern, said):
            assert time.monotonic() < give_up, said
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 4096)

    def resize(rows: int, columns: int) -> None:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    says(rb"[$#] ")
    os.write(ours, b"test -t 0 && echo ter''minal\n")
    says(rb"terminal")
    resize(33, 77)
    os.write(ours, b"until stty size | grep '^33 77'; do :; done\n")
    says(rb"33 77\r")
    until_told = """sh -c 'trap "echo caught; exit 9" INT; echo wai""ting; while :; do sleep 0.1; done'; exit $?"""
    os.write(ours, until_told.encode() + b"\n")
    says(rb"waiting")
    os.write(ours, b"\x03")
    says(rb"\ncaught|\^Ccaught")
    give_up = time.monotonic() + 20
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        assert time.monotonic() < give_up, said
        if select.select([ours], [], [], 0.05)[0]:
            with suppress(OSError):
                said += os.read(ours, 4096)
    assert os.waitstatus_to_exitcode(ended[1]) == 9
    os.close(ours)


def test_it_ends_with_the_agent(site: Site, probed: str) -> None:
    mark = f"mark-{os.getpid()}-agent"
    with running(site, probed, "sh", "-c", "echo on; sleep 600; : $0", mark) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"on\n"
        assert marked(mark)
        runner = json.loads((site.data_dir / "agent/runner/runner.json").read_text())["pid"]
        os.kill(site.pid("agent"), signal.SIGKILL)
        eventually(lambda: not marked(mark), lambda: f"{marked(mark)} were left")
        assert process.wait(20) == 3
        assert b"was lost, and the command ended with it" in process.stderr.read()
        assert json.loads((site.data_dir / "agent/runner/runner.json").read_text())["pid"] == runner
    eventually(lambda: exec_(site, probed, "true").returncode == 0, lambda: "no command runs after the restart")
