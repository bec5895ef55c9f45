"""`kasbah projects`: tenants, whom names and keys belong to, and how much each may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote as quoted

import typer

from kasbah.api.quantities import format_size, parse_size
from kasbah.cli import context, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.errors import Invalid

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Projects, and how much each may have.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProjectName = Annotated[str, typer.Argument(metavar="NAME", help="The project.")]


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the projects, with what each uses of what it may have."""
    with Client(context.find()) as client:
        found = list(client.pages("/projects"))
    _show(found, found, output)


@app.command()
def create(name: ProjectName, output: OutputOption = Output.TABLE) -> None:
    """Make a project."""
    with Client(context.find()) as client:
        made = client.post("/projects", {"name": name})
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(f"Project {name} is there: use it with --project {name}, or set KASBAH_PROJECT.")


@app.command()
def delete(name: ProjectName) -> None:
    """Delete a project that has no services. Its keys open nothing any more."""
    with Client(context.find()) as client:
        client.delete(f"/projects/{quoted(name, safe='')}")
    render.say(f"{name} is deleted")


@app.command()
def quota(
    name: ProjectName,
    services: Annotated[str | None, typer.Option("--services", metavar="N", help="Services; none lifts it.")] = None,
    replicas: Annotated[
        str | None, typer.Option("--replicas", metavar="N", help="Replicas: scaling.max of all services together.")
    ] = None,
    cpu: Annotated[str | None, typer.Option("--cpu", metavar="X", help="CPUs of all these replicas.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Their memory, such as 8Gi.")] = None,
    disk: Annotated[str | None, typer.Option("--disk", metavar="SIZE", help="Sources kept, such as 10Gi.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even below what is used: that goes on, and nothing can grow.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show or set the most that a project may have. A limit of none is lifted."""
    given = {"services": services, "replicas": replicas, "cpu": cpu, "memory": memory, "disk": disk}
    limits = {kind: _limit(kind, text) for kind, text in given.items() if text is not None}
    if force and not limits:
        raise Invalid("--force needs a limit to set", code="usage")
    path = f"/projects/{quoted(name, safe='')}"
    with Client(context.find()) as client:
        found = client.post(f"{path}/quota", {**limits, "force": force}) if limits else client.get(path)
    _show(found, [found], output)


def _show(document: object, projects: list[Document], output: Output) -> None:
    if output is not Output.TABLE:
        render.document(document, output)
        return
    headers = ("NAME", "SERVICES", "REPLICAS", "CPU", "MEMORY", "DISK")
    render.table(headers, [_row(one) for one in projects], empty="no projects")


def _row(project: Document) -> tuple[object, ...]:
    return (project["name"], *(_part(project, kind) for kind in _READ))


def _part(project: Document, kind: str) -> str:
    """What is used, of what may be."""
    used, most = project["use"][kind], project["quota"][kind]
    without = len(project["use"].get(f"without_{kind}_limit", ()))
    told = _told(kind, used) + (f" and {without} without limit" if without else "")
    return told if most is None else f"{told} of {_told(kind, most)}"


def _told(kind: str, much: float) -> str:
    return format_size(int(much)) if kind in ("memory", "disk") else f"{much:g}"


def _limit(kind: str, text: str) -> float | int | None:
    """The limit that was typed; None lifts it."""
    if text == "none":
        return None
    try:
        return _READ[kind](text)
    except ValueError as error:
        hint = "write a size such as 8Gi, or none" if kind in ("memory", "disk") else "write a number, or none"
        raise Invalid(f"{text!r} is no limit", where=f"--{kind}", hint=hint, code="usage") from error


_READ: dict[str, Callable[[str], float | int]] = {
    "services": int,
    "replicas": int,
    "cpu": float,
    "memory": parse_size,
    "disk": parse_size,
}
