"""`kasbah sites`: the places that run services, and what each reports of itself."""

from __future__ import annotations

import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The places that run services.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def sites() -> None:
    """The places that run services."""


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the sites."""
    with Client(context.find()) as client:
        found = list(client.pages("/sites"))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    headers = ("NAME", "KIND", "COUNTRY", "CONNECTED", "GATEWAY", "CPUS", "MEMORY", "ISOLATION", "EGRESS")
    render.table(headers, [_row(site) for site in found], empty="no sites")


def _row(site: Document) -> tuple[object, ...]:
    return (
        site["name"],
        site["kind"],
        site["country"] or "not declared",
        "yes" if site["connected"] else "no",
        site["gateway_error"] or site["gateway"],
        f"{site['cpus']:g}",
        format_size(site["memory"]),
        ", ".join(site["isolation"]),
        site["egress"],
    )
