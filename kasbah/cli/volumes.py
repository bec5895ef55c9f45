"""`kasbah volumes`: what services keep at each site, and removing what nobody uses any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import quote

import httpx
import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, door, render
from kasbah.cli.asking import confirm_deletion
from kasbah.cli.client import Client, Document, read_answer
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.errors import Conflict, NotFound, Unavailable

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="What services keep: folders that outlive replicas, revisions and the service itself.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the volumes of every site."""
    with Client(context.find()) as client:
        found, away = _all(client)
    if output is not Output.TABLE:
        render.document(found, output)
    else:
        headers = ("SITE", "SERVICE", "VOLUME", "USED", "SIZE", "STATE")
        render.table(headers, [_row(one) for one in found], empty="no volumes")
    if away:
        raise away[0]


@app.command("delete")
def delete(
    service: Annotated[str, typer.Argument(help="The service: its name, or its id where it was deleted.")],
    volume: Annotated[str, typer.Argument(help="The volume.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a volume that no revision in use has, with all that is in it."""
    with Client(context.find()) as client:
        found, away = _all(client)
        chosen = [one for one in found if service in (one["service"], one["service_name"]) and one["name"] == volume]
        if not chosen:
            if away:
                raise away[0]
            raise NotFound(f"there is no volume {volume!r} of {service!r}", hint="`kasbah volumes list` lists them")
        if len({one["service"] for one in chosen}) > 1:
            ids = ", ".join(sorted({one["service"] for one in chosen}))
            raise Conflict(f"{service!r} is the name of several services: {ids}", hint="name one by its id")
        if not yes:
            _confirm(chosen)
        for one in chosen:
            with _door(client, one["site"]) as (http, way):
                path = f"{way['path']}/{one['service']}/{quote(volume, safe='')}"
                read_answer(http.delete(path, timeout=door.MANY_FILES))
    render.say(f"volume {volume} of {service} is deleted")


def _all(client: Client) -> tuple[list[Document], list[Unavailable]]:
    """The volumes of all sites, and what is said of those that cannot be asked."""
    found, away = list[Document](), list[Unavailable]()
    for site in client.pages("/sites"):
        try:
            with _door(client, site["name"]) as (http, way):
                listed = read_answer(http.get(way["path"], timeout=door.MANY_FILES))["items"]
            found += [{"site": site["name"], **one} for one in listed]
        except Unavailable as error:
            away.append(error)
    return found, away


@contextmanager
def _door(client: Client, site: str) -> Iterator[tuple[httpx.Client, Document]]:
    way = client.post(f"/sites/{quote(site, safe='')}/volumes-door")
    with door.open_door(way) as http:
        try:
            yield http, way
        except httpx.HTTPError as error:
            raise door.not_there(way, error) from error


def _confirm(chosen: list[Document]) -> None:
    name = f"{chosen[0]['service_name'] or chosen[0]['service']}/{chosen[0]['name']}"
    held = format_size(sum(one["used"] for one in chosen))
    confirm_deletion(name, f"Delete {name} and the {held} in it? There is no way back")


def _row(one: Document) -> tuple[object, ...]:
    return (
        one["site"],
        one["service_name"] or f"{one['service']} (deleted)",
        one["name"],
        format_size(one["used"]),
        "" if one["size"] is None else format_size(one["size"]),
        _state(one),
    )


def _state(one: Document) -> str:
    if one["size"] is None:
        return "unused"
    return "over its size" if one["used"] > one["size"] else "in use"
