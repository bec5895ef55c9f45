"""What root makes possible: users, processes and networks of replicas' own. Code inside a replica attacks the rest.

Each attack is a line of Python that must fail inside. The same line is run outside, by root and on the same targets,
where it must succeed: an attack that cannot succeed shows nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import outside
import pytest
from site_runner import Site, site_in, until

from kasbah import proc
from kasbah.agent import confine
from kasbah.agent.confine import pids, programs
from kasbah.agent.confine.kernel import number
from kasbah.agent.confine.mounts import NEW_MOUNTS
from kasbah.agent.confine.network import FORWARDING, GUARD, NEW_NETWORK, RANGES, SIZE, Street
from kasbah.agent.runner import claims
from kasbah.agent.runner.launch import layout_of
from kasbah.agent.teardown import teardown
from kasbah.domain.ids import ReplicaId
from kasbah.drivers.interface import Running
from kasbah.settings import Limits

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root gives replicas users, processes and networks of their own"),
    pytest.mark.skipif(bool(programs.absent()), reason="install iproute2 and nftables"),
]

A, B = ReplicaId("rp-a"), ReplicaId("rp-b")
PORT = 8080
PTRACE_SEIZE = 0x4206

ATTACKS = """
import ctypes, json, os, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def read(path):
    if not open(path, 'rb').read(100):
        raise OSError(0, 'empty')
def memory(pid):
    # The first readable page of the process, as a debugger would read it.
    start = int(open(f'/proc/{pid}/maps').readline().split('-')[0], 16)
    with open(f'/proc/{pid}/mem', 'rb') as file:
        file.seek(start)
        file.read(16)
def listing(path):
    # Folders on the way to its own are there, and nothing else in them.
    if set(os.listdir(path)) <= set(OWN_FOLDERS):
        raise FileNotFoundError(2, 'nothing of others')
def write(path):
    open(path, 'a').write('x')
def unix(path):
    socket.socket(socket.AF_UNIX).connect(path)
def tcp(host, port):
    socket.create_connection((host, port), 3).close()
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def attempt(line):
    try:
        exec(line)
    except OSError as error:
        return error.strerror or str(error)
    return 'DONE'
OWN_FOLDERS = json.loads(sys.argv[1])
print(json.dumps([attempt(line) for line in sys.argv[2:]]))
"""

SERVES = """
import os, socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen()
print('up')
while True:
    peer, _ = listener.accept()
    peer.sendall(b'salam')
    peer.close()
