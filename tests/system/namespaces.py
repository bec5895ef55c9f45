"""A network of network namespaces: each site is a machine of its own in it, and lines between them fail as told.

    site ns: eth0 (10.77.N.1, and more) ══ veth ══ hub ns, which forwards, drops and delays ══ veth ══ another site's

Needs root. What is lost is lost without a word, as on a line that is cut; nothing is refused. This kernel may have no
netem, so that what is delayed takes a way through a TUN device, whose other end holds each packet for so long:
connections are slow to be made, too, which a proxy for TCP could not do.

A thread enters a namespace, with every socket and process that it makes meanwhile; what others do is not touched.
Names carry the process that made them, so that what a killed run left behind is removed by the next.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "kasbah-test"
NEW_NETWORK = 0x4000_0000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MTU = 1_500
DETOUR = "100"
"""The routing table of packets that take the long way."""

RULES = """
table ip lines {
 set cut { type ipv4_addr . ipv4_addr
 }
 chain through { type filter hook forward priority 0
  ip saddr . ip daddr @cut drop
 }
}
"""
LIBC = ctypes.CDLL(None, use_errno=True)


class Network:
    """Namespaces by name. `addresses` are a site's, the first of them its device's."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        _remove_stale()
        self.addresses = addresses
        self._slow: _LongWay | None = None
        self._delayed: list[tuple[str, str]] = []
        try:
            self._make_hub()
            for number, (name, its) in enumerate(addresses.items()):
                self._join(number, name, its)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything; what still runs inside keeps its namespace until it ends."""
        if self._slow is not None:
            self._slow.close()
        for name in ("hub", *self.addresses):
            subprocess.run(["ip", "netns", "del", _full(name)], stderr=subprocess.DEVNULL, check=False)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread is in that namespace until the block ends."""
        with open("/proc/thread-self/ns/net") as before:
            with open(f"/run/netns/{_full(name)}") as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    # --- what becomes of the lines --------------------------------------------------------------------------------

    def lose(self, sender: str, receiver: str) -> None:
        """Nothing that one address sends arrives at the other. What it is sent does."""
        self._nft(f"add element ip lines cut {{ {sender} . {receiver} }}")

    def cut(self, some: tuple[str, ...], others: tuple[str, ...]) -> None:
        """Nothing passes between these addresses and those, either way."""
        for one in some:
            for other in others:
                self.lose(one, other)
                self.lose(other, one)

    def isolate(self, name: str) -> None:
        """Nothing passes between this site and any other."""
        others = tuple(one for site, its in self.addresses.items() if site != name for one in its)
        self.cut(self.addresses[name], others)

    def delay(self, sender: str, receiver: str, seconds: float) -> None:
        """What one sends the other takes so much longer. One delay for all that are delayed."""
        if self._slow is None:
            with self.inside("hub"):
                self._slow = _LongWay()
            self._ip("link", "set", "longway", "up")
            self._ip("route", "add", "default", "dev", "longway", "table", DETOUR)
        self._slow.seconds = seconds
        device = next(f"to-{site}" for site, its in self.addresses.items() if sender in its)
        self._ip("rule", "add", "from", sender, "to", receiver, "iif", device, "lookup", DETOUR)
        self._delayed.append((sender, receiver))

    def heal(self) -> None:
        """Everything arrives, at once."""
        self._nft("flush set ip lines cut")
        while self._delayed:
            sender, receiver = self._delayed.pop()
            self._ip("rule", "del", "from", sender, "to", receiver, "lookup", DETOUR)

    # --- how it is made -------------------------------------------------------------------------------------------

    def _make_hub(self) -> None:
        _run("ip", "netns", "add", _full("hub"))
        with self.inside("hub"):
            for setting in ("ip_forward=1", "conf/all/rp_filter=0", "conf/default/rp_filter=0"):
                path, _, value = setting.partition("=")
                _set(path, value)
        self._ip("link", "set", "lo", "up")
        self._nft(RULES)

    def _join(self, number: int, name: str, addresses: tuple[str, ...]) -> None:
        site, near, first = _full(name), f"to-{name}", addresses[0]
        router = f"10.77.{200 + number}.1"
        _run("ip", "netns", "add", site)
        self._ip("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", site)
        self._ip("addr", "add", f"{router}/32", "dev", near)
        self._ip("link", "set", near, "up")
        for one in addresses:
            self._ip("route", "add", f"{one}/32", "dev", near)
            _run("ip", "-n", site, "addr", "add", f"{one}/32", "dev", "eth0")
        for line in ("link set lo up", "link set eth0 up", f"route add {router}/32 dev eth0 src {first}",
                     f"route add default via {router} src {first}"):  # fmt: skip
            _run("ip", "-n", site, *line.split())

    def _ip(self, *arguments: str) -> None:
        _run("ip", "-n", _full("hub"), *arguments)

    def _nft(self, rules: str) -> None:
        _run("ip", "netns", "exec", _full("hub"), "nft", "-f", "-", said=rules.strip() + "\n")


class _LongWay:
    """A TUN device in this thread's namespace: what comes out of it goes in again `seconds` later."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._device, TUNSETIFF, struct.pack("16sH", b"longway", IFF_TUN | IFF_NO_PI))
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._more = threading.Condition()
        self._over = False
        for work in (self._take, self._give):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        with self._more:
            self._over = True
            self._more.notify_all()
        os.close(self._device)

    def _take(self) -> None:
        with suppress(OSError):
            while packet := os.read(self._device, 2 * MTU):
                with self._more:
                    self._under_way.append((time.monotonic() + self.seconds, packet))
                    self._more.notify_all()

    def _give(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._under_way or self._over)
                if self._over:
                    return
                due, packet = self._under_way.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                os.write(self._device, packet)


def _remove_stale() -> None:
    """Namespaces of processes that are gone."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        pid = path.name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            subprocess.run(["ip", "netns", "del", path.name], stderr=subprocess.DEVNULL, check=False)


def _full(name: str) -> str:
    return f"{PREFIX}-{os.getpid()}-{name}"


def _enter(namespace: int) -> None:
    if LIBC.setns(namespace, NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _set(path: str, value: str) -> None:
    (Path("/proc/sys/net/ipv4") / path).write_text(value)


def _run(*command: str, said: str = "") -> None:
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
