"""Replicas without a network of their own that may call nothing: every way out is tried from inside, and what an app
needs to be called still works."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from ordinary_user import as_ordinary_user
from site_runner import Site, site_in
from visitor import Caller, begin, session, stays

from kasbah.agent import confine
from kasbah.agent.confine import landlock, privileges, programs, seccomp
from kasbah.agent.runner import launch
from kasbah.agent.visits import carry
from kasbah.api import visits as wire
from kasbah.domain.ids import ReplicaId
from kasbah.domain.site import CLOSABLE
from kasbah.errors import KasbahError

pytestmark = pytest.mark.real

A, B = ReplicaId("rp-a"), ReplicaId("rp-b")
MPTCP, SCTP, FAST_OPEN, FAST_OPEN_CONNECT, SMC = 262, 132, 0x2000_0000, 30, 43


def missing() -> str:
    """Why an ordinary user cannot close a replica's network here; "" where he can."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as folder:
        Path(folder).chmod(0o777)
        facts = as_ordinary_user(lambda: dict(confine.measure(Path(folder)).missing))
    return str(facts.get(confine.CLOSED_NETWORK, ""))


needed = pytest.mark.skipif(bool(missing()), reason=f"closed-network is not in force here: {missing()}")


# --- the ways out -----------------------------------------------------------------------------------------------------


def connect(address: tuple[str, int]) -> None:
    socket.create_connection(address, 5).close()


def connect_later(address: tuple[str, int]) -> None:
    with socket.socket() as caller:
        caller.setblocking(False)
        if (error := caller.connect_ex(address)) not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))


def send_at_once(address: tuple[str, int]) -> None:
    with socket.socket() as caller:
        caller.sendto(b"x", FAST_OPEN, address)


def send_a_message_at_once(address: tuple[str, int]) -> None:
    with socket.socket() as caller:
        caller.sendmsg([b"x"], [], FAST_OPEN, address)


def connect_when_sending(address: tuple[str, int]) -> None:
    with socket.socket() as caller:
        caller.setsockopt(socket.IPPROTO_TCP, FAST_OPEN_CONNECT, 1)
        caller.connect(address)
        caller.send(b"x")


def made(*kind: int) -> Callable[[tuple[str, int]], None]:
    return lambda _address: socket.socket(*kind).close()


