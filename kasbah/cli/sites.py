"""`kasbah sites`: the places that run services, what their owner says of them, and what each reports of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, foreseen, render
from kasbah.cli.client import Client, Document, site_path
from kasbah.cli.options import OutputOption
from kasbah.cli.owner_key import OwnerKeyOption, owner_key
from kasbah.cli.render import Output
from kasbah.errors import NotFound

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The places that run services.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
HEADERS = (
    *("NAME", "KIND", "COUNTRY", "STATE", "CONNECTED", "GATEWAY", "FROM SITES"),
    *("CPUS", "MEMORY", "ISOLATION", "EGRESS"),
)
SitesFile = Annotated[Path, typer.Option("--file", "-f", help="The file that says what the sites are.")]
SiteName = Annotated[str, typer.Argument(metavar="NAME", help="The site.")]


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
    render.table(HEADERS, [_row(site) for site in found], empty="no sites")


@app.command()
def describe(name: SiteName, output: OutputOption = Output.TABLE) -> None:
    """Show what is known of a site: each fact, who says it and until when, and what nobody has said."""
    with Client(context.find()) as client:
        site = client.get(site_path(name))
    if output is not Output.TABLE:
        render.document(site, output)
        return
    from kasbah.api.sites_file import DECLARED

    render.fields({
        "Site": f"{site['name']} ({site['id']})",
        "Kind": site["kind"],
        "Called at": ", ".join(site["hosts"]),
        "State": "is only called" if site["hosts"] else _state(site),
        "Gateway": site["gateway_error"] or site["gateway"],
        "From sites": "" if site["hosts"] else _from_sites(site),
        "Machine": f"{site['cpus']:g} CPUs, {format_size(site['memory'])}" if site["seen_at"] else "",
        "Builds": ", ".join(site["runtimes"]),
        "Kept apart": ", ".join(site["isolation"]),
        "Missing": "; ".join(f"{name}: {why}" for name, why in site["isolation_missing"].items()),
        "Egress": "" if site["hosts"] else site["egress"],
        "Declared": f"version {site['version']}" + ("" if site["signed"] else ", not signed by the owner"),
        "Own packs": ", ".join(f"{one['name']} {one['version']} ({one['digest'][:19]})" for one in site["packs"]),
        "Notes": "; ".join(site["notes"]),
        "Not known": ", ".join(sorted(set(DECLARED) - {fact["name"] for fact in site["facts"]})),
    })  # fmt: skip
    rows = [(one["name"], one["value"], one["source"], one["since"], _until(one)) for one in site["facts"]]
    render.table(("FACT", "VALUE", "SOURCE", "SINCE", "UNTIL"), rows, empty="nobody declared anything of it")


@app.command()
def plan(file: SitesFile, output: OutputOption = Output.TABLE) -> None:
    """Show what it would do if a file said what the sites are, and change nothing."""
    from kasbah.cli import charters

    with Client(context.find()) as client:
        found = charters.plan(client, charters.of_file(client, file, charters.read(file)))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    foreseen.show(found)
    render.say(f"Next: kasbah sites apply -f {file}" + (" --even-so" if found["too_far"] else ""))


@app.command()
def apply(
    file: SitesFile,
    even_so: Annotated[bool, typer.Option("--even-so", help="Even beyond the law's limit.")] = False,
    key: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Declare sites, and the facts about them, as a file says; signed with the owner's key.

    Sites that the file does not name stay as they are. What would end more than the law's limit permits is refused.
    """
    from kasbah.cli import charters

    wanted = charters.read(file)
    owner = owner_key(key)
    with Client(context.find()) as client:
        named = charters.of_file(client, file, wanted)
        body = {"charters": [{"name": one.name, **charters.signed(owner, one)} for one in named], "even_so": even_so}
        answers = client.put("/sites", body)["sites"]
    done = [
        {"site": one["site"]["name"], "outcome": one["outcome"], "version": one["site"]["version"]} for one in answers
    ]
    if output is not Output.TABLE:
        render.document(done, output)
        return
    render.table(("SITE", "OUTCOME", "VERSION"), [tuple(one.values()) for one in done], empty="")


