"""`kasbah control` and `kasbah agent`: the parts of `kasbah up` alone, for a service manager. Flags become settings."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from kasbah import settings
from kasbah.api.quantities import format_duration, parse_duration, parse_size
from kasbah.cli import lifeline
from kasbah.cli.addresses import parse_address, parse_country, parse_domain, parse_peers, parse_tls
from kasbah.cli.loading import quick_imports
from kasbah.cli.options import (
    CertificatesOption,
    DataDir,
    PacksOption,
    PeersAddressOption,
    PeersOption,
    SitesOption,
    TlsOption,
)
from kasbah.cli.record import data_folder
from kasbah.errors import Invalid

LEAST_GATEWAY_MEMORY = 256 * 2**20
LoadReportInterval = Annotated[
    str, typer.Option("--load-report-interval", help="How often the gateway reports what is in flight.")
]
GatewayWorkers = Annotated[int, typer.Option("--gateway-workers", help="Envoy's worker threads.", min=1, max=1_024)]
GatewayMemory = Annotated[
    str | None,
    typer.Option(
        "--gateway-memory",
        help="What the gateway may hold; near that it refuses new requests. [default: a quarter of the machine's]",
        show_default=False,
    ),
]
GatewayConnections = Annotated[
    int, typer.Option("--gateway-connections", help="Callers' connections at a time; the next are refused.", min=1)
]
Tunnel = Annotated[bool, typer.Option("--tunnel", help="Other sites cannot dial this one: hold tunnels to them.")]
HeldPerService = Annotated[int, typer.Option("--held-per-service", help="Callers held while a service wakes.", min=1)]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="The file that holds the token of the site `local`; a site that joined has a certificate.",
        show_default=False,
    ),
]
HeldPerSite = Annotated[
    int, typer.Option("--held-per-site", help="Callers held at the site, all services together.", min=1)
]
SourceBytes = Annotated[int, typer.Option("--source-bytes", help="The largest source taken, compressed.", min=1)]
BuildSeconds = Annotated[int, typer.Option("--build-seconds", help="A build that takes longer has failed.", min=1)]
BuildMemory = Annotated[
    str | None,
    typer.Option(
        "--build-memory",
        help="What a build may have, where the machine has control groups. [default: half of the machine's]",
        show_default=False,
    ),
]
AccessLogBytes = Annotated[
    int, typer.Option("--access-log-bytes", help="The gateway's access log is rotated at this size.", min=4_096)
]
Lifeline = Annotated[int | None, typer.Option("--lifeline", hidden=True, help="End when this descriptor is closed.")]


def _default(of: type[Any], name: str) -> Any:
    found = next(one for one in fields(of) if one.name == name).default
    assert found is not MISSING
    return format_duration(found) if isinstance(found, timedelta) else found


LOAD_REPORT_INTERVAL = _default(settings.AgentSettings, "load_report_interval")
GATEWAY_WORKERS = _default(settings.AgentSettings, "gateway_workers")
HELD_PER_SERVICE = _default(settings.Holding, "per_service")
HELD_PER_SITE = _default(settings.Holding, "per_site")
SOURCE_BYTES = _default(settings.Limits, "source_bytes")
BUILD_SECONDS = _default(settings.Limits, "build_seconds")
ACCESS_LOG_BYTES = _default(settings.Limits, "access_log_bytes")


def control(
    data_dir: DataDir = None,
    api: Annotated[
        str, typer.Option("--api", metavar="HOST:PORT", help="Where the API listens; port 0 takes a free one.")
    ] = settings.DEFAULT_API,
    sites: SitesOption = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", envvar="KASBAH_DATABASE_URL", help="SQLAlchemy's URL; none: SQLite in the data folder."
        ),
    ] = None,
    base_domain: Annotated[
        str, typer.Option("--base-domain", metavar="DOMAIN", help="Services answer at NAME.BASE_DOMAIN.")
    ] = settings.DEFAULT_BASE_DOMAIN,
    country: Annotated[
        str | None, typer.Option("--country", metavar="CODE", help="The country of the site `local`, such as MA.")
    ] = None,
    ticket_lifetime: Annotated[
        str, typer.Option("--ticket-lifetime", help="How long a ticket for a site's door is good.")
    ] = _default(settings.ControlSettings, "ticket_lifetime"),
    lifeline_fd: Lifeline = None,
) -> None:
    """Run a control plane alone, for a service manager."""
    chosen = settings.ControlSettings(
        data_dir=data_folder(data_dir).path,
        api=str(parse_address(api, option="--api")),
        sites=None if sites is None else str(parse_address(sites, option="--sites")),
        database_url=database_url,
        base_domain=parse_domain(base_domain),
        country=None if country is None else parse_country(country),
        ticket_lifetime=_duration(ticket_lifetime, "--ticket-lifetime"),
    )
    _begin(lifeline_fd)
    with quick_imports():
        from kasbah.control.app import run

    run(chosen)


def agent(
    control_url: Annotated[str, typer.Option("--control-url", help="Where the control plane answers.")],
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    gateway: Annotated[
        str, typer.Option("--gateway", metavar="HOST:PORT", help="Where the gateway listens; port 0 takes a free one.")
    ] = settings.DEFAULT_GATEWAY,
    tls: TlsOption = None,
    certificates: CertificatesOption = None,
    packs: PacksOption = None,
    peers: PeersOption = None,
    peers_address: PeersAddressOption = None,
    tunnel: Tunnel = False,
    status: Annotated[
        str, typer.Option("--status", metavar="HOST:PORT", help="Where /livez, /readyz and /metrics listen.")
    ] = _default(settings.AgentSettings, "status"),
    load_report_interval: LoadReportInterval = LOAD_REPORT_INTERVAL,
    gateway_workers: GatewayWorkers = GATEWAY_WORKERS,
    gateway_memory: GatewayMemory = None,
    gateway_connections: GatewayConnections = settings.DEFAULT_GATEWAY_CONNECTIONS,
    held_per_service: HeldPerService = HELD_PER_SERVICE,
    held_per_site: HeldPerSite = HELD_PER_SITE,
    source_bytes: SourceBytes = SOURCE_BYTES,
    build_seconds: BuildSeconds = BUILD_SECONDS,
    build_memory: BuildMemory = None,
    log_file_bytes: Annotated[
        int, typer.Option("--log-file-bytes", help="A replica's log is rotated at this size.", min=4_096)
    ] = _default(settings.Limits, "log_file_bytes"),
    log_files: Annotated[int, typer.Option("--log-files", help="Log files kept per replica.", min=1)] = _default(
        settings.Limits, "log_files"
    ),
    ended_replicas: Annotated[
        int, typer.Option("--ended-replicas", help="Ended replicas whose logs are kept, per service.", min=0)
    ] = _default(settings.Limits, "ended_replicas"),
    access_log_bytes: AccessLogBytes = ACCESS_LOG_BYTES,
    lifeline_fd: Lifeline = None,
) -> None:
    """Run a site's agent alone, for a service manager."""
    tls_address = parse_tls(tls, certificates)
    chosen = settings.AgentSettings(
        data_dir=data_folder(data_dir).path,
        control_url=control_url.rstrip("/"),
        token_file=None if token_file is None else token_file.absolute(),
        gateway=str(parse_address(gateway, option="--gateway")),
        status=str(parse_address(status, option="--status")),
        load_report_interval=_duration(load_report_interval, "--load-report-interval"),
        gateway_workers=gateway_workers,
        tls=None if tls_address is None else str(tls_address),
        certificates=None if certificates is None else certificates.absolute(),
        packs=None if packs is None else packs.absolute(),
        peers=parse_peers(peers, peers_address, tunnel=tunnel),
        peers_address=peers_address,
        tunnel=tunnel,
        gateway_memory=None if gateway_memory is None else _size(gateway_memory, "--gateway-memory"),
        gateway_connections=gateway_connections,
        holding=settings.Holding(per_service=held_per_service, per_site=held_per_site),
        limits=settings.Limits(
            source_bytes=source_bytes,
            build_seconds=build_seconds,
            build_memory=None if build_memory is None else _size(build_memory, "--build-memory", "a build"),
            log_file_bytes=log_file_bytes,
            log_files=log_files,
            ended_replicas=ended_replicas,
            access_log_bytes=access_log_bytes,
        ),
    )
    _begin(lifeline_fd)
    _run_agent(chosen)


def _run_agent(chosen: settings.AgentSettings) -> None:
    with quick_imports():
        from kasbah import log
        from kasbah.agent.entry import run

    log.configure()
    run(chosen)


def _begin(lifeline_fd: int | None) -> None:
    if lifeline_fd is not None:
        lifeline.follow(lifeline_fd)


def _duration(text: str, option: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Invalid(str(error), where=option, code="usage") from error


def _size(text: str, option: str, whose: str = "a gateway") -> int:
    try:
        size = parse_size(text)
    except ValueError as error:
        raise Invalid(str(error), where=option, code="usage") from error
    if size < LEAST_GATEWAY_MEMORY:
        raise Invalid(f"{text} is too little for {whose}", where=option, code="usage", hint="256Mi is the least")
    return size
