"""Options that several commands share, so that they read and behave alike."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kasbah.cli.render import Output

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
