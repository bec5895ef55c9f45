"""Which processes belong to a replica.

They are those of its pid namespace. Where it has none they are found three ways, because a program can leave each
behind: its session, the mark in its environment, and its control group.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kasbah.agent.confine import pids
from kasbah.proc import Process, everyone, is_alive

MARK = "KASBAH_REPLICA"
"""The variable that names the replica in the environment of each of its processes."""

SCRATCH = "KASBAH_SCRATCH"
"""The variable that names its private folder, and so the installation it belongs to."""


def environment(process: Process | None) -> dict[str, str]:
    """What a process was started with; empty where we may not know."""
    if process is None:
        return {}
    try:
        text = Path(f"/proc/{process.thread}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


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
                and ((leader and one.session == leader) or environment(one).get(MARK) == replica)
            )
        )
    ]


def inhabitants(init: int, start_time: int) -> list[Process]:
    """The living processes of the pid namespace that `init`, started at `start_time`, is the first of."""
    namespace = pids.name_of(init)
    if not namespace or not is_alive(init, start_time):
        return []  # with it, nothing is left: another namespace may have the name by now
    seen = list(everyone())
    named = [one for one in seen if pids.name_of(one.thread) == namespace]
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
