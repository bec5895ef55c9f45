"""`kasbah keys`: credentials of those who call services."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from kasbah.cli import context, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import (
    DEFAULT_PROJECT,
    DeployerKeyOption,
    ExpiresOption,
    MaxLevelOption,
    OutputOption,
    ProjectOption,
    RevokedOption,
    seconds,
)
from kasbah.cli.render import Output
from kasbah.errors import KasbahError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Keys that open services.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Its id, or its name.")]

ARRIVAL_SECONDS = 10
"""How long a command waits for the sites to act on what it did."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or what it is for.")],
    service: Annotated[
        list[str] | None,
        typer.Option("--service", "-s", help="A service that it opens, as often as needed; none: all."),
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Who answers for it. [default: you]")
    ] = None,
    max_level: MaxLevelOption = None,
    expires: ExpiresOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    deployer_key: DeployerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key, and sign it. It is shown this once only."""
    from kasbah.cli.signing import key_to_make

    body: Document = {
        "name": name,
        "services": service or [],
        "owner": owner,
        "max_level": max_level,
        "expires_in_seconds": seconds(expires),
    }
    with Client(context.find(), project=project) as client:
        asked, key = key_to_make(client, project, body, deployer_key)
        made = {**client.post("/keys", asked), "key": key}
        if output is not Output.TABLE:
            render.document(made, output)
        else:
            _show(made, max_level)
        _tell(client, made["id"], "let it in", late="refuses it")


def _show(made: Document, max_level: str | None) -> None:
    print(made["key"], flush=True)
    render.say(f"This is key {made['id']}, shown this once only: keep it. Send it as `Authorization: Bearer KEY`.")
    if made["opens_up_to"] == "restricted" != max_level:
        render.say(
            "It opens nothing that is sensitive or has no label: that takes the signature of a deployer whom the owner "
            "has named (--deployer-key PATH; kasbah deployers add)."
        )


@app.command("list")
def list_(
    revoked: RevokedOption = False, project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE
) -> None:
    """List the keys, without the keys themselves."""
    with Client(context.find(), project=project) as client:
        keys = list(client.pages("/keys", revoked=str(revoked).lower()))
    if output is not Output.TABLE:
        render.document(keys, output)
        return
    headers = ("ID", "NAME", "SERVICES", "OWNER", "UP TO", "EXPIRES", "STATE")
    render.table(headers, [_row(key) for key in keys], empty="no keys yet: make one with `kasbah keys create NAME`")


@app.command()
def disable(key: KeyName, project: ProjectOption = DEFAULT_PROJECT) -> None:
    """Switch a key off: it opens nothing until it is switched on again."""
    with Client(context.find(), project=project) as client:
        found = client.post(f"/keys/{quote(key, safe='')}/disable")
        render.say(f"{key} is switched off")
        _tell(client, found["id"], "refuse it", late="lets it in")


@app.command()
def enable(key: KeyName, project: ProjectOption = DEFAULT_PROJECT) -> None:
    """Switch a key on again."""
    with Client(context.find(), project=project) as client:
        found = client.post(f"/keys/{quote(key, safe='')}/enable")
        render.say(f"{key} is switched on")
        _tell(client, found["id"], "let it in", late="refuses it")


@app.command()
def revoke(key: KeyName, project: ProjectOption = DEFAULT_PROJECT) -> None:
    """Make a key open nothing any more."""
    with Client(context.find(), project=project) as client:
        found = client.delete(f"/keys/{quote(key, safe='')}")
        render.say(f"{key} is revoked")
        _tell(client, found["id"], "refuse it", late="lets it in")


def _tell(client: Client, key: str, does: str, *, late: str) -> None:
    """Wait until the sites act on it, and say which do not."""
    try:
        found = client.get(f"/keys/{key}/arrival", wait=ARRIVAL_SECONDS)
    except KasbahError as error:
        render.say(f"Whether the sites {does} already is not known: {error}")
        return
    away = found["away"]
    for site in found["behind"]:
        until = "until it is heard again" if site in away else f"still: see `kasbah sites describe {site}`"
        render.say(f"{site} is {'not heard at present' if site in away else 'slow'}, and {late} {until}.")


def _row(key: Document) -> tuple[object, ...]:
    services = key["services"]
    return (
        key["id"],
        key["name"],
        "all" if services is None else ", ".join(services),
        key["owner"],
        key["opens_up_to"],
        render.moment(key["expires_at"]) or "never",
        key["state"],
    )
