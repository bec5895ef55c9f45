"""Where an agent keeps things. Everything it owns is below one folder; sockets move out only when its path is too long.

DATA/agent/ledger/     the desired state it acts on, and what it must remember
DATA/agent/blobs/      source bundles, by digest
DATA/agent/builds/     built revisions
DATA/agent/cache/      the package managers' own caches, by project and label; what was extracted from Envoy
DATA/agent/logs/       SERVICE/REPLICA.log, and SERVICE/build-REVISION.log
DATA/agent/replicas/   REPLICA/: a replica's private working folder
DATA/agent/volumes/    SERVICE/NAME/: what services keep; no program of ours removes it unasked
DATA/agent/runner/     the runner's records and pipes
DATA/agent/envoy/      Envoy's bootstrap, logs and record
DATA/agent/secrets/    the secrets that services here use, sealed under the key beside them
DATA/agent/certificates/  the last good certificate of each file, with its key
DATA/agent/identity/   the site's key and certificates (`identity.py`)
DATA/agent/audit/      the site's own audit log, its key, and what proves single requests for a while
DATA/agent/usage.db    what was metered and not yet acknowledged
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kasbah.errors import Conflict

CACHE, CLOSED = re.compile(r"[\w-]{1,64}\.[0-4]\.[0-9a-f]{8}(\.closed)?"), ".closed"
"""The package managers' caches of a project for data of one label (`decide/keeping.py`), and those of closed builds."""

LONGEST_SOCKET_FOLDER = 80
"""A Unix socket's path holds 107 bytes; names below the folder take up to 26."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders and sockets of the agent whose data folder is `data_dir` (absolute)."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "agent"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def builds(self) -> Path:
        return self.root / "builds"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def replicas(self) -> Path:
        return self.root / "replicas"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def runner(self) -> Path:
        return self.root / "runner"

    @property
    def envoy(self) -> Path:
        return self.root / "envoy"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def identity(self) -> Path:
        return self.root / "identity"

    @property
    def audit(self) -> Path:
        return self.root / "audit"

    @property
    def usage(self) -> Path:
        return self.root / "usage.db"

    @property
    def endpoint(self) -> Path:
        """JSON: where the agent answers, written once it does: `{gateway, tls, status, pid}`."""
        return self.root / "endpoint.json"

    @property
    def sockets(self) -> Path:
        """The folder of the Unix sockets."""
        wanted = self.root / "run"
        if len(os.fsencode(wanted)) <= LONGEST_SOCKET_FOLDER:
            return wanted
        short = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"kasbah-{os.getuid()}-{short}"

    @property
    def runner_socket(self) -> Path:
        return self.sockets / "runner.sock"

    @property
    def xds_socket(self) -> Path:
        return self.sockets / "xds.sock"

    @property
    def gate_socket(self) -> Path:
        """Where Envoy asks whether a held request may go on."""
        return self.sockets / "gate.sock"

    @property
    def cold_socket(self) -> Path:
        """Envoy's own second listener, where requests for sleeping services wait."""
        return self.sockets / "cold.sock"

    @property
    def patient_socket(self) -> Path:
        """Envoy's third, by which the second asks the gate."""
        return self.sockets / "patient.sock"

    @property
    def here_socket(self) -> Path:
        """Envoy's fourth, for what may go to another site too: it asks this one as it asks others."""
        return self.sockets / "here.sock"

    @property
    def door_socket(self) -> Path:
        """The agent's door for sources and logs, behind Envoy."""
        return self.sockets / "door.sock"

    @property
    def sources_socket(self) -> Path:
        """Envoy's fifth listener, where the agent asks other sites for sources."""
        return self.sockets / "sources.sock"

    @property
    def handing_socket(self) -> Path:
        """Where the agent hands sources to other sites, behind Envoy."""
        return self.sockets / "handing.sock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One agent per data folder: refused while another holds it."""
        with (self.root / "agent.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"another agent runs on {self.root}", hint="end it first, or use another --data-dir"
                ) from None
            yield

    def make(self) -> None:
        """Create every folder, private to this user. Raises PermissionError where the sockets' folder is another's."""
        for folder in (
            self.ledger,
            self.blobs,
            self.builds,
            self.cache,
            self.logs,
            self.replicas,
            self.volumes,
            self.runner,
            self.envoy,
            self.secrets,
            self.certificates,
            self.identity,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.sockets.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.sockets} belongs to another user")
        self.sockets.chmod(0o700)
