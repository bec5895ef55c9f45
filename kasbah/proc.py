"""What /proc says of a process: who it is, and whether it still runs.

A process is known by its pid and its start time: pids are used again. Its first thread may have ended while others run:
the kernel shows it as a zombie then, though it computes, listens and holds what it opened until the last one has gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
ENDED = ("Z", "X")
"""The states in which a thread runs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process at one moment. `thread` is one that has not ended: the first, whose number is the pid, unless only
    others are left; `state` is that one's. `start_time` is in clock ticks since the machine started, `memory` resident
    bytes."""

    pid: int
    thread: int
    state: str
    parent: int
    session: int
    start_time: int
    memory: int

    @property
    def ended(self) -> bool:
        """Whether it runs no more, reaped or not."""
        return self.state in ENDED

    @property
    def stopped(self) -> bool:
        """Whether it was taken off the processor by SIGSTOP."""
        return self.state in ("T", *ENDED)


def look(pid: int) -> Process | None:
    """The process with this pid, or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    thread, state = pid, fields[0]
    if state in ENDED and int(fields[17]) > 1:
        thread, state = _another_thread(pid) or (thread, state)
    return Process(
        pid=pid,
        thread=thread,
        state=state,
        parent=int(fields[1]),
        session=int(fields[3]),
        start_time=int(fields[19]),
        memory=int(fields[21]) * PAGE,
    )


def everyone() -> Iterator[Process]:
    """Every process of the machine that we can see."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := look(int(name))) is not None:
            yield found


def runs(pid: int) -> bool:
    """Whether there is a process of this pid that has not ended."""
    found = look(pid)
    return found is not None and not found.ended


def is_alive(pid: int, start_time: int) -> bool:
    """Whether the process of that pid and start time still runs."""
    found = look(pid)
    return found is not None and found.start_time == start_time and not found.ended


def _another_thread(pid: int) -> tuple[int, str] | None:
    """A thread that has not ended, and its state."""
    for folder in Path(f"/proc/{pid}/task").glob("*"):
        try:
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in ENDED:
            return int(folder.name), state
    return None
