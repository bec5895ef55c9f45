"""Limits on memory and processor by control groups, version 1 or 2, where the runner may make them.

`Groups` is made by trying: a controller counts as there once a group was made in it and a limit written. Groups are
made before it is known whose they will be, limited when it is, and removed with the replica. They are made below our
own (version 1) or at the root (version 2, whose rules keep processes and children apart).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PERIOD_US = 100_000
LOW_SHARES, LOW_WEIGHT = 102, 10
"""A tenth of the usual 1,024 (version 1) and 100 (version 2)."""
MEMORY, CPU = "memory", "cpu"
SOON_SECONDS, SOON_TRIES = 0.005, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """One controller: the folder our groups are made in, and which version's files it has."""

    name: str
    parent: Path
    version: int

    def limit(self, folder: Path, *, cpu: float | None, memory: int | None) -> None:
        """Write the limits this controller is about into a group."""
        if self.name == MEMORY and memory is not None:
            file = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
            (folder / file).write_text(str(memory))
        if self.name == CPU and cpu is not None:
            quota = max(1_000, int(cpu * PERIOD_US))
            if self.version == 1:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")

    def give_way(self, folder: Path) -> None:
        """Let a group have a tenth of the processors that another gets, where both want them."""
        if self.name == CPU and self.version == 1:
            (folder / "cpu.shares").write_text(str(LOW_SHARES))
        elif self.name == CPU:
            (folder / "cpu.weight").write_text(str(LOW_WEIGHT))


class Groups:
    """The control groups of replicas, or of builds. `missing` says which controllers cannot be used, and why."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._controllers: dict[str, Controller] = {}
        self.missing: dict[str, str] = {}
        for name in (MEMORY, CPU):
            try:
                self._controllers[name] = self._tried(name)
            except OSError as error:
                self.missing[name] = f"its control group cannot be written: {error.strerror or error}"

    @property
    def available(self) -> frozenset[str]:
        """The controllers that limits can be set with."""
        return frozenset(self._controllers)

    def make(self, name: str) -> tuple[Path, ...]:
        """Groups of this name without limits, one folder per controller that is there. Raises OSError."""
        folders = tuple(dict.fromkeys(self._folder(one, name) for one in self._controllers.values()))
        for folder in folders:
            folder.mkdir(exist_ok=True)
        return folders

    def limit(self, folders: tuple[Path, ...], *, cpu: float | None, memory: int | None) -> None:
        """Limit what `make` made. Raises OSError."""
        for controller, folder in self._owned(folders):
            controller.limit(folder, cpu=cpu, memory=memory)

    def give_way(self, folders: tuple[Path, ...]) -> None:
        """Let what `make` made have the processors when nothing else wants them. Raises OSError."""
        for controller, folder in self._owned(folders):
            controller.give_way(folder)

    def _owned(self, folders: tuple[Path, ...]) -> Iterator[tuple[Controller, Path]]:
        for controller in self._controllers.values():
            yield from ((controller, folder) for folder in folders if folder.parent == controller.parent)

    def leftovers(self, known: frozenset[str]) -> list[Path]:
        """Groups made under our tag that are none of these folders."""
        found = {folder for one in self._controllers.values() for folder in one.parent.glob(f"kasbah-{self._tag}-*")}
        return [folder for folder in found if str(folder) not in known]

    def _tried(self, name: str) -> Controller:
        controller = _find(name)
        folder = self._folder(controller, "trial")
        folder.mkdir(exist_ok=True)
        try:
            controller.limit(folder, cpu=1.0, memory=2**30)
        finally:
            folder.rmdir()
        return controller

    def _folder(self, controller: Controller, name: str) -> Path:
        return controller.parent / f"kasbah-{self._tag}-{name}"


def remove(folder: Path) -> bool:
    """Remove a group; False where processes are still in it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_soon(folder: Path) -> None:
    """Remove the group of a process that has just ended, and leaves it a moment later."""
    for _ in range(SOON_TRIES):
        if remove(folder):
            return
        time.sleep(SOON_SECONDS)


def ended_by_limit(folders: tuple[Path, ...]) -> int:
    """How many processes of these groups the kernel has ended since they passed their own memory limit; 0 where they
    never did, whatever ended them."""
    for folder in folders:
        if (folder / "memory.failcnt").exists():
            passed = int((folder / "memory.failcnt").read_text())
            ended = _counted(folder / "memory.oom_control", "oom_kill")
        else:
            passed = _counted(folder / "memory.events", "oom")
            ended = _counted(folder / "memory.events", "oom_kill")
        if passed and ended:
            return ended
    return 0


def _counted(file: Path, name: str) -> int:
    try:
        return int(dict(line.split() for line in file.read_text().splitlines()).get(name, "0"))
    except (OSError, ValueError):
        return 0


def _find(name: str) -> Controller:
    """Where a controller's groups can be made. Raises OSError where it is nowhere mounted or not ours to use."""
    own = _own_groups()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        root, mount = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup" and name in options.split(",") and name in own:
            inside = os.path.relpath(own[name], root)
            return Controller(name=name, parent=(Path(mount) / inside).resolve(), version=1)
        if kind == "cgroup2" and name in (Path(mount) / "cgroup.controllers").read_text().split():
            return _second_version(name, Path(mount))
    raise FileNotFoundError(2, f"no {name} controller is mounted")


def _second_version(name: str, mount: Path) -> Controller:
    enabled = mount / "cgroup.subtree_control"
    if name not in enabled.read_text().split():
        enabled.write_text(f"+{name}")
    return Controller(name=name, parent=mount, version=2)


def _own_groups() -> dict[str, str]:
    """This process's own group in each controller of version 1."""
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(filter(None, names.split(",")), path)
    return groups
