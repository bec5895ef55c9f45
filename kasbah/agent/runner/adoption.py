"""What a new runner does with what the one before left: it adopts what is alive, and clears what is not.

record    process                              then
running   alive (same pid, start time, boot)   adopted: watched by pidfd, its pipes read again
starting  alive and marked: its program runs   adopted
starting  anything else                        killed and cleared: nobody was told that it started
running   gone                                 ended, how is unknown; what it left is killed
ended     -                                    kept until it is forgotten
none      marked as of this data folder        killed
none      init of a pid namespace of ours      killed, and all in it
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kasbah import proc
from kasbah.agent.confine import pids
from kasbah.agent.runner import processes, records
from kasbah.agent.runner.held import Held, send
from kasbah.agent.runner.journal import last_lines, split
from kasbah.agent.runner.keeper import Keeper
from kasbah.agent.runner.layout import Layout
from kasbah.agent.runner.records import Record


def adopt(keeper: Keeper, layout: Layout) -> None:
    """Take over what is there. Call once, before the first request."""
    boot = processes.boot_id()
    for record in keeper.book.load():
        if record.state == records.ENDED:
            keeper.hold(record).close()
        elif (pidfd := _living(record, boot)) is None:
            _clear(keeper, layout, record)
        else:
            _take_over(keeper, layout, record, pidfd)
    _kill_strays(keeper, layout)
    _clear_leftovers(keeper, layout)


def _living(record: Record, boot: str) -> int | None:
    """A pidfd of the replica's first process where it is alive and its program runs."""
    if record.boot != boot or not record.pid:
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except OSError:
        return None
    # Looked at after the pidfd was opened: what is true of the process now is true of the one the pidfd names.
    same = proc.is_alive(record.pid, record.start_time)
    marked = processes.environment(proc.look(record.pid)).get(processes.MARK) == record.replica
    # A running program may write over its own environment; while starting, only the mark tells it from our child.
    if same and (marked or record.state == records.RUNNING):
        return pidfd
    if same:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    return None


def _take_over(keeper: Keeper, layout: Layout, record: Record, pidfd: int) -> None:
    held = keeper.hold(record)
    found = proc.look(record.pid)
    keeper.book.save(held.change(state=records.RUNNING, frozen=found is not None and found.stopped))
    _remember_lines(held)
    held.listen(layout.pipes(record.replica))
    keeper.reaper.adopt(held, pidfd)
    if record.stop_by is not None:
        held.signal_group(signal.SIGTERM)
        held.signal_group(signal.SIGCONT)
        keeper.reaper.kill_at(held, record.stop_by, "did not end within its drain deadline, and was killed")


def _clear(keeper: Keeper, layout: Layout, record: Record) -> None:
    held = keeper.hold(record)
    if record.state == records.STARTING:
        held.change(pid=0)
        held.kill()
        keeper.reaper.release(held)
        keeper.reaper.discard(held)
    else:
        _remember_lines(held)
        held.change(pid=0)  # it is long gone: its pid, and so its group and session, may be another's by now
        keeper.reaper.leader_ended(held, None, None)


def _remember_lines(held: Held) -> None:
    parsed = (split(line) for line in last_lines(held.log.path, held.log.recent.maxlen or 0))
    held.log.recent.extend(one[2] for one in parsed if one is not None)


def _kill_strays(keeper: Keeper, layout: Layout) -> None:
    """Kill what is marked as a replica of this data folder and is none that we hold."""
    inits = {held.record.init for held in keeper.held.values() if held.runs}
    for process in proc.everyone():
        if process.pid not in inits and _is_init_of(layout, process.pid):
            send(process, signal.SIGKILL)
        env = processes.environment(process)
        ours = Path(env.get(processes.SCRATCH, "/")).parent == layout.replicas
        held = keeper.held.get(env.get(processes.MARK, ""))
        if ours and (held is None or not held.runs):
            send(process, signal.SIGKILL)


def _is_init_of(layout: Layout, pid: int) -> bool:
    """Whether a process is a runner's fork, of this data folder, that is the first of a pid namespace."""
    if pids.name_of(pid) in ("", pids.name_of(os.getpid())):
        return False
    try:
        return os.fsencode(layout.home) in Path(f"/proc/{pid}/cmdline").read_bytes() and pids.is_first(pid)
    except OSError:
        return False


def _clear_leftovers(keeper: Keeper, layout: Layout) -> None:
    known = frozenset(keeper.held)
    for folder in layout.replicas.iterdir():
        if folder.name not in known:
            keeper.reaper.delete(folder)
    for pipe in (*layout.home.glob("*.stdout"), *layout.home.glob("*.stderr")):
        if pipe.stem not in known:
            pipe.unlink()
    groups = frozenset(group for held in keeper.held.values() for group in held.record.groups)
    keeper.reaper.remove(tuple(keeper.seats.groups.leftovers(groups)))
