"""An outside for own networks to call: a network namespace beyond this machine, with addresses that answer.

The routes to it are this machine's, so there is one at a time: who comes second waits.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "kasbah-tests-outside.lock"
ADDRESS, METADATA, OTHER = "198.51.100.7", "169.254.169.254", "198.51.100.8"
PORT, OTHER_PORT = 8123, 8124
FIRST, SECOND, ON_OTHER_PORT = f"{ADDRESS}:{PORT}", f"{OTHER}:{PORT}", f"{ADDRESS}:{OTHER_PORT}"

ANSWERS = """
import selectors, socket, sys
listeners = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    listeners.register(socket.create_server(('0.0.0.0', port)), selectors.EVENT_READ)
print('up', flush=True)
while True:
    for key, _ in listeners.select():
        peer, (host, _) = key.fileobj.accept()
        peer.sendall(host.encode())
        peer.close()
"""


@contextmanager
def outside() -> Iterator[None]:
    """Each address answers a connection to either port with the caller's address."""
    with LOCK.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of with the file, and with the process; the test's deadline bounds it
        with _alone():
            yield


@contextmanager
def _alone() -> Iterator[None]:
    name, device = f"kasbah-outside-{os.getpid()}", f"kout{os.getpid()}"[:15]
    _ip(f"netns add {name}")
    try:
        _ip(f"link add {device} type veth peer name eth0 netns {name}")
        try:
            _furnish(name, device)
            with _answering(name):
                yield
        finally:
            _ip(f"link del {device}")  # at once: with its namespace it would go some time later, and the name with it
    finally:
        _ip(f"netns del {name}")


def _furnish(name: str, device: str) -> None:
    _ip(f"addr add 198.51.100.1/24 dev {device}", f"link set {device} up")
    _ip(f"route add {METADATA} dev {device}")
    inside = [f"addr add {address}/{bits} dev eth0" for address, bits in ((ADDRESS, 24), (OTHER, 24), (METADATA, 32))]
    for command in (*inside, "link set lo up", "link set eth0 up", "route add default via 198.51.100.1"):
        _ip(f"-n {name} {command}")


@contextmanager
def _answering(name: str) -> Iterator[None]:
    server = [sys.executable, "-I", "-S", "-c", ANSWERS, str(PORT), str(OTHER_PORT)]
    with subprocess.Popen(["ip", "netns", "exec", name, *server], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.kill()


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
