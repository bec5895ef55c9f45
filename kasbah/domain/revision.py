"""A revision: one frozen way of running a service. Identical input makes the same revision, so it makes none.

Its id is the digest of everything that decides what runs: source, resolved configuration and the builder's version.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from kasbah.domain.ids import ALPHABET, Digest, RevisionId
from kasbah.domain.secret import SecretUse

BUILDER_VERSION = 1
"""Grows when the same source and configuration would build something else."""


class Runtime(StrEnum):
    """What builds the source: uv for Python, npm for Node, nothing for a plain command."""

    PYTHON = "python"
    NODE = "node"
    COMMAND = "command"


class Protocol(StrEnum):
    """What a replica speaks: HTTP/1.1 (WebSocket included), or HTTP/2 without TLS (gRPC); `auto` asks the replica."""

    AUTO = "auto"
    HTTP1 = "http1"
    H2C = "h2c"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a replica is asked whether it is well: an HTTP path that answers 2xx or 3xx, or a TCP connection where
    `path` is None. `failures` in a row are needed before the answer is no."""

    path: str | None = None
    period: timedelta = timedelta(seconds=5)
    timeout: timedelta = timedelta(seconds=2)
    failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Startup gates the first request; readiness takes a replica out of traffic; liveness restarts it.

    Readiness and liveness are not probed where they are None.
    """

    startup: Probe = Probe()
    readiness: Probe | None = None
    liveness: Probe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits per replica. `memory` in bytes; None: no limit of ours."""

    cpu: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each thing may take. `request` None: no limit on the whole of an exchange (streams); `idle` ends an
    exchange in which neither side has sent a byte for so long."""

    startup: timedelta = timedelta(seconds=60)
    request: timedelta | None = None
    idle: timedelta = timedelta(minutes=5)
    drain: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder of a service's that outlives its replicas and revisions, at `path` in the app's own folder. `size` is
    how many bytes it is meant to hold."""

    name: str
    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What to build and how to run it. `command` is an argument vector; one element containing spaces is a shell line.

    `calls` are other services of the project that it is given the way to; `egress` is what its replicas may call beside
    them (see `egress.py`), None: anything outside.

    `port` None: each replica is given a port of its own in PORT. A fixed port or a volume means one replica at a time.
    """

    id: RevisionId
    source: Digest
    source_size: int
    runtime: Runtime
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[SecretUse, ...] = ()
    port: int | None = None
    protocol: Protocol = Protocol.AUTO
    health: Health = Health()
    resources: Resources = Resources()
    deadlines: Deadlines = Deadlines()
    calls: tuple[str, ...] = ()
    egress: tuple[str, ...] | None = None
    volumes: tuple[Volume, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether it has what only one replica at a time can have."""
        return self.port is not None or bool(self.volumes)

    def runs_another(self, other: Revision) -> bool:
        """Whether it is another than this, whatever its id says and may be called from it."""
        return replace(self, id=other.id, egress=None) != replace(other, egress=None)

    def excludes(self, other: Revision) -> bool:
        """Whether a replica of it and one of another revision of the same service cannot be there at once."""
        port = self.port is not None and self.port == other.port
        return port or bool({one.name for one in self.volumes} & {one.name for one in other.volumes})


def revision_id(contents: bytes) -> RevisionId:
    """The id of the revision whose canonical contents are `contents`: `rv-` and 16 characters of their SHA-256."""
    number = int.from_bytes(hashlib.sha256(contents).digest()[:10], "big")
    return RevisionId("rv-" + "".join(ALPHABET[(number >> shift) & 31] for shift in range(75, -1, -5)))
