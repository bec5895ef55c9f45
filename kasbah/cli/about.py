"""Commands about this program: the schema of the file, the completion of shells, the versions."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

import kasbah
from kasbah.cli import context, render
from kasbah.cli.client import Client
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.errors import KasbahError


class Shell(StrEnum):
    """A shell whose completion there is."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def schema() -> None:
    """Print the JSON Schema of kasbah.yaml."""
    from kasbah.api import manifest

    print(json.dumps(manifest.schema(), indent=2))


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print the completion script of a shell.

    bash: `eval "$(kasbah completion bash)"` in ~/.bashrc; zsh: the same in ~/.zshrc; fish: `kasbah completion fish |
    source` in config.fish.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="kasbah", complete_var="_KASBAH_COMPLETE", shell=shell.value))


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the versions of the client and of the installation."""
    versions = {"client": kasbah.__version__, "installation": _installed()}
    if output is not Output.TABLE:
        render.document(versions, output)
        return
    render.fields({"Client": versions["client"], "Installation": versions["installation"] or "none is reachable"})


def _installed() -> str | None:
    try:
        with Client(context.find()) as client:
            return str(client.get("/installation")["version"])
    except KasbahError:
        return None
