"""`kasbah deployers`: who may sign what is deployed. The owner names them; each has a key of his own."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from kasbah.api.owner import DEPLOYER, load_or_make, sign_document
from kasbah.api.signing import parse_public, public_text
from kasbah.cli import context, grants, render, signing
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.owner_key import OwnerKeyOption, owner_key
from kasbah.cli.render import Output
from kasbah.clock import SystemClock
from kasbah.domain.grant import Deployer, GrantKind
from kasbah.domain.ids import ProjectId
from kasbah.domain.label import LevelName
from kasbah.errors import Invalid

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Who may sign what is deployed.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def deployers() -> None:
    """Who may sign what is deployed."""


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the deployers that the owner named, the newest first, ended ones too."""
    with Client(context.find()) as client:
        found = [one for one in client.pages("/policy/grants") if one["kind"] == GrantKind.DEPLOYER]
    if output is not Output.TABLE:
        render.document(found, output)
        return
    rows = [
        (
            one["id"],
            one["name"],
            ", ".join(one["projects"]) or "all",
            one["max_level"],
            render.moment(one["expires_at"]),
            grants.state(one),
            one["key"],
        )
        for one in found
    ]
    headers = ("ID", "NAME", "PROJECTS", "UP TO", "UNTIL", "STATE", "KEY")
    render.table(headers, rows, empty="nobody is named yet")


@app.command()
def key(output: OutputOption = Output.TABLE) -> None:
    """Show the public half of your own deployer's key, which is made if there is none."""
    path = signing.own_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    private, made = load_or_make(path, whose="deployer")
    public = public_text(private)
    if output is not Output.TABLE:
        render.document({"key": public, "path": str(path), "made": made}, output)
        return
    render.say(f"{'A key was made' if made else 'Your key is'}: {path}. It stays there, and nobody needs a copy.")
    print(public)
    render.say(f"Have the owner name it:  kasbah deployers add NAME --key {public} --evidence WHY --expires 90d")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call them.")],
    public: Annotated[str, typer.Option("--key", help="Their public key, as `kasbah deployers key` shows it.")],
    evidence: grants.Evidence,
    expires: grants.Expires,
    whole_project: Annotated[
        list[str] | None, typer.Option("--all-of", help="A project, as often as needed; none: all projects.")
    ] = None,
    max_level: Annotated[
        LevelName, typer.Option("--max-level", help="The highest label of what they deploy.")
    ] = LevelName.VITAL,
    owner: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Name a deployer, signed by the owner."""
    signer, now = owner_key(owner), SystemClock().now()
    try:
        parse_public(public)
    except ValueError as error:
        hint = "give what `kasbah deployers key` prints, which begins with ed25519:"
        raise Invalid(f"{public!r} is no public key", where="--key", hint=hint, code="usage") from error
    with Client(context.find()) as client:
        document = Deployer(
            installation=grants.installation_of(client),
            name=name,
            key=public,
            projects=tuple(ProjectId(grants.id_of(client, "/projects", "project", one)) for one in whole_project or ()),
            max_level=max_level.level,
            evidence=evidence,
            issued_at=now,
            expires_at=grants.until(expires, now),
        )
        made: Document = grants.send(client, GrantKind.DEPLOYER, sign_document(signer, DEPLOYER, document))
    grants.show(made, output, f"{name} may sign what is deployed")


@app.command()
def revoke(
    deployer: Annotated[str, typer.Argument(metavar="ID", help="The id, as `kasbah deployers list` shows it.")],
) -> None:
    """Name a deployer no more, at once: nothing new is taken by that key; what runs goes on."""
    with Client(context.find()) as client:
        client.delete(f"/policy/grants/{quote(deployer, safe='')}")
    render.say(f"{deployer} is taken back")
