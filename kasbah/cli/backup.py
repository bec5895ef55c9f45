"""`kasbah backup` and `kasbah restore`: the control plane of a data folder on this machine, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kasbah.cli import render
from kasbah.cli.options import DataDir, OutputOption
from kasbah.cli.record import data_folder
from kasbah.cli.render import Output
from kasbah.clock import SystemClock
from kasbah.errors import Conflict


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; there must be none yet.")],
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write a backup of the control plane: its database, without the keys.

    It may run meanwhile. The keys beside the database (control/*.key) are in no backup: keep them apart.
    """
    from kasbah.control.backup import back_up
    from kasbah.control.folder import Folder

    manifest = back_up(Folder(data_folder(data_dir).path), file.absolute(), SystemClock().now())
    answer = {
        "file": str(file.absolute()),
        "installation": manifest.installation,
        "created_at": manifest.created_at,
        "keys": sorted(manifest.keys),
    }
    if output is not Output.TABLE:
        render.document(answer, output)
        return
    render.say(f"Backed up installation {manifest.installation} to {file}.")
    render.say(f"Not in it, and needed to restore it elsewhere: {', '.join(sorted(manifest.keys)) or 'no key'}.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `kasbah backup` wrote.")],
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a backup of the control plane in the place of what is there.

    The control plane must not run. Sites go back to what the backup says as soon as it runs again. What was there is
    kept in control/backups.
    """
    from kasbah.control.backup import restore as put_back
    from kasbah.control.folder import Folder

    folder = data_folder(data_dir)
    if folder.locked():
        raise Conflict(
            f"Kasbah runs on {folder.path}", hint="stop it with `kasbah down`, then restore", code="already_running"
        )
    manifest, epoch = put_back(Folder(folder.path), file, SystemClock().now())
    if output is not Output.TABLE:
        answer = {"installation": manifest.installation, "created_at": manifest.created_at, "epoch": epoch}
        render.document(answer, output)
        return
    moment = render.moment(manifest.created_at)
    render.say(f"Restored installation {manifest.installation} as it was at {moment}; epoch {epoch}.")
    render.say("Next: kasbah up")
