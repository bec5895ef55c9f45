"""What the runner must remember of a replica to find it again: one JSON file each, replaced whole, written before
acting.

Records need to survive the runner, not the machine: a restart of the machine ends every replica, which the boot's id
in each record tells.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kasbah.agent.confine.network import Rule, Rules

VERSION = 1
LOOPBACK = "127.0.0.1"
"""Where a replica answers that shares the machine's network."""

SUFFIX, NEW = ".replica", ".new"
STARTING, RUNNING, ENDED = "starting", "running", "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a replica ended: a code or a signal (neither where nobody saw), why, and its last lines."""

    code: int | None = None
    signal: str | None = None
    reason: str = ""
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A replica the runner holds. `stop_by` is when a stopping one is killed, on the machine's monotonic clock.

    `pid` is its program's first process. Where it has a pid namespace, `init` is the namespace's first process, with
    whose end all of it ends; where it has a user and a network of its own, `slot` says which (see
    `claims.py`), and `user` is another user, that of its service's volumes (0: it has none). `address` is where it
    answers, `calls` what its service's file lets it call and `egress` what that means now.
    """

    replica: str
    service: str
    revision: str
    port: int
    boot: str
    started_at: str
    memory: int | None = None
    groups: tuple[str, ...] = ()
    state: str = STARTING
    pid: int = 0
    start_time: int = 0
    init: int = 0
    init_start_time: int = 0
    slot: int = 0
    user: int = 0
    address: str = LOOPBACK
    calls: tuple[str, ...] | None = None
    egress: Rules = None
    frozen: bool = False
    stop_by: float | None = None
    ending: Ending | None = None


class Records:
    """The records of one runner, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, record: Record) -> None:
        """Replace the record of a replica."""
        path = self._path(record.replica)
        beside = path.with_suffix(NEW)
        beside.write_text(json.dumps({"version": VERSION, **asdict(record)}))
        # Not one rename over the other: ext4 then writes the file out first, which takes milliseconds of a wake.
        # Between the two steps the new record is the only one, and `load` takes it.
        path.unlink(missing_ok=True)
        os.rename(beside, path)

    def drop(self, replica: str) -> None:
        """Forget a replica."""
        self._path(replica).unlink(missing_ok=True)

    def load(self) -> list[Record]:
        """Every record that can be read; one that cannot is removed, as its replica cannot be told from a stranger."""
        for beside in self._folder.glob(f"*{NEW}"):
            path = beside.with_suffix(SUFFIX)
            if path.exists():
                beside.unlink()  # it may have been cut
            else:
                beside.rename(path)
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                found.append(_parse(json.loads(path.read_text())))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                path.unlink(missing_ok=True)
        return found

    def _path(self, replica: str) -> Path:
        return self._folder / f"{replica}{SUFFIX}"


def _parse(fields: dict[str, object]) -> Record:
    if fields.pop("version") != VERSION:
        raise ValueError("another version's record")
    ending = fields.pop("ending")
    record = Record(**fields)  # type: ignore[arg-type]  # our own file; a wrong one raises TypeError
    if isinstance(ending, dict):
        record = replace(record, ending=Ending(**{**ending, "tail": tuple(ending["tail"])}))
    if record.calls is not None:
        record = replace(record, calls=tuple(record.calls))
    if record.egress is not None:
        record = replace(record, egress=tuple(Rule(**one) for one in record.egress))  # type: ignore[arg-type]  # as above
    return replace(record, groups=tuple(record.groups))
