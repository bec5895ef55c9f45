"""`kasbah tokens`: who may use this API, and what each may."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from kasbah.cli import context, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import ExpiresOption, MaxLevelOption, OutputOption, RevokedOption, seconds
from kasbah.cli.render import Output
from kasbah.domain.access import Action, PrincipalKind, Role
from kasbah.errors import Invalid

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Tokens that open this API.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

TokenName = Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is, or what it is for.")],
    role: Annotated[
        list[Role] | None, typer.Option("--role", "-r", help="What its holder may; as often as needed.")
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            "--action", "-a", metavar="ACTION", help="A single right, such as service.deploy; as often as needed."
        ),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "-p", metavar="NAME", help="In this project only; as often as needed."),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="In every project, and for the installation itself.")
    ] = False,
    kind: Annotated[
        PrincipalKind, typer.Option("--kind", help="Who holds it. Software makes no tokens.")
    ] = PrincipalKind.PERSON,
    max_level: MaxLevelOption = None,
    expires: ExpiresOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a token. It is shown this once only."""
    body: Document = {
        "name": name,
        "kind": kind,
        "grants": _grants(role or [], action or [], _where(project or [], everywhere=everywhere)),
        "max_level": max_level,
        "expires_in_seconds": seconds(expires),
    }
    with Client(context.find()) as client:
        made = client.post("/tokens", body)
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
    headers = ("ID", "NAME", "KIND", "MAY", "UP TO", "EXPIRES", "STATE")
    render.table(headers, [_row(token) for token in tokens], empty="no tokens")


@app.command()
def disable(token: TokenName) -> None:
    """Switch a token off: it is worth nothing until it is switched on again."""
    with Client(context.find()) as client:
        client.post(f"/tokens/{quote(token, safe='')}/disable")
    render.say(f"{token} is switched off")


@app.command()
def enable(token: TokenName) -> None:
    """Switch a token on again."""
    with Client(context.find()) as client:
        client.post(f"/tokens/{quote(token, safe='')}/enable")
    render.say(f"{token} is switched on")


@app.command()
def revoke(token: TokenName) -> None:
    """Make a token open nothing any more."""
    with Client(context.find()) as client:
        client.delete(f"/tokens/{quote(token, safe='')}")
    render.say(f"{token} is revoked")


def _where(projects: list[str], *, everywhere: bool) -> list[str | None]:
    """The projects that are meant; None stands for all of them. Nobody gets everything by leaving a word out."""
    if everywhere == bool(projects):
        raise Invalid(
            "a token is for some projects, or for everything",
            hint="give --project NAME, as often as needed, or --everywhere",
            code="usage",
        )
    return [*projects] if projects else [None]


def _grants(roles: list[Role], actions: list[str], where: list[str | None]) -> list[Document]:
    """Each role, and all of the actions, in each place."""
    known = [one.value for one in Action]
    for one in actions:
        if one not in known:
            raise Invalid(f"there is no action {one!r}", where="--action", hint=", ".join(known), code="usage")
    if not roles and not actions:
        raise Invalid("it would be allowed nothing", hint=f"give --role ({', '.join(Role)}), or --action", code="usage")
    named: list[Document] = [{"project": project, "actions": actions} for project in where if actions]
    return [*({"project": project, "role": role} for project in where for role in roles), *named]


def _row(token: Document) -> tuple[object, ...]:
    return (
        token["id"],
        token["name"],
        token["kind"],
        "; ".join(_told(grant) for grant in token["grants"]),
        token["max_level"] or "any",
        render.moment(token["expires_at"]) or "never",
        token["state"],
    )


def _told(grant: Document) -> str:
    """A grant in few words."""
    actions = grant["actions"]
    many = f"{len(actions)} actions" if len(actions) > 3 else ", ".join(actions)
    what = ", ".join(part for part in (grant["role"], many) if part)
    return f"{what} in {grant['project']}" if grant["project"] else f"{what} everywhere"
