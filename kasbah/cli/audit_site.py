"""The audit log of this machine's site, read from its files: an export of it, and the proof of a single request."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import IO, Annotated

import typer

from kasbah.cli import render
from kasbah.cli.client import Document
from kasbah.cli.options import DataDir, OutputOption
from kasbah.cli.record import data_folder
from kasbah.cli.render import Output
from kasbah.errors import NotFound

MOST_SHOWN = 1_000


def site_folder(data_dir: Path | None) -> Path:
    """Where the site's log lies."""
    return data_folder(data_dir).path / "agent" / "audit"


def write_site(folder: Path, out: IO[bytes]) -> Document:
    """Write an export of the site's log; its size and key."""
    from kasbah.agent.audit.reading import signed_log
    from kasbah.api.audit_export import write_export
    from kasbah.api.checkpoints import read_note

    head, leaves = signed_log(folder)
    for piece in write_export(head, leaves):
        out.write(piece)
    out.flush()
    os.fsync(out.fileno())
    return {"size": read_note(head.checkpoint).checkpoint.size, "public_key": head.key}


def prove(
    entry: Annotated[int, typer.Argument(metavar="ENTRY", min=0, help="The entry about requests, in the site's log.")],
    index: Annotated[
        int | None, typer.Argument(metavar="INDEX", min=0, help="The request. Without it, all of the entry's.")
    ] = None,
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Prove that a request is in the log of this machine's site, or list those of an entry."""
    from kasbah.agent.audit.reading import root_in
    from kasbah.agent.audit.requests import kept_lines, prove_request

    folder = site_folder(data_dir)
    kept = folder / "requests"
    try:
        if index is None:
            lines = kept_lines(kept, entry)[1][:MOST_SHOWN]
            listed = [{"index": number, "line": line.decode("utf-8", "replace")} for number, line in enumerate(lines)]
            if output is Output.TABLE:
                rows = [(one["index"], one["line"]) for one in listed]
                render.table(("INDEX", "REQUEST"), rows, empty="no requests")
            else:
                render.document(listed, output)
            return
        found, root = prove_request(kept, entry, index), root_in(folder, entry)
    except LookupError as error:
        raise NotFound(str(error), hint="single requests are kept for a while only; the entry stays") from error
    answer = {
        "entry": entry,
        "root": root,
        "line": found.line.decode("utf-8", "replace"),
        "salt": found.salt.hex(),
        "index": found.index,
        "size": found.size,
        "proof": [base64.b64encode(one).decode() for one in found.proof],
    }
    render.document(answer, Output.JSON if output is Output.TABLE else output)