"""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            isolation = await site.driver.isolation()
            for name in (confine.OWN_USER, confine.OWN_PROCESSES, confine.OWN_NETWORK):
                assert name in isolation.mechanisms, isolation.missing
            yield site


async def serving(site: Site, replica: str = B, host: str = "127.0.0.1", port: int = PORT) -> Running:
    """A replica that listens where its programmer wrote it to, and has a secret in its environment."""
    running = await site.python(replica, SERVES, host, str(port), port=port, env={"SECRET": "s3cret"})
    await site.said(replica, "up")
    return running


async def both(site: Site, *lines: str, replica: str = A) -> tuple[list[str], list[str]]:
    """What became of the lines inside a replica, and outside as root."""
    own = [
        part for path in (site.paths.replicas / replica, Path(sys.prefix), Path(sys.base_prefix)) for part in path.parts
    ]
    inside = await site.run(replica, ATTACKS, json.dumps(own), *lines)
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ATTACKS, "[]", *lines, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await ran.communicate()
    return json.loads(inside[-1]), json.loads(said)


async def held_off(site: Site, *lines: str, replica: str = A) -> None:
    """Every line fails inside and succeeds outside."""
    inside, control = await both(site, *lines, replica=replica)
    assert control == ["DONE"] * len(lines), dict(zip(lines, control, strict=True))
    assert "DONE" not in inside, dict(zip(lines, inside, strict=True))


async def reached(address: str) -> str:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(host, int(port))
        said = await reader.read()
        writer.close()
    return said.decode()


async def test_each_replica_is_a_user_that_the_machine_does_not_know(site: Site) -> None:
    code = "import os, pwd; print(*os.getresuid(), *os.getresgid(), os.getgroups(), pwd.getpwuid(os.getuid()).pw_dir)"
    first, second = [await site.run(replica, code) for replica in (A, B)]
    numbers = {line.split()[0] for line in (first[0], second[0])}
    assert len(numbers) == 2
    for line in (first[0], second[0]):
        words = line.split()
        assert len(set(words[:6])) == 1
        assert words[6] == "[]"
        with pytest.raises(KeyError):
            pwd.getpwuid(int(words[0]))
    assert first[0].split()[7] == str(site.paths.replicas / A / "home")


async def test_files_of_others_are_out_of_reach(site: Site) -> None:
    neighbour = await serving(site)
    token = site.paths.data_dir / "admin.token"
    token.write_text("secret")
    (site.paths.replicas / B / "app" / "notes.txt").write_text("private")
    home = Path.home() / f".kasbah-test-{os.getpid()}"
    home.write_text("private")
    try:
        await held_off(
            site,
            "read('/etc/shadow')",
            f"read({str(home)!r})",
            f"read({str(token)!r})",
            f"read({str(site.paths.runner / 'token')!r})",
            f"read({str(site.paths.runner / f'{B}.replica')!r})",
            f"read({str(site.paths.replicas / B / 'app' / 'notes.txt')!r})",
            *(
                f"listing({str(path)!r})"
                for path in (Path.home(), site.paths.data_dir, site.paths.replicas, Path("/root"))
            ),
            f"listing('/proc/{neighbour.pid}/root')",
            f"write({str(site.source / 'planted')!r})",
            f"write({str(site.paths.replicas / A / 'planted')!r})",
            "write('/etc/kasbah-test-planted')",
            "write('/usr/kasbah-test-planted')",
        )
    finally:
        for planted in (home, Path("/etc/kasbah-test-planted"), Path("/usr/kasbah-test-planted")):
            planted.unlink(missing_ok=True)


async def test_processes_of_others_are_out_of_reach(site: Site) -> None:
    pid = (await serving(site)).pid
    await held_off(
        site,
        f"os.kill({pid}, 0)",
        f"os.kill({site.runner_pid}, 0)",
        f"read('/proc/{pid}/environ')",
        f"memory({pid})",
        f"os.readlink('/proc/{pid}/fd/0')",
        f"os.sched_getaffinity({pid})",
        f"call({number('ptrace')}, {PTRACE_SEIZE}, {pid}, 0, 0)",
        f"call({number('unshare')}, {NEW_MOUNTS})",
        f"call({number('unshare')}, {pids.NEW_PIDS})",
        f"call({number('unshare')}, {NEW_NETWORK})",
    )
    seen = await site.run(
        "rp-c", "import os; print(*[name for name in os.listdir('/proc') if name.isdigit()], os.getpid())"
    )
    listed, own = seen[0].split()
    assert listed == own


async def test_init_cannot_be_harmed_from_inside(site: Site) -> None:
    code = """
import os, signal
for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
    try:
        os.kill(1, number)
    except PermissionError:
        print('refused')
for name in ('mem', 'environ', 'root/etc/shadow', 'cwd'):
    try:
        open('/proc/1/' + name)
    except OSError:
        print('refused')
