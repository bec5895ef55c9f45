"""Seats: processes made ahead of need, each of which becomes the program of one replica once it is told which.

What takes longest at a start depends on nothing that is started: a network and a pid namespace of its own, and joining
control groups, for which version 1 of them waits until every processor has passed a quiet point (7 to 16 ms measured).
So a few processes stand ready that have all of that, and a wake is told to one of them.

A seat ends with its runner: it waits on a socket whose other end only the runner has. One that is taken belongs to its
replica, with its slot (see `claims.py`), its groups and its processes.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kasbah import proc
from kasbah.agent.confine import Confiner
from kasbah.agent.confine.network import Rules
from kasbah.agent.runner import cgroups, spawn
from kasbah.agent.runner.claims import Claim
from kasbah.agent.runner.networks import Network, Networks
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.records import LOOPBACK
from kasbah.agent.runner.spawn import Child, Failed

REFILL_AFTER_SECONDS = 0.5
PAUSE_SECONDS = 0.001
HINT = "the runner's log says more; `kasbah doctor` looks at what is in force on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A process that waits to be told, and what it has: a slot (0: none), an address, groups without limits yet."""

    child: Child
    slot: int
    address: str
    groups: tuple[Path, ...]
    start_time: int
    init_start_time: int

    @property
    def waits(self) -> bool:
        """Whether it has not ended."""
        pids = filter(None, (self.child.pid, self.child.init))
        return not any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in pids)

    def end(self, *, reaped: int = 0) -> None:
        """Kill it: nobody was told of it. The one of its processes that was `reaped` has a pid no more."""
        self.child.close()
        for pid in (self.child.pid, self.child.init):
            if pid and pid != reaped:
                os.kill(pid, signal.SIGKILL)


Taker = Callable[[Seat | Failed], None]


@dataclass(slots=True, kw_only=True)
class Seats:
    """The seats of one runner. `adopt_helper` is told the pids of each, `dropped` of groups that are to be removed."""

    ready_count: int
    reactor: Reactor
    groups: cgroups.Groups
    confiner: Confiner
    claim: Claim | None
    networks: Networks | None
    adopt_helper: Callable[[int], object]
    dropped: Callable[[tuple[Path, ...]], object]
    _ready: deque[Seat] = field(default_factory=deque)
    _takers: deque[Taker] = field(default_factory=deque)

    def take(self, taker: Taker) -> None:
        """Give `taker` a seat, now where one is ready, else once one is made, or why there is none."""
        while self._ready:
            seat = self._ready.popleft()
            if seat.waits:
                taker(seat)
                # Not now: what wakes has the processor first.
                self.reactor.after(REFILL_AFTER_SECONDS, self.refill)
                return
            self._drop(seat)
        self._takers.append(taker)
        self.refill()

    def refill(self) -> None:
        """Have as many ready as there should be, beside those that are waited for."""
        wanted = self.ready_count + len(self._takers) - len(self._ready)
        if wanted <= 0:
            return
        if self.networks is not None:
            self.networks.make(wanted, waited_for=bool(self._takers), then=self._furnished, done=self._made)
            return
        try:
            slot = self.claim.take() if self.claim is not None else 0
        except OSError as error:
            self._refuse(str(error))
            return
        if self._furnished(Network(slot=slot, address=LOOPBACK, file=None)) and wanted > 1:
            # One at a time: without root each takes the runner 5 ms, and others may be waiting for its answer.
            self.reactor.after(PAUSE_SECONDS, self.refill)

    def lost(self, pid: int) -> None:
        """A child has ended. Where it was a seat's, there is one less: another is made when one is asked for."""
        for seat in self._ready:
            if pid in (seat.child.pid, seat.child.init):
                sys.stderr.write(f"a process that waited for a replica ended: {seat.child.last_words()}\n")
                self._ready.remove(seat)
                self._drop(seat, reaped=pid)
                return

    def give_back(self, slot: int, allowed: Rules = None) -> None:
        """The user and the network of a seat of which nothing is left may be another's; what it might call goes."""
        if self.networks is not None and slot:
            self.networks.give_back(slot, allowed)
        elif self.claim is not None:
            self.claim.give_back(slot)

    def close(self) -> None:
        """End those that are ready, and leave nothing of them."""
        ended, self._ready = self._ready, deque()
        for seat in ended:
            seat.end()
        for seat in ended:
            for pid in filter(None, (seat.child.pid, seat.child.init)):
                os.waitpid(pid, 0)
            for group in seat.groups:
                cgroups.remove_soon(group)

    def _furnished(self, network: Network) -> bool:
        """Seat a process in a network. Whether that could be done: who waits for it is told otherwise."""
        try:
            seat = self._seat(network)
        except OSError as error:
            self.give_back(network.slot)
            self._refuse(error.strerror or str(error))
            return False
        finally:
            if network.file is not None:
                os.close(network.file)
        for pid in filter(None, (seat.child.pid, seat.child.init)):
            self.adopt_helper(pid)
        if self._takers:
            self._takers.popleft()(seat)
        else:
            self._ready.append(seat)
        return True

    def _seat(self, network: Network) -> Seat:
        groups = self.groups.make(secrets.token_hex(6))
        try:
            child = spawn.fork(self.confiner, groups, network.file)
        except OSError:
            self.dropped(groups)
            raise
        program, init = proc.look(child.pid), proc.look(child.init) if child.init else None
        return Seat(
            child=child,
            slot=network.slot,
            address=network.address,
            groups=groups,
            start_time=program.start_time if program else 0,
            init_start_time=init.start_time if init else 0,
        )

    def _made(self, problem: str) -> None:
        """No more networks come for now: all that were asked for are made, or `problem` says why not."""
        if problem:
            self._refuse(problem)
        if self._takers or not problem:  # after a failure only where somebody asks again
            self.refill()

    def _refuse(self, problem: str) -> None:
        """Tell all who wait that there is no seat for them."""
        sys.stderr.write(f"a process that waits for a replica could not be made: {problem}\n")
        waiting, self._takers = self._takers, deque()
        for taker in waiting:
            taker(Failed("start_failed", f"what a replica is confined in could not be made: {problem}", HINT))

    def _drop(self, seat: Seat, *, reaped: int = 0) -> None:
        seat.end(reaped=reaped)
        self.dropped(seat.groups)
        self.give_back(seat.slot)
