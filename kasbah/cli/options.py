"""Options that several commands share, so that they read and behave alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kasbah.api.quantities import parse_duration
from kasbah.cli.render import Output
from kasbah.domain.label import LevelName
from kasbah.errors import Invalid

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the result.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where Kasbah keeps everything. [default: ~/.local/share/kasbah]", show_default=False
    ),
]

DEFAULT_PROJECT = "default"
ProjectOption = Annotated[
    str, typer.Option("--project", "-p", envvar="KASBAH_PROJECT", help="The project that the name belongs to.")
]
DeployerKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--deployer-key",
        metavar="PATH",
        envvar="KASBAH_DEPLOYER_KEY",
        help="What to sign with. [default: the data folder's, or yours: kasbah deployers key]",
        show_default=False,
    ),
]
TlsOption = Annotated[
    str | None,
    typer.Option("--tls", metavar="HOST:PORT", help="Where services answer with TLS; port 0 takes a free one."),
]
CertificatesOption = Annotated[
    Path | None,
    typer.Option(
        "--certificates",
        metavar="FOLDER",
        help="NAME.crt with NAME.key, PEM; reloaded as they change. [default: certificates in the data folder]",
        show_default=False,
    ),
]

PacksOption = Annotated[
    Path | None,
    typer.Option(
        "--packs",
        metavar="FOLDER",
        help="Packs of this machine's owner: they are asked here besides the law. [default: none]",
        show_default=False,
    ),
]

SitesOption = Annotated[
    str | None,
    typer.Option(
        "--sites",
        metavar="HOST:PORT",
        help="Where other sites dial in, with TLS. [default: nowhere]",
        show_default=False,
    ),
]

PeersOption = Annotated[
    str | None,
    typer.Option("--peers", metavar="HOST:PORT", help="Where the gateway takes what other sites' gateways send."),
]
PeersAddressOption = Annotated[
    str | None,
    typer.Option(
        "--peers-address",
        metavar="HOST:PORT",
        help="Where other sites reach that. [default: what --peers says]",
        show_default=False,
    ),
]

MaxLevelOption = Annotated[
    LevelName | None,
    typer.Option("--max-level", help="The highest label of services that it may have to do with. [default: yours]"),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="DURATION", help="When it ends, from now: 12h, 30d. [default: as yours]"),
]


def seconds(expires: str | None) -> int | None:
    """The seconds that a typed duration stands for."""
    if expires is None:
        return None
    try:
        found = int(parse_duration(expires).total_seconds())
    except ValueError as error:
        raise Invalid(str(error), where="--expires", code="usage") from error
    if found < 1:
        raise Invalid(f"{expires!r} is over at once", where="--expires", hint="write 12h, or 30d", code="usage")
    return found


RevokedOption = Annotated[bool, typer.Option("--revoked", help="Those that open nothing any more, too.")]


def _service_names(typed: typer.Context) -> list[str]:
    """The names of the project's services, for the shell's completion; none where nothing answers."""
    from kasbah.cli import context
    from kasbah.cli.client import Client
    from kasbah.errors import KasbahError

    try:
        project = typed.params.get("project") or os.environ.get("KASBAH_PROJECT") or DEFAULT_PROJECT
        with Client(context.find(), project=project) as client:
            return [service["name"] for service in client.pages("/services")]
    except KasbahError:
        return []


ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="The service.", autocompletion=_service_names)]
