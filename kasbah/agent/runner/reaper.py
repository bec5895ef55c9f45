"""Ends replicas and sees to what they leave: reaps, kills stragglers, writes the last lines, tells how each ended.

A replica has ended when its first process has. Whatever else of it still runs is then killed, and only when nothing is
left and its last lines are in its log is the end told. Children of ours that no replica owns are killed as well:
nothing is left running that nobody owns.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from kasbah import proc
from kasbah.agent.runner import cgroups, endings, processes, records, workdir
from kasbah.agent.runner.held import Held, send
from kasbah.agent.runner.layout import Layout
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.records import Record, Records

SWEEP_SECONDS = 5.0
RETRY_SECONDS = 0.002
GONE = ".gone"
"""The suffix of a folder that is being deleted: its replica's id is free again."""

RELEASE_SECONDS, RELEASE_TRIES = 0.05, 100


class Reaper:
    """Sees to the ends of the replicas in `held`. `ended` is called with the id of each, and `dropped` with the record
    of one of which nothing is left."""

    def __init__(
        self,
        layout: Layout,
        reactor: Reactor,
        *,
        held: dict[str, Held],
        book: Records,
        ended: Callable[[str], None],
        dropped: Callable[[Record], None] = lambda _record: None,
    ) -> None:
        self._layout = layout
        self._reactor = reactor
        self._held = held
        self._book = book
        self.on_ending: Callable[[str], None] = lambda _replica: None
        """Called at once with the id of each whose first process is gone, while what it left is seen to."""
        self.on_child_ended: Callable[[int], None] = lambda _pid: None
        """Called with the pid of every child that was reaped, a replica's or not."""
        self._ended = ended
        self._dropped = dropped
        self._helpers: set[int] = set()

    def reap(self, execed: Callable[[Held], bool]) -> None:
        """Take in every child that has ended. `execed` says whether one that was starting came as far as its exec."""
        while (found := _ended_child()) is not None:
            held = next((one for one in self._held.values() if one.record.pid == found.si_pid and one.runs), None)
            # Before it is reaped: until then its pid, and so its process group, cannot be another's.
            if held is not None and held.pidfd is None and execed(held):
                exited = found.si_code == os.CLD_EXITED
                self.leader_ended(held, found.si_status if exited else None, None if exited else found.si_status)
            os.waitpid(found.si_pid, 0)
            self._helpers.discard(found.si_pid)
            self.on_child_ended(found.si_pid)

    def adopt(self, held: Held, pidfd: int) -> None:
        """Watch a replica that is not our child."""
        held.pidfd = pidfd
        self._reactor.watch(pidfd, lambda _events: self.leader_ended(held, None, None))

    def leader_ended(self, held: Held, code: int | None, number: int | None) -> None:
        """Its first process has ended, with a code or by a signal, or unseen."""
        if held.pidfd is not None:
            self._reactor.unwatch(held.pidfd)
        held.ending = True
        self.on_ending(held.record.replica)
        held.kill()
        self._sweep(held, time.monotonic() + SWEEP_SECONDS, code, number)

    def kill(self, held: Held, cause: str) -> None:
        """End a replica now, and remember why."""
        if held.runs:
            held.cause = held.cause or cause
            held.kill()
            held.signal_members(signal.SIGKILL)

    def kill_at(self, held: Held, moment: float, cause: str) -> None:
        """Kill a replica at a moment of the monotonic clock, unless it has ended by then."""
        if held.deadline:
            held.deadline.cancel()
        wait = max(0.0, moment - time.monotonic())
        held.deadline = self._reactor.after(wait, lambda: self.kill(held, cause))

    def discard(self, held: Held) -> None:
        """Drop all there is of an ended replica but its log."""
        replica = held.record.replica
        self._held.pop(replica, None)
        self._book.drop(replica)
        self.delete(held.workdir.root)
        self._dropped(held.record)

    def delete(self, folder: Path) -> None:
        """Delete a folder in a process of its own: a replica may have left very many files."""
        gone = folder.with_suffix(GONE)
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        child = os.fork()
        if child == 0:
            try:
                workdir.remove(gone)
            finally:
                os._exit(0)
        self._helpers.add(child)

    def adopt_helper(self, pid: int) -> None:
        """Know a child that is nobody's replica, and let it end by itself."""
        self._helpers.add(pid)

    def release(self, held: Held) -> None:
        """Close and remove what a replica's processes used: pipes and control groups."""
        held.close()
        for pipe in self._layout.pipes(held.record.replica):
            pipe.unlink(missing_ok=True)
        self.remove(held.groups)

    def remove(self, groups: tuple[Path, ...], tries: int = RELEASE_TRIES) -> None:
        """Remove control groups. A process leaves its group a moment after it has ended."""
        busy = tuple(group for group in groups if not cgroups.remove(group))
        if busy and tries:
            self._reactor.after(RELEASE_SECONDS, lambda: self.remove(busy, tries - 1))

    def _sweep(self, held: Held, deadline: float, code: int | None, number: int | None) -> None:
        # Orphans too: one may be this replica's, and its end is not told while it dies.
        left = [*(one for one in held.members() if one.pid != held.record.pid), *self._orphans()]
        for one in left:
            send(one, signal.SIGKILL)
        if left and time.monotonic() < deadline:
            self._reactor.after(RETRY_SECONDS, lambda: self._sweep(held, deadline, code, number))
            return
        if left:
            held.cause = f"{len(left)} of its processes could not be ended, the first is {left[0].pid}"
        self._conclude(held, code, number)

    def _conclude(self, held: Held, code: int | None, number: int | None) -> None:
        held.drain()
        ending = endings.ending(held, code, number)
        self._book.save(held.change(state=records.ENDED, frozen=False, stop_by=None, ending=ending))
        self.release(held)
        self._ended(held.record.replica)

    def _orphans(self) -> list[proc.Process]:
        """Children of ours that are nobody's: their environment was cleared and their session is no replica's."""
        alive = [one.record for one in self._held.values() if one.alive]
        leaders = {one.pid for one in alive} | {one.init for one in alive if one.init}
        children = [one for one in proc.everyone() if one.parent == os.getpid() and not one.ended]
        return [
            one
            for one in children
            if one.pid not in leaders | self._helpers
            and one.session not in leaders
            and processes.environment(one).get(processes.MARK) not in self._held
        ]


def _ended_child() -> os.waitid_result | None:
    """A child that has ended and waits to be reaped."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
