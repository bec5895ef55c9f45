"""Services that exist: list, describe, scale, put to sleep, wake, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from kasbah.cli import context, describing, render
from kasbah.cli.asking import confirm_deletion
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption, ServiceName
from kasbah.cli.render import Output
from kasbah.errors import Invalid


def ps(
    all_projects: Annotated[bool, typer.Option("--all-projects", "-A", help="Those of every project.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the services."""
    with Client(context.find(), project=None if all_projects else project) as client:
        services = list(client.pages("/services"))
    if output is not Output.TABLE:
        render.document(services, output)
        return
    rows = [(service["project"],) * all_projects + _row(service) for service in services]
    headers = ("PROJECT",) * all_projects + ("NAME", "STATE", "READY", "ACCESS", "DATA", "SITES", "URL", "REASON")
    render.table(headers, rows, empty="no services yet: deploy one with `kasbah deploy FOLDER`")


def describe(name: ServiceName, project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE) -> None:
    """Show everything known about a service."""
    with Client(context.find(), project=project) as client:
        detail = client.get(service_path(name))
    if output is not Output.TABLE:
        render.document(detail, output)
        return
    describing.show(detail)


def scale(
    name: ServiceName,
    replicas: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Exactly so many: the least and the most.", min=0, max=100)
    ] = None,
    least: Annotated[int | None, typer.Option("--min", help="The least; 0 lets it sleep.", min=0, max=100)] = None,
    most: Annotated[int | None, typer.Option("--max", help="The most.", min=1, max=100)] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change how many replicas a service has."""
    bounds = _bounds(replicas, least, most)
    with Client(context.find(), project=project) as client:
        _changed(client.post(service_path(name, "scale"), bounds), output, "has new bounds")


def sleep(
    name: ServiceName,
    stop: Annotated[bool, typer.Option("--stop", help="Stop it; without this it is frozen.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a service to sleep now."""
    with Client(context.find(), project=project) as client:
        rung = {"rung": "stopped" if stop else "frozen"}
        _changed(client.post(service_path(name, "sleep"), rung), output, "is going to sleep")


def wake(name: ServiceName, project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE) -> None:
    """Wake a service now."""
    with Client(context.find(), project=project) as client:
        _changed(client.post(service_path(name, "wake")), output, "is waking")


def delete(
    name: ServiceName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
) -> None:
    """Remove a service and everything made from it."""
    with Client(context.find(), project=project) as client:
        keeps = client.get(service_path(name))["volumes"]
        if not yes:
            confirm_deletion(name, f"Delete {name}, its revisions, builds and logs?")
        client.delete(service_path(name))
    render.say(f"{name} is deleted" + ("; its volumes are kept: see `kasbah volumes list`" if keeps else ""))


def _row(service: Document) -> tuple[object, ...]:
    return (
        service["name"],
        service["state"],
        f"{service['ready']}/{service['replicas']}",
        service["access"],
        service["data"]["level"] + ("" if service["data_declared"] else " (assumed)"),
        ", ".join(one["site"] for one in service["placements"]) or "none",
        service["url"],
        service["reason"],
    )


def _bounds(replicas: int | None, least: int | None, most: int | None) -> Document:
    if replicas is not None and (least is not None or most is not None):
        raise Invalid("give either N or --min and --max", code="usage")
    if replicas is not None:
        # `scale NAME 0` lets it sleep; there is no maximum of nothing.
        return {"min": replicas, "max": max(replicas, 1)}
    bounds = {key: value for key, value in (("min", least), ("max", most)) if value is not None}
    if not bounds:
        raise Invalid("how many? give N, --min or --max", code="usage")
    return bounds


def _changed(service: Document, output: Output, what: str) -> None:
    """Tell of a change that sites make in their own time; what `service` says was seen before it."""
    if output is not Output.TABLE:
        render.document(service, output)
        return
    render.say(f"{service['name']} {what}; it was {service['state']}")