"""
    assert await site.run(A, code) == ["refused"] * 7


async def test_neighbours_and_this_machine_cannot_be_called(site: Site) -> None:
    neighbour = await serving(site)
    host, port = neighbour.address.split(":")
    with socket.create_server(("0.0.0.0", 0)) as everywhere, socket.create_server(("127.0.0.1", 0)) as loopback:
        addresses = _addresses(_block(site))
        assert len(addresses) >= 2, "the two of its own veth pair, at the least"
        await held_off(
            site,
            f"tcp({host!r}, {port})",
            f"tcp('127.0.0.1', {loopback.getsockname()[1]})",
            *(f"tcp({name!r}, {everywhere.getsockname()[1]})" for name in addresses),
            f"unix({str(site.paths.runner_socket)!r})",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        )
    assert await reached(neighbour.address) == "salam"


async def test_only_root_of_this_machine_calls_a_replica(site: Site) -> None:
    host, port = (await serving(site)).address.split(":")
    call = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
    stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", call]
    assert (await _ran(*stranger))[0] != 0
    assert (await _ran("/usr/bin/python3", "-c", call))[0] == 0


async def test_the_outside_is_reached_and_link_local_addresses_are_not(site: Site) -> None:
    with outside.outside():
        metadata = f"tcp({outside.METADATA!r}, {outside.PORT})"
        public = f"tcp({outside.ADDRESS!r}, {outside.PORT})"
        inside, control = await both(site, metadata, public)
        assert control == ["DONE", "DONE"]
        assert inside[0] != "DONE"
        assert inside[1] == "DONE"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_wherever_an_app_listens_the_gateway_reaches_it(site: Site, host: str) -> None:
    running = await serving(site, host=host, port=80)
    assert await reached(running.address) == "salam"
    assert running.address.endswith(":80")


async def test_no_more_rights_by_programs_that_set_them(site: Site) -> None:
    program = site.source / "whoami"
    shutil.copy("/usr/bin/id", program)
    await site.start(B, "/bin/sleep", "1000")
    planted = site.paths.replicas / B / "app" / "whoami"
    planted.chmod(0o4755)
    os.chown(planted, 0, 0)
    planted.chmod(0o4755)
    outsider = site.source.parent / "whoami"
    shutil.copy("/usr/bin/id", outsider)
    outsider.chmod(0o4755)
    site.source.parent.chmod(0o755)
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(outsider), "-u")
    assert await _ran(*as_nobody) == (0, "0\n"), "outside the bit works"
    code = "import os, subprocess; print(os.getuid(), subprocess.run(['./whoami', '-u'], capture_output=True).stdout)"
    program.chmod(0o4755)
    said = (await site.run(A, code))[0].split()
    assert said[1] == f"b'{said[0]}\\n'"


async def test_a_fork_bomb_meets_its_limit(site: Site) -> None:
    code = """
import os, signal
children = []
try:
    while len(children) < 5000:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except BlockingIOError:
    pass
print(len(children))
"""
    count = int((await site.run(A, code))[0])
    assert 0.9 * confine.MOST_PROCESSES < count < confine.MOST_PROCESSES
    pid = (await site.the(A)).pid
    assert not [one for one in _in_namespaces(site) if one == pid]


async def test_nothing_outlives_a_replica(site: Site) -> None:
    """Not a process that forgot its environment, left its session and ignores what it can."""
    code = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        os.execve('/bin/sleep', ['sleep', '1000'], {})
    os._exit(0)
os.wait()
print('up')
time.sleep(1000)
"""
    running = await site.python(A, code)
    await site.said(A, "up")
    assert running.pid is not None
    namespace = pids.name_of(running.pid)
    assert len(_members(namespace)) >= 3, "its init, its program and what that left"
    await site.driver.stop(A, drain=timedelta(seconds=20))
    assert (await site.ended(A)).signal == "SIGTERM"
    assert not [pid for pid in _members(namespace) if proc.runs(pid)]


async def test_an_init_without_a_record_is_ended(site: Site) -> None:
    pid = (await site.start(A, "/bin/sleep", "1000")).pid
    assert pid is not None
    namespace = pids.name_of(pid)
    await site.kill_runner()
    (site.paths.runner / f"{A}.replica").unlink()
    await site.ensure()
    await until(lambda: not [one for one in _members(namespace) if proc.runs(one)])


