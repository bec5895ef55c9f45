"""Own networks, made ahead of need: a few namespaces stand ready, so that no wake waits for one to be made.

They are made, and rules changed, by helpers: forks that do one thing and end, so that the runner never waits for `ip`
or `nft`. A namespace comes as an open file over a socket. What is ready belongs to no replica, and is gone with the
runner; that of a replica lives as long as its processes.

Own users and networks go by the same slot (see `claims.py`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kasbah.agent.confine import network, programs
from kasbah.agent.confine.kernel import StepFailed
from kasbah.agent.confine.network import Rule, Rules, Street
from kasbah.agent.runner.claims import Claim
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.spawn import Failed

MOST_AT_ONCE = 16
HELPER_SECONDS = 20
REFILL_AFTER_SECONDS = 0.5
GIVES_WAY = 10
"""How nice (see nice(2)) a helper is that makes what nobody waits for: it is set going by a wake, and would take the
processor from the very app that wakes."""
HINT = "the runner's log says more; `kasbah doctor` looks at what is in force on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A namespace that is ready: the file it is entered by, and the address it is asked at."""

    slot: int
    address: str
    file: int


Taker = Callable[[Network | Failed], None]


@dataclass(slots=True, kw_only=True)
class Batch:
    """A helper that makes namespaces for these slots, and what it has said."""

    slots: set[int]
    news: socket.socket
    problem: str = ""


@dataclass(slots=True)
class Networks:
    """The own networks of one runner's replicas. `adopt_helper` is told each helper's pid."""

    street: Street
    ready_count: int
    reactor: Reactor
    claim: Claim
    adopt_helper: Callable[[int], object]
    _ready: deque[Network] = field(default_factory=deque)
    _takers: deque[Taker] = field(default_factory=deque)
    _batch: Batch | None = None

    def take(self, taker: Taker) -> None:
        """Give `taker` a namespace, now where one is ready, else once one is made, or why there is none."""
        if self._ready:
            taker(self._ready.popleft())
            # Not now: what wakes has the processor first.
            self.reactor.after(REFILL_AFTER_SECONDS, self.refill)
        else:
            self._takers.append(taker)
            self.refill()

    def refill(self) -> None:
        """Have as many ready as there should be, beside those that are waited for."""
        wanted = self.ready_count + len(self._takers) - len(self._ready)
        if self._batch is not None or wanted <= 0:
            return
        try:
            slots = {self.claim.take() for _ in range(min(wanted, MOST_AT_ONCE))}
        except OSError as error:
            self._refuse(str(error))
            return
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._batch = batch = Batch(slots=slots, news=here)
        owner = os.getpid()
        gives_way = 0 if self._takers else GIVES_WAY
        self._help(lambda: _make(self.street, slots, owner, there, gives_way), news=there.fileno())
        there.close()
        self.reactor.watch(here.fileno(), lambda _events: self._hear(batch))

    def permit(self, slot: int, before: Rules, allowed: tuple[Rule, ...], then: Callable[[str], None]) -> None:
        """Let a resident call these only; `then` is told "" once that is in force, else why it is not."""
        reader, writer = os.pipe()
        text = network.permit(self.street, slot, before, allowed)
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

    def close(self) -> None:
        """Let go of what is ready."""
        while self._ready:
            os.close(self._ready.popleft().file)

    def _hear(self, batch: Batch) -> None:
        """Take in a namespace; at the end of the helper, what it did not make is free again."""
        data, files, _, _ = socket.recv_fds(batch.news, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if files:
            slot = int(data)
            batch.slots.discard(slot)
            self._arrived(Network(slot=slot, address=self.street.address(slot), file=files[0]))
            return
        if data:
            batch.problem = data.decode(errors="replace")
            return
        self.reactor.unwatch(batch.news.fileno())
        batch.news.close()
        self._batch = None
        for slot in batch.slots:
            self.claim.give_back(slot)
        if batch.slots:
            self._refuse(batch.problem or f"it was not made within {HELPER_SECONDS} s")
        if self._takers or not batch.slots:  # after a failure only where somebody asks again
            self.refill()

    def _arrived(self, one: Network) -> None:
        if self._takers:
            self._takers.popleft()(one)
        else:
            self._ready.append(one)

    def _refuse(self, problem: str) -> None:
        """Tell all who wait that there is no network for them."""
        sys.stderr.write(f"own networks could not be made: {problem}\n")
        waiting, self._takers = self._takers, deque()
        for taker in waiting:
            taker(Failed("confinement_failed", f"the replica's own network could not be made: {problem}", HINT))

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
