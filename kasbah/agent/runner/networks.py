"""Own networks: makes namespaces, and changes what a replica may call.

Both are done by helpers: forks that do one thing and end, so that the runner never waits for `ip` or `nft`. A
namespace comes as an open file over a socket, and lives as long as the processes in it.

Own users and networks go by the same slot (see `claims.py`).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kasbah.agent.confine import network, programs
from kasbah.agent.confine.kernel import StepFailed
from kasbah.agent.confine.network import Rule, Rules, Street
from kasbah.agent.runner.claims import Claim
from kasbah.agent.runner.reactor import Reactor

MOST_AT_ONCE = 16
HELPER_SECONDS = 20
GIVES_WAY = 10
"""How nice (see nice(2)) a helper is that makes what nobody waits for: it is set going by a wake, and would take the
processor from the very app that wakes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A namespace: the file it is entered by (None: it is the machine's own), and the address it is asked at."""

    slot: int
    address: str
    file: int | None


@dataclass(slots=True, kw_only=True)
class Batch:
    """A helper that makes namespaces for these slots, who is told, and what it has said."""

    slots: set[int]
    news: socket.socket
    then: Callable[[Network], object]
    done: Callable[[str], None]
    problem: str = ""


@dataclass(slots=True)
class Networks:
    """The own networks of one runner's replicas. `adopt_helper` is told each helper's pid."""

    street: Street
    reactor: Reactor
    claim: Claim
    adopt_helper: Callable[[int], object]
    _batch: Batch | None = None

    def make(
        self, count: int, *, waited_for: bool, then: Callable[[Network], object], done: Callable[[str], None]
    ) -> None:
        """Make so many, at most MOST_AT_ONCE: `then` is told of each, and in the end `done`, with the reason where
        some are missing. While some are being made already, does nothing: ask again when those are done."""
        if self._batch is not None:
            return
        slots: set[int] = set()
        try:
            slots.update(self.claim.take() for _ in range(min(count, MOST_AT_ONCE)))
        except OSError as error:
            if not slots:
                done(str(error))
                return
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._batch = batch = Batch(slots=slots, news=here, then=then, done=done)
        owner = os.getpid()
        gives_way = 0 if waited_for else GIVES_WAY
        self._help(lambda: _make(self.street, slots, owner, there, gives_way), news=there.fileno())
        there.close()
        self.reactor.watch(here.fileno(), lambda _events: self._hear(batch))

    def permit(self, slot: int, before: Rules, allowed: tuple[Rule, ...], then: Callable[[str], None]) -> None:
        """Let a resident call these only; `then` is told "" once that is in force, else why it is not."""
        self._change(network.permit(self.street, slot, before, allowed), then)

    def supply(self, indexes: Iterable[tuple[str, int]], then: Callable[[str], None]) -> None:
        """Let builds that may call package indexes only find them there; `then` as with `permit`."""
        self._change(network.supply(self.street, indexes), then)

    def _change(self, text: str, then: Callable[[str], None]) -> None:
        """Have nft do this."""
        reader, writer = os.pipe()
        self._help(lambda: _apply(text, writer), news=writer)
        os.close(writer)
        said = bytearray()

        def hear(_events: int) -> None:
            if part := os.read(reader, 4096):
                said.extend(part)
                return
            self.reactor.unwatch(reader)
            os.close(reader)
            then("" if said == DONE else said.decode(errors="replace") or "nft did not come to an end")

        self.reactor.watch(reader, hear)

    def lead_to(self, host: str, port: int) -> None:
        """Lead those who call the gateway to where it listens."""
        text = network.lead_to(self.street, host, port)
        self._help(lambda: programs.nft(text), news=2)

    def give_back(self, slot: int, allowed: Rules) -> None:
        """The replica of a slot is gone: so are its rules, and then the slot is free."""
        text = network.evict(self.street, slot, allowed)
        self._help(lambda: programs.nft(text), news=2)
        self.claim.give_back(slot)

    def _hear(self, batch: Batch) -> None:
        """Take in a namespace; at the end of the helper, what it did not make is free again."""
        data, files, _, _ = socket.recv_fds(batch.news, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if files:
            slot = int(data)
            batch.slots.discard(slot)
            batch.then(Network(slot=slot, address=self.street.address(slot), file=files[0]))
            return
        if data:
            batch.problem = data.decode(errors="replace")
            return
        self.reactor.unwatch(batch.news.fileno())
        batch.news.close()
        self._batch = None
        for slot in batch.slots:
            self.claim.give_back(slot)
        missing = batch.problem or f"it was not made within {HELPER_SECONDS} s"
        batch.done(f"own networks: {missing}" if batch.slots else "")

    def _help(self, work: Callable[[], None], *, news: int) -> None:
        """Do `work` in a fork of ours, which writes why it failed to `news`."""
        child = os.fork()
        if child == 0:
            _be_helper(work, news)
        self.adopt_helper(child)


DONE = b"done"


def _be_helper(work: Callable[[], None], news: int) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(HELPER_SECONDS)
        os.closerange(3, news)
        os.closerange(max(news, 2) + 1, os.sysconf("SC_OPEN_MAX"))
        work()
    except (StepFailed, OSError) as error:
        os.write(news, str(error).encode())
    finally:
        os._exit(0)


def _make(street: Street, slots: set[int], owner: int, news: socket.socket, gives_way: int) -> None:
    os.nice(gives_way)
    for slot, file in network.make(street, sorted(slots), owner).items():
        socket.send_fds(news, [str(slot).encode()], [file])


def _apply(text: str, news: int) -> None:
    programs.nft(text)
    os.write(news, DONE)
