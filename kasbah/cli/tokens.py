"""`kasbah tokens`: credentials of those who use this API."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from kasbah.cli import context, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption, RevokedOption
from kasbah.cli.render import Output

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Tokens that open this API.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is, or what it is for.")],
    scope: Annotated[list[str], typer.Option("--scope", "-s", help="read, deploy, keys or admin; as often as needed.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token. It is shown this once only."""
    with Client(context.find()) as client:
        made = client.post("/tokens", {"name": name, "scopes": scope})
    if output is not Output.TABLE:
        render.document(made, output)
        return
    print(made["token"])
    render.say(f"This is token {made['id']}, shown this once only: keep it. Use it as KASBAH_TOKEN.")


@app.command("list")
def list_(revoked: RevokedOption = False, output: OutputOption = Output.TABLE) -> None:
    """List the tokens, without the tokens themselves."""
    with Client(context.find()) as client:
        tokens = list(client.pages("/tokens", revoked=str(revoked).lower()))
    if output is not Output.TABLE:
        render.document(tokens, output)
        return
    headers = ("ID", "NAME", "SCOPES", "MADE", "STATE")
    render.table(headers, [_row(token) for token in tokens], empty="no tokens")


@app.command()
def revoke(token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name.")]) -> None:
    """Make a token open nothing any more."""
    with Client(context.find()) as client:
        client.delete(f"/tokens/{quote(token, safe='')}")
    render.say(f"{token} is revoked")


def _row(token: Document) -> tuple[object, ...]:
    return (
        token["id"],
        token["name"],
        ", ".join(token["scopes"]),
        render.moment(token["created_at"]),
        "revoked" if token["revoked_at"] else "ok",
    )
