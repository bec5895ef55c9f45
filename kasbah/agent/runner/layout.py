"""Where the runner keeps things; told to it by the agent, so that the runner imports nothing of the agent's."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

PROTOCOL = 1
"""Grows when requests or answers change their meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One runner's folders, socket and log limits. `home` holds its records, its pipes and its own log."""

    home: Path
    replicas: Path
    logs: Path
    volumes: Path
    socket: Path
    log_file_bytes: int
    log_files: int
    ready_seats: int = 4

    @property
    def token(self) -> Path:
        """What a caller must show: replicas run as the same user, but cannot read this file."""
        return self.home / "token"

    @property
    def lock(self) -> Path:
        """Held by the one runner of this data folder."""
        return self.home / "lock"

    @property
    def process(self) -> Path:
        """JSON: the runner's pid, start time and protocol. One that ends by itself removes it last."""
        return self.home / "runner.json"

    @property
    def log(self) -> Path:
        """What the runner has to say about itself."""
        return self.home / "runner.log"

    @property
    def gateway(self) -> Path:
        """Where the site's gateway listens, `HOST PORT`: replicas that may call it are led there."""
        return self.home / "gateway"

    @property
    def tag(self) -> str:
        """Tells this installation's control groups from another's."""
        return f"{zlib.crc32(bytes(self.home)):08x}"

    def pipes(self, replica: str) -> tuple[Path, Path]:
        """The named pipes of a replica's standard output and error."""
        return self.home / f"{replica}.stdout", self.home / f"{replica}.stderr"

    def journal(self, service: str, replica: str) -> Path:
        """A replica's log file."""
        return self.logs / service / f"{replica}.log"

    def to_json(self) -> str:
        """As text, for the runner's command line."""
        return json.dumps({name: str(value) for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """The opposite of `to_json`."""
        fields = json.loads(text)
        return cls(
            home=Path(fields["home"]),
            replicas=Path(fields["replicas"]),
            logs=Path(fields["logs"]),
            volumes=Path(fields["volumes"]),
            socket=Path(fields["socket"]),
            log_file_bytes=int(fields["log_file_bytes"]),
            log_files=int(fields["log_files"]),
            ready_seats=int(fields["ready_seats"]),
        )