async def test_an_adopted_replica_keeps_its_user_its_network_and_its_limits(site: Site) -> None:
    before = await serving(site)
    await site.kill_runner()
    await site.ensure()
    assert await site.the(B) == before
    assert await reached(before.address) == "salam"
    after = await serving(site, replica="rp-c")
    assert after.address != before.address
    host, port = before.address.split(":")
    await held_off(site, f"tcp({host!r}, {port})", f"os.kill({before.pid}, 0)")


async def test_two_installations_share_nothing(site: Site) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as second:
            other = await serving(second)
            host, port = other.address.split(":")
            await held_off(site, f"tcp({host!r}, {port})", f"os.kill({other.pid}, 0)")
            mine, theirs = (one.address.rpartition(".")[0] for one in (await serving(site), other))
            assert mine != theirs
        assert await reached((await site.the(B)).address) == "salam", "the other's end is not ours"


async def test_nothing_is_left_on_the_machine() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            await serving(site)
            block = _block(site)
            assert len(_traces(site, block)) > 3
            await site.kill_runner()
            await site.ensure()
            # What stood ready at the first runner is gone: only what lives and what stands ready now remains.
            await until(lambda: len(_devices(block)) == 1 + site.limits.ready_seats)
        await until(lambda: not _traces(site, block))
        _expect_no_forwarding()


async def test_what_a_killed_runner_left_is_cleared_by_the_teardown() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        site = Site(Path(root), Limits())
        await site.ensure()
        running = await serving(site)
        block = _block(site)
        assert running.pid is not None
        await site.kill_runner()
        os.kill(running.pid, signal.SIGKILL)
        assert _traces(site, block)
        await asyncio.to_thread(teardown, site.paths)
        await site.driver.close()
        await until(lambda: not _traces(site, block))
        _expect_no_forwarding()


async def _ran(*argv: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def _addresses(block: int) -> list[str]:
    """This machine's own, loopback apart; of installations only one's, as others come and go."""
    told = json.loads(programs.told(programs.IP, "-4", "-j", "addr"))
    lasting = [one for one in told if not one["ifname"].startswith("ksb") or one["ifname"].startswith(f"ksb{block}-")]
    found = {one["local"] for device in lasting for one in device.get("addr_info", ())}
    return sorted(one for one in found if not one.startswith("127."))


def _members(namespace: str) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and pids.name_of(int(name)) == namespace]


def _in_namespaces(site: Site) -> list[int]:
    ours = pids.name_of(os.getpid())
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and pids.name_of(int(name)) not in ("", ours)]


def _block(site: Site) -> int:
    """The block of users and addresses that the site's runner claimed."""
    return next(int(file.name) for file in claims.FOLDER.iterdir() if file.read_text() == str(site.paths.runner))


def _devices(block: int) -> list[str]:
    return [name for _, name in socket.if_nameindex() if name.startswith(f"ksb{block}-")]


def _traces(site: Site, block: int) -> list[str]:
    """What the machine shows of an installation that gives replicas networks."""
    tag = layout_of(site.paths).tag
    tables = [line for line in programs.told(programs.NFT, "list", "tables").splitlines() if tag in line]
    claimed = [file.name for file in claims.FOLDER.iterdir() if file.read_text() == str(site.paths.runner)]
    routes = programs.told(programs.IP, "-4", "route", "show", "type", "unreachable").splitlines()
    own = [line for line in routes if Street(block=block, base=RANGES[0][0] + block * SIZE, table="").network in line]
    return [*_devices(block), *tables, *claimed, *own]


def _expect_no_forwarding() -> None:
    """The last to leave turns it off. Others may be there, or come."""
    if not list(claims.FOLDER.iterdir()) and GUARD not in programs.told(programs.NFT, "list", "tables"):
        return
    assert FORWARDING.read_text().strip() == "1"