@app.command("token")
def make_token(name: SiteName, output: OutputOption = Output.TABLE) -> None:
    """Make a token for a site's agent to join by: shown once, good once, and for a quarter of an hour."""
    with Client(context.find()) as client:
        made = client.post(site_path(name, "tokens"))
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(
        f"Hand it to `kasbah join` on the machine that shall be {name}, before {render.moment(made['expires_at'])}:"
    )
    print(made["token"])


@app.command()
def approve(
    name: SiteName,
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="What the agent shows.")] = None,
    key: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Approve the agent that shows this code: it is the site from then on. Without a code, list who waits.

    What is said of the site then names the agent's key, and is signed with the owner's.
    """
    with Client(context.find()) as client:
        waiting = [one for one in client.pages("/joining") if one["site"] == name]
        if code is None:
            rows = [(one["site"], one["code"], render.moment(one["since"])) for one in waiting]
            render.table(("SITE", "CODE", "SINCE"), rows, empty=f"no agent waits to be {name}")
            return
        shown = [one["key"] for one in waiting if one["code"] == code.strip().upper()]
        if not shown:
            others = ", ".join(one["code"] for one in waiting) or "none"
            raise NotFound(
                f"no agent that would be {name} shows the code {code}",
                hint=f"codes shown now: {others}; approve only one that you see at the site itself",
                code="code_unknown",
            )
        from kasbah.cli import charters

        body = {"code": code, **charters.signed(owner_key(key), charters.naming(client, name, shown[0]))}
        site = client.post(site_path(name, "approve"), body)
    if output is not Output.TABLE:
        render.document(site, output)
        return
    render.say(f"Site {name} has joined.")


@app.command()
def drain(
    name: SiteName,
    undo: Annotated[bool, typer.Option("--undo", help="Have it take work again.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have a site give what it runs to others that may have it, and take nothing new."""
    with Client(context.find()) as client:
        site = client.post(site_path(name, "drain"), {"undo": undo})
    if output is not Output.TABLE:
        render.document(site, output)
        return
    gives = "takes work again" if undo else "gives away what it runs; see what has no other place: kasbah ps"
    render.say(f"Site {name} {gives}.")


@app.command()
def remove(
    name: SiteName,
    force: Annotated[bool, typer.Option("--force", help="Remove it although services run there, or call it.")] = False,
) -> None:
    """Remove a site for good: what its agent says is refused from then on."""
    with Client(context.find()) as client:
        client.delete(site_path(name) + ("?force=true" if force else ""))
    render.say(f"Site {name} is removed. Its agent is told to run nothing, and never comes back as it: stop it there.")
    render.say("To use the machine again, join it as a new site, from another --data-dir.")


def _state(site: Document) -> str:
    return str(site["state"]) + ("" if site["connected"] else ", does not report")


def _until(fact: Document) -> str:
    text = str(fact["until"] or "")
    return text if fact["holds"] else f"{text} (does not hold)".strip()


def _row(site: Document) -> tuple[object, ...]:
    if site["hosts"]:
        country = site["country"] or "not declared"
        return (site["name"], site["kind"], country, "is called", "", ", ".join(site["hosts"]), *[""] * 5)
    return (
        site["name"],
        site["kind"],
        site["country"] or "not declared",
        site["state"],
        "yes" if site["connected"] else "no",
        site["gateway_error"] or site["gateway"],
        _from_sites(site),
        f"{site['cpus']:g}",
        format_size(site["memory"]),
        _isolation(site),
        site["egress"],
    )


def _from_sites(site: Document) -> str:
    """Where a site takes what other sites' gateways send."""
    return str(site.get("peers_address") or ("by tunnels" if site.get("tunnel") else "nothing"))


def _isolation(site: Document) -> str:
    """Whether replicas are kept apart by all that we know; `describe` has what is missing, and why."""
    if not site["isolation"]:
        return "unknown"
    missing = len(site["isolation_missing"])
    return f"{missing} missing" if missing else "full"
