"""The control plane's part of the data folder: who holds it, what lies in it, and how its files are written.

DATA/admin.token            the first API token (0600)
DATA/site.token             the token of the site `local` (0600)
DATA/owner.key              what the owner signs the law with (0600); he may take it away; in no backup
DATA/deployer.key           what is deployed from beside it is signed with (0600); in no backup
DATA/control/owner.pub      its public half, pinned
DATA/control/kasbah.db      the store, unless a database URL was given
DATA/control/signing.key    what desired states and tickets are signed with (0600)
DATA/control/secrets.key    what secrets are sealed under (0600); in no backup of the database
DATA/control/ca.key, ca.crt  the authority that sites' certificates come from (0600)
DATA/control/tls.key, tls.crt  what the control plane proves itself to sites with (0600)
DATA/control/audit.key      what the audit log is signed with (0600); in no backup of the database
DATA/control/audit.checkpoint  the audit log as it was signed last, outside the database that holds it
DATA/control/lock           held, by flock, as long as the control plane runs; says its pid
DATA/control/port           the port that port 0 was given, asked for again at the next start
DATA/control/sites-port     the same, of where sites dial in
DATA/control/endpoint.json  {api, sites, pid}: there from when it listens until it ends
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kasbah.api.attesting import DEPLOYER_KEY
from kasbah.api.owner import OWNER_KEY
from kasbah.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of the control plane whose data folder is `data_dir`."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "control"

    @property
    def database(self) -> Path:
        return self.root / "kasbah.db"

    @property
    def signing_key(self) -> Path:
        return self.root / "signing.key"

    @property
    def secrets_key(self) -> Path:
        return self.root / "secrets.key"

    @property
    def owner_public(self) -> Path:
        return self.root / "owner.pub"

    @property
    def authority(self) -> Path:
        return self.root / "ca.crt"

    @property
    def tls_key(self) -> Path:
        return self.root / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        return self.root / "tls.crt"

    @property
    def sites_port(self) -> Path:
        return self.root / "sites-port"

    @property
    def audit_key(self) -> Path:
        return self.root / "audit.key"

    @property
    def audit_checkpoint(self) -> Path:
        return self.root / "audit.checkpoint"

    @property
    def endpoint(self) -> Path:
        return self.root / "endpoint.json"

    @property
    def port(self) -> Path:
        return self.root / "port"

    @property
    def admin_token(self) -> Path:
        return self.data_dir / "admin.token"

    @property
    def owner_key(self) -> Path:
        return self.data_dir / OWNER_KEY

    @property
    def deployer_key(self) -> Path:
        return self.data_dir / DEPLOYER_KEY

    @property
    def site_token(self) -> Path:
        return self.data_dir / "site.token"

    def make(self) -> None:
        """Create it, private to this user."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.root.chmod(0o700)
        except OSError as error:
            raise Invalid(
                f"the data folder {self.data_dir} cannot be used: {error.strerror}", hint="choose another: --data-dir"
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; refused while another holds it. The lock dies with its process."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 20).decode(errors="replace").strip()
                raise Conflict(
                    f"another control plane (pid {holder}) runs on {self.data_dir}",
                    hint="stop it (kasbah down), or choose another --data-dir",
                    code="already_running",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def pinned_owner(self) -> str | None:
        """The public half of the owner's key, as it was when it was first seen here."""
        try:
            return self.owner_public.read_text().strip()
        except FileNotFoundError:
            return None

    def pin_owner(self, public: str) -> None:
        """Remember it."""
        _replace(self.owner_public, f"{public}\n")

    def write_endpoint(self, api: str, sites: str) -> None:
        """Say where we listen, all at once; `sites` is "" where none can dial in."""
        _replace(self.endpoint, json.dumps({"api": api, "sites": sites, "pid": os.getpid()}) + "\n")

    def write_audit_checkpoint(self, note: str) -> None:
        """Keep the audit log's newest checkpoint."""
        _replace(self.audit_checkpoint, note)

    def forget_endpoint(self) -> None:
        """Say that nobody listens."""
        self.endpoint.unlink(missing_ok=True)


def read_or_make_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in `path`; made there, for this user's eyes only, where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        found = path.read_text().strip()
        if not found:
            raise Invalid(f"{path} is empty", hint="remove it: the next start makes another") from None
        return found
    made = make()
    with os.fdopen(descriptor, "w") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    return made


def last_port(path: Path) -> int | None:
    """The port it was given last time, where one is known."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def keep_port(path: Path, port: int) -> None:
    """Remember a port for the next time."""
    _replace(path, f"{port}\n")


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)
