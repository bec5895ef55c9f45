"""What `up` leaves in the data folder about itself, for `down` and for the next `up`.

`up.lock` is locked as long as a supervisor lives, whatever becomes of its files; `up.json` says who it is and what it
started, and is kept afterwards, because the API's port of last time is taken again; `up.log` is what all of them say.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from kasbah.cli.processes import Process
from kasbah.errors import Conflict, Invalid

DEFAULT_DATA_DIR = "~/.local/share/kasbah"
OWNER_KEY = "owner.key"
"""As `kasbah.api.owner` calls it, which takes longer to import than all of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Who supervises, where it answers, and the parts it started."""

    supervisor: Process
    api: str
    gateway: str
    parts: dict[str, Process] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A data folder (absolute), as the supervisor uses it."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "up.log"

    @property
    def admin_token(self) -> Path:
        return self.path / "admin.token"

    @property
    def site_token(self) -> Path:
        return self.path / "site.token"

    @property
    def owner_key(self) -> Path:
        return self.path / OWNER_KEY

    def make(self) -> None:
        """Create the folder, private to this user. Raises Invalid where that is impossible."""
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True, mode=0o700)
            os.close(os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise Invalid(
                f"{self.path} cannot be the data folder: {error.strerror}",
                where="--data-dir",
                hint="choose a folder that you may write to",
            ) from error

    def lock(self) -> int:
        """Take the folder for this process: the lock lives as long as the descriptor. Raises Conflict where another
        supervisor has it."""
        handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise self._taken() from None
        return handle

    def locked(self) -> bool:
        """Whether a supervisor has the folder."""
        try:
            handle = os.open(self._lock_file, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def read(self) -> Record | None:
        """The record; None where there is none that can be read."""
        try:
            kept = json.loads((self.path / "up.json").read_text())
            return Record(
                supervisor=Process(*kept["supervisor"]),
                api=kept["api"],
                gateway=kept["gateway"],
                parts={name: Process(*one) for name, one in kept["parts"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, record: Record) -> None:
        """Replace the record, whole or not at all."""
        kept = {
            "supervisor": [record.supervisor.pid, record.supervisor.started],
            "api": record.api,
            "gateway": record.gateway,
            "parts": {name: [one.pid, one.started] for name, one in record.parts.items()},
        }
        fresh = self.path / "up.json.new"
        fresh.write_text(json.dumps(kept))
        fresh.replace(self.path / "up.json")

    @property
    def _lock_file(self) -> Path:
        return self.path / "up.lock"

    def _taken(self) -> Conflict:
        record = self.read()
        who = f" (process {record.supervisor.pid})" if record and record.supervisor.alive else ""
        return Conflict(
            f"Kasbah already runs on {self.path}{who}",
            hint="use it as it is, stop it with `kasbah down`, or start another with --data-dir",
            code="already_running",
        )


def data_folder(chosen: Path | None) -> DataFolder:
    """The data folder that was chosen, or the default one of this user."""
    if chosen is None:
        home = os.environ.get("XDG_DATA_HOME")
        chosen = Path(home) / "kasbah" if home else Path(DEFAULT_DATA_DIR)
    return DataFolder(Path(os.path.abspath(chosen.expanduser())))