WAYS: dict[str, Callable[[tuple[str, int]], None]] = {
    "a connection": connect,
    "a connection that is not waited for": connect_later,
    "fast open": send_at_once,
    "fast open by a message": send_a_message_at_once,
    "fast open by an option": connect_when_sending,
    "a datagram": made(socket.AF_INET, socket.SOCK_DGRAM),
    "a datagram by IPv6": made(socket.AF_INET6, socket.SOCK_DGRAM),
    "a datagram that does not block": made(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
    "a ping": made(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    "raw packets": made(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "multipath TCP": made(socket.AF_INET, socket.SOCK_STREAM, MPTCP),
    "SCTP": made(socket.AF_INET, socket.SOCK_STREAM, SCTP),
    "SMC": made(SMC, socket.SOCK_STREAM),
    "the hypervisor": made(socket.AF_VSOCK, socket.SOCK_STREAM),
    "frames": made(socket.AF_PACKET, socket.SOCK_DGRAM),
    "the kernel's crypto": made(socket.AF_ALG, socket.SOCK_SEQPACKET),
}


def tried(address: tuple[str, int]) -> dict[str, str]:
    """By way, the name of the error; "" where there was none."""
    found = {}
    for name, way in WAYS.items():
        try:
            way(address)
            found[name] = ""
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, "?")
    return found


def close_off() -> None:
    privileges.forbid_new()
    landlock.close_off()
    seccomp.Filter(seccomp.closed_program()).enter()


@needed
def test_no_way_leads_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        address = listening.getsockname()

        def inside() -> object:
            close_off()
            return tried(address)

        open_ways = {name for name, error in as_ordinary_user(lambda: tried(address)).items() if not error}
        assert {"a connection", "a connection that is not waited for", "a datagram"} <= open_ways, "the ways are real"
        closed = as_ordinary_user(inside)
    assert {name: closed[name] for name in closed if closed[name] not in ("EACCES", "EPERM")} == {}


@needed
def test_what_an_app_needs_to_be_called_goes_on() -> None:
    def inside() -> object:
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as caller:
            caller.connect(listening.getsockname())  # as the gateway does, from outside
            served = socket.create_server(("127.0.0.1", 0))
            close_off()
            with listening.accept()[0] as answering, socket.create_server(("127.0.0.1", 0)) as another:
                answering.sendmsg([b"hel", b"lo"])
                answering.shutdown(socket.SHUT_WR)
                heard = caller.makefile("rb").read().decode()
                one, other = socket.socketpair()
                one.send(b"x")
                with socket.socket(socket.AF_UNIX), served:
                    return [heard, other.recv(1).decode(), another.getsockname()[1] > 0, len(socket.if_nameindex()) > 0]

    assert as_ordinary_user(inside) == ["hello", "x", True, True]


# --- a real replica ---------------------------------------------------------------------------------------------------

WITHOUT_NETWORKS = """
import ctypes, runpy, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
for program in {programs!r}:
    assert libc.mount(b"/dev/null", program.encode(), None, 0x1000, None) == 0
runpy.run_path({real!r}, run_name="__main__")
"""
"""A runner on a machine that has no programs to make networks with."""

CALLS = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
    print('reached')
except OSError as error:
    print(error.strerror)
"""

SERVES = """
import os, socket
with socket.create_server(("127.0.0.1", int(os.environ["WHERE"]))) as listening:
    print("up")
    with listening.accept()[0] as caller:
        caller.sendall(b"hello")
print("answered")
"""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    found = [path for name in (programs.IP, programs.NFT) for path in Path("/").glob(f"usr/sbin/{name}")]
    found += [path for path in (Path("/usr/bin/ip"), Path("/sbin/ip"), Path("/bin/ip")) if path.exists()]
    real = {str(path.resolve()) for path in found}
    if os.getuid() == 0 and real:
        wrapper = tmp_path / "runner.py"
        wrapper.write_text(WITHOUT_NETWORKS.format(programs=sorted(real), real=str(launch.PROGRAM)))
        monkeypatch.setattr(launch, "PROGRAM", wrapper)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            isolation = await site.driver.isolation()
            if isolation.egress != CLOSABLE:
                pytest.skip(f"replicas' calls are {isolation.egress} here: {dict(isolation.missing)}")
            yield site


async def test_a_replica_that_may_call_nothing_reaches_nothing(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        assert await site.run(A, CALLS, port) == ["reached"]
        assert await site.run(B, CALLS, port, egress=()) == ["Permission denied"]


async def test_it_is_still_called(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await site.python(A, SERVES, env={"WHERE": str(port)}, egress=())
    await site.said(A, "up")
    with socket.create_connection(("127.0.0.1", port), 5) as caller:
        assert caller.makefile("rb").read() == b"hello"
    assert (await site.ended(A)).code == 0


async def test_what_names_something_is_refused_where_only_everything_can_be_closed(site: Site) -> None:
    with pytest.raises(KasbahError, match="cannot be limited here"):
        await site.python(A, CALLS, "1", egress=("192.0.2.1",))


async def test_a_new_runner_knows_what_it_may_call(site: Site) -> None:
    await site.python(A, "import time; time.sleep(1000)", egress=())
    await site.kill_runner()
    await site.ensure()
    assert (await site.the(A)).egress == ()


async def test_a_command_in_it_reaches_nothing_either(site: Site) -> None:
    await site.python(A, "print('up')\nimport time; time.sleep(1000)", egress=())
    await site.said(A, "up")
    caller, venv = Caller(), (Path(sys.prefix),)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        visit, ends = await begin(site, sys.executable, "-c", CALLS, port, readable=venv)
        await carry(session(visit, ends, caller), 30, stays())
    visit.close()
    ends.close()
    assert (wire.OUTPUT, b"Permission denied\n") in caller.heard
