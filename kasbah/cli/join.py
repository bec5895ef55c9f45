"""`kasbah join`: makes this machine a site of an installation. Its agent is then started with `kasbah agent`."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from kasbah.api.joining import read_token
from kasbah.api.quantities import parse_duration
from kasbah.cli import render
from kasbah.cli.options import DataDir
from kasbah.cli.record import data_folder
from kasbah.errors import Invalid

LONGEST_TOKEN = 4_096


def join(
    control_url: Annotated[
        str, typer.Option("--control-url", help="Where sites dial in: what `kasbah up --sites` printed.")
    ],
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="The file that holds the token. [default: standard input]", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    patience: Annotated[str, typer.Option("--wait", help="How long to wait for somebody to approve it.")] = "15m",
) -> None:
    """Make this machine a site, with a token that `kasbah sites token` made.

    The token is read from standard input, so that it stands in no list of processes. A code is shown, which somebody
    who may has to compare and approve.
    """
    try:
        longest = parse_duration(patience)
    except ValueError as error:
        raise Invalid(str(error), where="--wait", code="usage") from error
    if not control_url.startswith("https://"):
        raise Invalid(f"{control_url!r} is no https URL", where="--control-url", code="usage")
    token = read_token(_read(token_file).strip())
    folder = data_folder(data_dir).path
    from kasbah.agent.join import join as ask
    from kasbah.agent.paths import Paths

    def show(code: str) -> None:
        render.say(f"This machine asks to be the site {token.site}. Its code: {code}")
        render.say(f"Somebody who may now says: kasbah sites approve {token.site} {code}")

    known = ask(Paths(folder), control_url.rstrip("/"), token, show=show, patience=_bounded(longest))
    render.say(f"This machine is the site {known.site_name} ({known.site}).")
    render.say(f"Start it with: kasbah agent --control-url {control_url} --data-dir {folder}")


def _read(path: Path | None) -> str:
    try:
        return path.read_text() if path is not None else sys.stdin.read(LONGEST_TOKEN)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the token cannot be read: {error}", where=str(path or "standard input")) from error


def _bounded(patience: timedelta) -> timedelta:
    return min(patience, timedelta(days=1))
