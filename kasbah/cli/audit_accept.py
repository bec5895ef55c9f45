"""`kasbah audit accept`: a person takes the log that a site shows in the place of one that was refused."""

from __future__ import annotations

from typing import Annotated

import typer

from kasbah.cli import context, render
from kasbah.cli.asking import confirm
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.errors import Conflict, NotFound

LOOK = "`kasbah audit verify` says how each log stands"


def accept(
    site: Annotated[str, typer.Argument(metavar="SITE", help="The site whose log is refused.")],
    reason: Annotated[str, typer.Option("--reason", help="What broke the log, and where that is recorded.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Accept the break in a site's log that is refused: it goes on from what the site shows now.

    What was known until then is kept, and `kasbah audit verify` tells of the break from then on. Look at the log
    first, at the site's machine: kasbah audit export FILE --of-site.
    """
    with Client(context.find()) as client:
        known = next((one for one in client.pages("/audit/logs") if one["log"] == site), None)
        if known is None:
            raise NotFound(f"there is no audit log of a site {site!r}", hint=LOOK, code="log_not_found")
        shown = _shown(site, known)
        if not yes:
            _tell(known, shown)
            question = f"Accept what {site} shows, and go on from there? It is recorded as yours, for ever"
            confirm(question, what=f"accepting the log of {site}", refused=f"the log of {site} stays refused")
        body = {"public_key": shown["public_key"], "root": shown["root"], "reason": reason}
        made = client.post(f"/audit/logs/{site}/accept", body)
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(f"The log of {site} goes on from {_entries(made)}. The break is recorded: kasbah audit verify")


def _shown(site: str, known: Document) -> Document:
    """What the site shows in the place of what was known. Raises Conflict where there is nothing to accept."""
    if not known["trouble"]:
        raise Conflict(f"the audit log of {site} is not refused", hint=LOOK, code="log_not_refused")
    found: Document | None = known["shown"]
    if found is None:
        raise Conflict(
            f"what {site} shows is no log of that site: {known['trouble']}",
            hint="mend the site first, or have its machine join as a new site",
            code="no_log_shown",
        )
    return found


def _entries(log: Document) -> str:
    return f"{log['size']} {'entry' if log['size'] == 1 else 'entries'}"


def _tell(known: Document, shown: Document) -> None:
    render.fields({
        "Refused": known["trouble"],
        "Known": f"{_entries(known)}, {known['cosigned_size']} cosigned",
        "  signed by": known["public_key"],
        "Shown": f"{_entries(shown)} when it was refused, root {shown['root']}",
        "  signed with": shown["public_key"],
    })  # fmt: skip
