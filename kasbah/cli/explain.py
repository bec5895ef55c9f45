"""`kasbah explain`: why a service is where it is, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from kasbah.cli import context, render
from kasbah.cli.client import Client, Document, service_path
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption
from kasbah.cli.render import Output


def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service.")],
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show why a service is where it is, and nowhere else.

    For every site: whether it is chosen, possible or refused, by which rules, and what single change would open it.
    """
    with Client(context.find(), project=project) as client:
        found = client.get(service_path(name, "explain"))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    render.fields({
        found["service"]: _label(found),
        "  signed by": found.get("deployer", ""),
        "  not signed": found.get("unsigned", ""),
    })  # fmt: skip
    show_sites(found["sites"])
    show_egress(found["egress"])


def show_egress(egress: Document) -> None:
    """What a service may call: each thing that its file names, and whether it may call anything else."""
    for one in egress["calls"]:
        told = "allowed" + (f": it is at {', '.join(one['places'])}" if one["places"] else "")
        render.fields({
            f"  calls {one['to']}": told if one["allowed"] else f"refused: {one['reason']}",
            "    hint": one["hint"],
        })  # fmt: skip
        _show_rules((*one["rules"], *one["unmet"]))
    if not egress["anywhere"]:
        listed = any(one["allowed"] for one in egress["calls"])
        nothing = "nothing else" if listed else "nothing: list what it may call in kasbah.yaml (egress)"
        render.fields({"  calls": nothing})


def _show_rules(rules: Iterable[Document]) -> None:
    for rule in rules:
        verified = rule["verified"]
        when = verified if verified.startswith("unverified") else f"verified {verified}"
        render.fields({f"    {rule['id']}": f"{rule['citation']} ({when})"})


def show_sites(sites: Iterable[Document]) -> None:
    """What is decided about each site."""
    for site in sites:
        render.fields({f"  site {site['site']}": f"{site['verdict']}: {site['reason']}", "    hint": site["hint"]})
        _show_rules((*site["rules"], *site["unmet"]))
        render.fields({"    would open": "; or ".join(site["opens"])})


def _label(found: Document) -> str:
    level = f"data of level {found['data']['level']}" + ("" if found["data_declared"] else ", as unlabelled data is")
    return render.label(level, found["data"])
