"""Who runs commands in one replica attacks the others and the agent; and what becomes of a command when Kasbah ends.

Each attack is a line of Python that must fail inside. The same line is run outside, by root and on the same targets,
where it must succeed: an attack that cannot succeed shows nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import KASBAH, Site, app, eventually, installation

from kasbah import proc
from kasbah.agent.confine import programs
from kasbah.agent.confine.kernel import number
from kasbah.agent.paths import Paths

pytestmark = pytest.mark.real

PTRACE_SEIZE = 0x4206
DOWN_SECONDS = 40.0
FILE = """
services:
  {name}:
    source: .
    command: python3 -m http.server $PORT --bind 127.0.0.1
    runtime: command
    access: public
    data: {{level: public}}
    env: {{WHISPER: what-nobody-hears}}
    volumes: [{{name: data, path: data, size: 8Mi}}]
    sleep: {{freeze_after: never, stop_after: never}}
    rollout: {{watch: 0s}}
"""
ATTACKS = """
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def read(path, wanted=''):
    if wanted.encode() not in open(path, 'rb').read() or not os.path.getsize(path) and not wanted:
        raise OSError(0, 'something else')
def memory(pid):
    start = int(open(f'/proc/{pid}/maps').readline().split('-')[0], 16)
    with open(f'/proc/{pid}/mem', 'rb') as file:
        file.seek(start)
        file.read(16)
def unix(path):
    socket.socket(socket.AF_UNIX).connect(path)
def tcp(host, port):
    socket.create_connection((host, port), 3).close()
def seize(pid):
    if libc.syscall(SYSCALL, REQUEST, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def attempt(line):
    try:
        exec(line)
    except OSError as error:
        return error.strerror or str(error)
    return 'DONE'
SYSCALL, REQUEST = int(sys.argv[1]), int(sys.argv[2])
print(json.dumps([attempt(line) for line in sys.argv[3:]]))
"""


def deployed(site: Site, name: str, folder: Path) -> str:
    """A small service with a volume; its replica."""
    site.deploy(app(folder, FILE.format(name=name), notes__txt="private"))
    (replica,) = [one["id"] for one in site.describe(name)["replicas"] if one["state"] == "ready"]
    return str(replica)


def attack(*before: str | Path, lines: tuple[str, ...], env: dict[str, str]) -> list[str]:
    """What became of each line, run by this command."""
    command = [*map(str, before), "-c", ATTACKS, str(number("ptrace")), str(PTRACE_SEIZE), *lines]
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout))


@pytest.mark.root
@pytest.mark.skipif(bool(programs.absent()), reason="install iproute2 and nftables")
def test_others_and_the_agent_are_out_of_reach(site: Site, tmp_path: Path) -> None:
    deployed(site, "attacker", tmp_path / "attacker")
    victim = deployed(site, "victim", tmp_path / "victim")
    pid, paths = site.process_of(victim), Paths(site.data_dir)
    (volume,) = paths.volumes.glob(f"{site.describe('victim')['id']}/data")
    (volume / "kept").write_text("private")
    api_host, _, api_port = site.api.rpartition("/")[2].rpartition(":")
    sockets = sorted(one for one in paths.sockets.iterdir() if one.is_socket())
    assert {paths.door_socket, paths.gate_socket, paths.runner_socket, paths.xds_socket} <= set(sockets)
    lines = (
        f"seize({pid})",
        f"os.kill({pid}, 0)",
        f"memory({pid})",
        f"read('/proc/{pid}/environ', 'what-nobody-hears')",
        f"os.listdir('/proc/{pid}/cwd')",
        f"read({str(paths.replicas / victim / 'app' / 'notes.txt')!r}, 'private')",
        f"read({str(volume / 'kept')!r}, 'private')",
        f"os.listdir({str(volume)!r})",
        f"read({str(site.data_dir / 'admin.token')!r})",
        f"read({str(paths.ledger / 'desired.json')!r})",
        f"tcp({api_host!r}, {api_port})",
        *(f"unix({str(one)!r})" for one in sockets),
    )
    inside = attack(KASBAH, "exec", "attacker", "--", "python3", lines=lines, env=site.env)
    outside = attack(sys.executable, lines=lines, env=site.env)
    assert outside == ["DONE"] * len(lines), dict(zip(lines, outside, strict=True))
    assert "DONE" not in inside, dict(zip(lines, inside, strict=True))
    assert site.get("victim", "/notes.txt").text == "private"


def marked(mark: str) -> list[int]:
    """The processes that have this word among their arguments, but for the one that asked for them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words and b"exec" not in words and proc.runs(int(folder.name)):
            found.append(int(folder.name))
    return found


def test_what_runs_in_a_replica_ends_when_kasbah_does(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-down"
    stays = f"trap '' TERM HUP INT; (setsid sh -c 'sleep 600; : $0' {mark} &) ; echo on; sleep 600; : $0"
    with installation(tmp_path) as own:
        deployed(own, "visited", tmp_path / "visited")
        with own.popen("exec", "visited", "--", "sh", "-c", stays, mark) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "on\n"
            eventually(lambda: len(marked(mark)) >= 2, lambda: f"only {marked(mark)} run")
            began = time.monotonic()
            ended = own.down()
            assert ended.code == 0, ended.said
            assert time.monotonic() - began < DOWN_SECONDS
            _, said = client.communicate(timeout=10)
        assert client.returncode in (1, 3)
        assert "the command ended with it" in said or "the command with it" in said, said
        assert "Traceback" not in said
        assert marked(mark) == []
        assert own.processes() == {}
