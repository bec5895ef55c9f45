"""`kasbah gc`: shows what is kept and frees what is not needed, at the control plane, then at each site by its door."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

import httpx
import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, door, render
from kasbah.cli.client import Client, Document, read_answer
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.errors import Unavailable

APPLIED_SECONDS = 10.0
"""How long a site is given to hear of the revisions that were dropped; what it has not heard, it removes later."""

PAUSE_SECONDS = 0.2


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be freed.")] = False,
    keep: Annotated[
        int,
        typer.Option("--keep", metavar="N", help="Revisions kept of each service, beside those in use.", min=1, max=10),
    ] = 10,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what can be made again: builds without traffic, package caches.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what is kept, and free what is not needed.

    Nothing goes that has a part of a service's traffic, is being rolled out, or that a replica runs on. Sites do the
    same by themselves, every ten minutes.
    """
    with Client(context.find()) as client:
        dropped = client.post("/gc", {"keep": keep, "dry_run": dry_run})
        if not dry_run and dropped["freed"]:
            _wait_for_sites(client)
        lines, away = [_line("control", dropped)], list[Unavailable]()
        for site in client.pages("/sites"):
            try:
                way = client.post(f"/sites/{quote(site['name'], safe='')}/gc-door")
                lines += [_line(site["name"], one) for one in _ask(way, dry_run=dry_run, everything=everything)]
            except Unavailable as error:
                away.append(error)
    _show(lines, output, dry_run=dry_run)
    if away:
        raise away[0]


def _show(lines: list[Document], output: Output, *, dry_run: bool) -> None:
    if output is not Output.TABLE:
        render.document(lines, output)
        return
    headers = ("WHERE", "WHAT", "KEPT", "SIZE", "WOULD FREE" if dry_run else "FREED", "SIZE")
    render.table(headers, [_row(line) for line in lines], empty="nothing is kept")


def _wait_for_sites(client: Client) -> None:
    """Wait until the sites that are there act on the newest desired state."""
    give_up = time.monotonic() + APPLIED_SECONDS
    while time.monotonic() < give_up:
        sites = [site for site in client.pages("/sites") if site["connected"]]
        if all(site["applied_generation"] >= site["desired_generation"] for site in sites):
            return
        time.sleep(PAUSE_SECONDS)


def _ask(way: Document, *, dry_run: bool, everything: bool) -> list[Document]:
    with door.open_door(way) as http:
        try:
            method, params = "GET" if dry_run else "POST", {"everything": int(everything)}
            answer = http.request(method, way["path"], params=params, timeout=door.MANY_FILES)
        except httpx.HTTPError as error:
            raise door.not_there(way, error) from error
    found: list[Document] = read_answer(answer)["items"]
    return found


def _line(where: str, space: Document) -> Document:
    return {"where": where, **space}


def _row(line: Document) -> tuple[object, ...]:
    return (line["where"], line["kind"], line["count"], _size(line["bytes"]), line["freed"], _size(line["freed_bytes"]))


def _size(size: int | None) -> str:
    return "" if size is None else format_size(size)
