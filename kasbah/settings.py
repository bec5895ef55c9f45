"""Settings of the processes, grouped; each field is explained below it.

They come from the command line; nothing here is read from the environment by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

DEFAULT_GATEWAY = "127.0.0.1:8080"
DEFAULT_API = "127.0.0.1:7070"
DEFAULT_BASE_DOMAIN = "localhost"
GATEWAY_MEMORY = 2**30
DEFAULT_GATEWAY_CONNECTIONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """How the gate holds callers while a service wakes."""

    per_service: int = 1_000
    """Callers held for one service; the next gets 429."""

    per_site: int = 10_000
    """Callers held at the site; the next gets 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a site keeps, and how much."""

    source_bytes: int = 512 * 2**20
    """The largest source bundle taken, compressed."""

    build_seconds: int = 900
    """A build that takes longer has failed."""

    build_memory: int | None = None
    """The bytes of memory that a build may have, where control groups can be made; None: half of the machine's."""

    log_file_bytes: int = 8 * 2**20
    """A replica's log file is rotated at this size."""

    log_files: int = 3
    """Rotated log files kept per replica, the current one included."""

    ended_replicas: int = 20
    """Ended replicas whose logs are kept, per service."""

    ready_seats: int = 4
    """Processes that stand ready to become replicas, each confined as far as it can be before it is known what it will
    be: so many can start at once without waiting for one to be made."""

    access_log_bytes: int = 32 * 2**20
    """The gateway's access log is rotated at this size."""

    builds_bytes: int = 20 * 2**30
    """Builds kept, in all. Past it, those that nothing runs on go, the longest unused first: they are built again
    when they are wanted."""

    blobs_bytes: int = 10 * 2**30
    """Sources kept, in all. Past it, those of revisions without a part of the traffic go, the longest unused first."""

    logs_bytes: int = 2 * 2**30
    """Logs kept, in all. Past it, those of ended replicas and of builds go, the oldest first."""

    cache_bytes: int = 10 * 2**30
    """The package managers' caches, in all. Past it, the longest unused goes, whole, while nothing is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """An agent's settings."""

    data_dir: Path
    """Everything the agent owns lives below it (`agent/`), its sockets included."""

    control_url: str
    """Where the control plane answers, `http://HOST:PORT`."""

    token_file: Path | None = None
    """The file that holds the site's token (0600), for the site `local`; None: the site has joined, and proves itself
    with its certificate."""

    gateway: str = DEFAULT_GATEWAY
    """Where the gateway listens, HOST:PORT; port 0 takes a free one and keeps it."""

    status: str = "127.0.0.1:0"
    """Where the agent's own /livez, /readyz and /metrics listen."""

    load_report_interval: timedelta = timedelta(milliseconds=100)
    """How often the gateway reports what is in flight, for services that are awake."""

    gateway_workers: int = 1
    """Envoy's worker threads. One keeps every `max_concurrency` exactly, and uses one core at the most;
    with N, a limit below N may be exceeded by N - 1."""

    tls: str | None = None
    """Where the gateway listens with TLS, HOST:PORT; port 0 takes a free one and keeps it. None: nowhere."""

    certificates: Path | None = None
    """The folder of the certificates, `NAME.crt` with `NAME.key`; None: `certificates` in the data folder."""

    packs: Path | None = None
    """A folder of packs that are asked here besides the law: this machine's owner pins them. None: there are none."""

    peers: str | None = None
    """Where the gateway takes what other sites' gateways send, HOST:PORT, once the site has an identity; port 0 takes a
    free one and keeps it. None: nowhere."""

    peers_address: str | None = None
    """Where other sites reach that, HOST:PORT, where it is not `peers` itself: behind an address translation, say."""

    tunnel: bool = False
    """Other sites cannot dial this one: it holds tunnels to those that can be dialled, and takes what they send through
    these."""

    gateway_memory: int | None = None
    """Bytes that the gateway may hold; near them it refuses new requests rather than be killed. None: a quarter of the
    machine's memory, 1 GiB at the least."""

    gateway_connections: int = DEFAULT_GATEWAY_CONNECTIONS
    """Callers' connections at a time; the next are refused. Fewer where the gateway may open too few files."""

    holding: Holding = Holding()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The control plane's settings."""

    data_dir: Path
    """Everything the control plane owns lives below it (`control/`)."""

    api: str = DEFAULT_API
    """Where the API listens, HOST:PORT; port 0 takes a free one and keeps it."""

    sites: str | None = None
    """Where sites that joined dial in, HOST:PORT, with TLS; port 0 takes a free one and keeps it. None: nowhere, and
    the site `local` is the only one."""

    database_url: str | None = None
    """SQLAlchemy's URL; None: SQLite below the data folder."""

    base_domain: str = DEFAULT_BASE_DOMAIN
    """Services answer at NAME.BASE_DOMAIN."""

    country: str | None = None
    """The country of the site `local`, ISO 3166-1 alpha-2, as its owner declares it."""

    ticket_lifetime: timedelta = timedelta(minutes=10)
    """How long a ticket for a site's door is good."""
