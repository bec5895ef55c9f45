"""Who gets a service's traffic: show it, divide it between revisions, return it to one that served before."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from kasbah.cli import context, render
from kasbah.cli import rollouts as rolling
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption, ServiceName
from kasbah.cli.progress import progress
from kasbah.cli.render import Output
from kasbah.errors import Invalid

PERCENT = re.compile(r"[0-9]{1,3}")
ROLLBACK_SECONDS = 120.0


def traffic(
    name: ServiceName,
    shares: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REVISION=PERCENT...]", help="In all 100; a revision with 0 is kept at hand."),
    ] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show or divide a service's traffic between its revisions.

    A revision can be given by the beginning of its id. Dividing by hand ends a rollout that is under way.
    """
    divided = [_share(one) for one in shares or []]
    with Client(context.find(), project=project) as client:
        if divided:
            client.post(service_path(name, "traffic"), {"shares": divided})
        detail = client.get(service_path(name))
    parts = [one for one in detail["revisions"] if one["percent"] is not None]
    if output is not Output.TABLE:
        render.document([{key: one[key] for key in ("id", "percent", "url", "host")} for one in parts], output)
        return
    rows = [(one["id"], f"{one['percent']}%", one["url"], render.moment(one["created_at"])) for one in parts]
    render.table(("REVISION", "SHARE", "URL", "MADE"), rows, empty=f"{name} serves nothing yet")


def rollback(
    name: ServiceName,
    to: Annotated[
        str | None, typer.Option("--to", metavar="REVISION", help="This one. [default: what served before]")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Return a service to a revision that served before.

    At once, while its build is kept. In the middle of a rollout, without --to, traffic returns to where it was.
    """
    with Client(context.find(), project=project) as client, progress(output) as steps:
        rollout = client.post(service_path(name, "rollback"), {} if to is None else {"to": to})
        back = rollout["state"] == "superseded"
        if not back and not no_wait:
            rollout = rolling.follow(client, rollout, name, steps, seconds=ROLLBACK_SECONDS, look=lambda _: None)
            rolling.check(rollout, name)
    if output is not Output.TABLE:
        render.document(rollout, output)
        return
    render.say(_returned(name, rollout, back=back))


def rollouts(name: ServiceName, project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE) -> None:
    """List a service's rollouts, the last first."""
    with Client(context.find(), project=project) as client:
        found = list(client.pages(service_path(name, "rollouts")))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    headers = ("STARTED", "CAUSE", "REVISION", "BEFORE", "STRATEGY", "MOVED", "STATE", "REASON")
    render.table(headers, [_row(one) for one in found], empty=f"{name} was never rolled out")


def _row(one: Document) -> tuple[object, ...]:
    return (
        render.moment(one["started_at"]),
        one["cause"],
        one["revision"],
        one["previous"] or "",
        one["strategy"],
        f"{one['percent']}%",
        one["state"],
        one["reason"] or one["step"],
    )


def _returned(name: str, rollout: Document, *, back: bool) -> str:
    if back:
        return f"{name}: traffic is back where it was before the rollout of {rollout['revision']}"
    if rollout["state"] in rolling.SERVES:
        return f"{name}: revision {rollout['revision']} serves again"
    return f"{name} is returning to revision {rollout['revision']}"


def _share(text: str) -> Document:
    revision, _, percent = text.partition("=")
    number = percent.removesuffix("%")
    if not revision or not PERCENT.fullmatch(number) or int(number) > 100:
        raise Invalid(
            f"{text!r} is no share: write REVISION=PERCENT, such as rv-1a2b3c=10",
            hint="percents are whole, and add up to 100",
            where="REVISION=PERCENT",
            code="usage",
        )
    return {"revision": revision, "percent": int(number)}
