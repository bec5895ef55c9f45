"""The owner's key, for the commands that sign: where it is looked for, and that it is never sent anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasbah.cli import context
from kasbah.cli.record import data_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OwnerKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--owner-key",
        metavar="PATH",
        envvar="KASBAH_OWNER_KEY",
        help="The owner's key. [default: the data folder's]",
        show_default=False,
    ),
]


def owner_key(chosen: Path | None) -> Ed25519PrivateKey:
    """The key to sign with: the one named, or that of the installation's data folder on this machine."""
    from kasbah.api.owner import OWNER_KEY, load

    if chosen is not None:
        return load(chosen)
    remembered = context.read(context.path())
    folder = data_folder(None).path if remembered is None else remembered.token_file.parent
    return load(folder / OWNER_KEY)
