"""`kasbah policy approvals`, `kasbah policy approval`, `kasbah declassify`: what the owner grants, signed, with
evidence, for a time.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated
from urllib.parse import quote

import typer

from kasbah.api.owner import APPROVAL, DECLASSIFICATION, sign_document
from kasbah.api.quantities import parse_duration
from kasbah.cli import context, render
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.label_options import label_section
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption, ServiceName
from kasbah.cli.owner_key import OwnerKeyOption, owner_key
from kasbah.cli.render import Output
from kasbah.clock import SystemClock
from kasbah.domain.charter import Signed, end_of
from kasbah.domain.grant import Approval, Declassification, GrantKind
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import LevelName
from kasbah.errors import Invalid, NotFound

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Approvals that lift rules.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Evidence = Annotated[str, typer.Option("--evidence", help="Where it is written down: a file number, a decision.")]
Expires = Annotated[str, typer.Option("--expires", help="The last day it holds, such as 2027-06-30; or 90d from now.")]


def approvals(output: OutputOption = Output.TABLE) -> None:
    """List approvals and declassifications, the newest first, ended ones too."""
    with Client(context.find()) as client:
        found = [one for one in client.pages("/policy/grants") if one["kind"] != GrantKind.DEPLOYER]
    if output is not Output.TABLE:
        render.document(found, output)
        return
    rows = [
        (one["id"], _what(one), _for(one), render.moment(one["expires_at"]), state(one), one["evidence"])
        for one in found
    ]
    render.table(("ID", "GRANTS", "FOR", "UNTIL", "STATE", "EVIDENCE"), rows, empty="nothing was granted yet")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="APPROVAL", help="As rules know it (`lifted by`), such as cndp-f118.")],
    evidence: Evidence,
    expires: Expires,
    service: Annotated[
        list[str] | None, typer.Option("--service", "-s", help="A service it is for, as often as needed.")
    ] = None,
    whole_project: Annotated[
        list[str] | None, typer.Option("--all-of", help="A project, for all its services, as often as needed.")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="A site where it holds, as often as needed; none: everywhere.")
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    owner: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Record an approval that lifts a rule, signed by the owner."""
    key, now = owner_key(owner), SystemClock().now()
    if not service and not whole_project:
        raise Invalid("an approval is for somebody", where="--service", hint="name --service or --all-of", code="usage")
    with Client(context.find(), project=project) as client:
        document = Approval(
            installation=installation_of(client),
            name=name,
            services=tuple(ServiceId(client.get(service_path(one))["id"]) for one in service or ()),
            projects=tuple(ProjectId(id_of(client, "/projects", "project", one)) for one in whole_project or ()),
            sites=tuple(SiteId(id_of(client, "/sites", "site", one)) for one in site or ()),
            evidence=evidence,
            issued_at=now,
            expires_at=until(expires, now),
        )
        made = send(client, GrantKind.APPROVAL, sign_document(key, APPROVAL, document))
    show(made, output, f"{name} is approved")


@app.command()
def revoke(
    grant: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `kasbah policy approvals` lists it.")],
) -> None:
    """Take an approval or a declassification back, at once."""
    with Client(context.find()) as client:
        client.delete(f"/policy/grants/{quote(grant, safe='')}")
    render.say(f"{grant} is taken back")


def declassify(
    name: ServiceName,
    to: Annotated[LevelName, typer.Option("--to", help="The lowest level its label may have.")],
    evidence: Evidence,
    expires: Expires,
    category: Annotated[
        list[str] | None, typer.Option("--category", help="A category that stays, as often as needed.")
    ] = None,
    regime: Annotated[
        list[str] | None, typer.Option("--regime", help="A regime that stays, as often as needed.")
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    owner: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a service's label be lowered, for a time, signed by the owner.

    The label itself is lowered by the next deploy, and goes back by itself when this ends.
    """
    key, now = owner_key(owner), SystemClock().now()
    with Client(context.find(), project=project) as client:
        document = Declassification(
            installation=installation_of(client),
            service=ServiceId(client.get(service_path(name))["id"]),
            to=label_section(to, category or [], regime or []).to_domain(),
            evidence=evidence,
            issued_at=now,
            expires_at=until(expires, now),
        )
        made = send(client, GrantKind.DECLASSIFICATION, sign_document(key, DECLASSIFICATION, document))
    show(made, output, f"The label of {name} may be as low as {to.value}")


def until(text: str, now: datetime) -> datetime:
    """The moment at which a day has passed, or so long from now."""
    try:
        until = now + parse_duration(text) if text[-1:].isalpha() else end_of(date.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        problem = f"{text!r} is no day"
        raise Invalid(problem, where="--expires", hint="write 2027-06-30, or 90d", code="usage") from error
    if until <= now:
        raise Invalid(f"{text} is over", where="--expires", hint="name a day to come", code="usage")
    return until


def installation_of(client: Client) -> InstallationId:
    """The installation that a document is signed for."""
    return InstallationId(client.get("/installation")["id"])


def id_of(client: Client, path: str, kind: str, name: str) -> str:
    """The id of what is called so. Raises NotFound."""
    for one in client.pages(path):
        if one["name"] == name:
            return str(one["id"])
    raise NotFound(f"there is no {kind} {name!r}", hint=f"`kasbah {kind}s list` lists them")


def send(client: Client, kind: GrantKind, signed: Signed) -> Document:
    """Bring a signed grant to the control plane."""
    return client.post(
        "/policy/grants", {"kind": kind.value, "document": signed.document, "signature": signed.signature}
    )


def show(made: Document, output: Output, told: str) -> None:
    """Show what was granted."""
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(f"{told} until {render.moment(made['expires_at'])} ({made['id']}).")


def _what(one: Document) -> str:
    if one["to"] is None:
        return str(one["name"])
    to = one["to"]
    return " ".join(["label", to["level"], *to["categories"], *to["regimes"]])


def _for(one: Document) -> str:
    whom = [*one["services"], *(f"all of {each}" for each in one["projects"])]
    return ", ".join(whom) + (f" at {', '.join(one['sites'])}" if one["sites"] else "")


def state(one: Document) -> str:
    """Whether a grant holds."""
    if one["revoked_at"] is not None:
        return "revoked"
    return "in force" if one["in_force"] else "ended"
