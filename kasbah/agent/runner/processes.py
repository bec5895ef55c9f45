"""What /proc says: who a process is, whether it is the one we knew, and which processes belong to a replica.

A process is known by its pid and its start time: pids are used again. A replica's processes are those of its pid
namespace. Where it has none they are found three ways, because a program can leave each behind: its session, the mark
in its environment, and its control group.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.confine import pids

MARK = "KASBAH_REPLICA"
"""The variable that names the replica in the environment of each of its processes."""

SCRATCH = "KASBAH_SCRATCH"
"""The variable that names its private folder, and so the installation it belongs to."""

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process at one moment. `start_time` is in clock ticks since the machine started; `memory` is resident bytes."""

    pid: int
    state: str
    parent: int
    session: int
    start_time: int
    memory: int

    @property
    def ended(self) -> bool:
        """Whether it runs no more, reaped or not."""
        return self.state in ("Z", "X")

    @property
    def stopped(self) -> bool:
        """Whether it was taken off the processor by SIGSTOP."""
        return self.state in ("T", "Z", "X")


def look(pid: int) -> Process | None:
    """The process with this pid, or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0],
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


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty where we may not know."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def is_alive(pid: int, start_time: int) -> bool:
    """Whether the process of that pid and start time still runs."""
    found = look(pid)
    return found is not None and found.start_time == start_time and not found.ended


def boot_id() -> str:
    """Changes when the machine restarts, and start times begin again."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def members(replica: str, leader: int, since: int, groups: Iterable[Path]) -> list[Process]:
    """The living processes of a replica whose first process is `leader` (0: long gone), started at `since`."""
    grouped = {pid for folder in groups for pid in _group(folder)}
    return [
        one
        for one in everyone()
        if not one.ended
        and (
            one.pid in grouped
            or (
                one.start_time >= since
                and ((leader and one.session == leader) or environment(one.pid).get(MARK) == replica)
            )
        )
    ]


def inhabitants(init: int, start_time: int) -> list[Process]:
    """The living processes of the pid namespace that `init`, started at `start_time`, is the first of."""
    namespace = pids.name_of(init)
    if not namespace or not is_alive(init, start_time):
        return []  # with it, nothing is left: another namespace may have the name by now
    seen = list(everyone())
    named = [one for one in seen if pids.name_of(one.pid) == namespace]
    # Without root, one that runs a program which it may not read keeps the name of its namespace to itself.
    found = {one.pid: one for one in (*named, *below((one.pid for one in named), seen))}
    return [one for one in found.values() if not one.ended]


def below(parents: Iterable[int], seen: Iterable[Process]) -> list[Process]:
    """Those of the processes seen that descend from these pids."""
    children: dict[int, list[Process]] = {}
    for one in seen:
        children.setdefault(one.parent, []).append(one)
    found, unasked = [], list(parents)
    while unasked:
        own = children.pop(unasked.pop(), [])
        found += own
        unasked += [one.pid for one in own]
    return found


def proportional_memory(pid: int) -> int:
    """Bytes of memory a process answers for: its own, and its part of what it shares."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _group(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []
