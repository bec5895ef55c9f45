"""Memory limits where no control group can hold them: looked at every second, and kept by killing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from kasbah import proc
from kasbah.agent.runner import endings, processes
from kasbah.agent.runner.held import Held
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.reaper import Reaper

PERIOD_SECONDS = 1.0


class Sampler:
    """Kills replicas that use more memory than they may."""

    def __init__(self, reactor: Reactor, held: Mapping[str, Held], reaper: Reaper) -> None:
        self._reactor = reactor
        self._held = held
        self._reaper = reaper

    def begin(self) -> None:
        """Look now, and every second from now on."""
        self._look()
        self._reactor.after(PERIOD_SECONDS, self.begin)

    def _look(self) -> None:
        limited = [one for one in self._held.values() if one.runs and one.record.memory and not one.record.frozen]
        if not limited:
            return
        sessions: dict[int, list[proc.Process]] = defaultdict(list)
        for process in proc.everyone():
            sessions[process.session].append(process)
        for held in limited:
            self._judge(held, sessions[held.record.pid])

    def _judge(self, held: Held, members: list[proc.Process]) -> None:
        limit = held.record.memory or 0
        # Resident memory counts shared pages once for each process, so it is the cheap upper bound.
        if sum(one.memory for one in members) <= limit:
            return
        used = sum(processes.proportional_memory(one.pid) for one in members)
        if used > limit:
            self._reaper.kill(held, f"used {endings.memory(used)}, its limit is {endings.memory(limit)}")
