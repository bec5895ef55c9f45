"""Reads a site's audit log beside the agent that writes it: as far as it is signed, and changes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from kasbah.api.audit_export import Head
from kasbah.api.checkpoints import read_note
from kasbah.api.signing import load_or_make_key, public_text
from kasbah.errors import Invalid, NotFound


def signed_log(folder: Path) -> tuple[Head, Iterator[bytes]]:
    """The newest checkpoint of the log in `folder`, its key, and the entries that it counts."""
    try:
        note = read_note((folder / "checkpoint").read_text())
        if not (folder / "audit.key").exists():
            raise FileNotFoundError
    except FileNotFoundError:
        raise NotFound(
            f"there is no signed audit log of a site in {folder}", hint="name its data folder with --data-dir"
        ) from None
    except ValueError as error:
        raise Invalid(f"{folder / 'checkpoint'} is damaged: {error}", hint="the agent writes it again") from error
    head = Head(key=public_text(load_or_make_key(folder / "audit.key")), checkpoint=note.text)
    return head, itertools.islice(_entries(folder / "entries"), note.checkpoint.size)


def root_in(folder: Path, sequence: int) -> str:
    """The root that an entry about requests holds. Raises NotFound where there is no such entry."""
    leaf = next(itertools.islice(_entries(folder / "entries"), sequence, None), None)
    found = json.loads(leaf) if leaf is not None else {}
    if found.get("act") != "requests":
        raise NotFound(f"entry {sequence} of the site's log is not about requests", hint="export it, and look")
    return str(found["details"]["root"])


def _entries(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from (line[:-1] for line in lines if line.endswith(b"\n"))
