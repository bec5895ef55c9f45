"""`kasbah secrets`: values that services get, read from standard input and never shown again."""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import typer

from kasbah.api.quantities import format_size
from kasbah.cli import context, render
from kasbah.cli import rollouts as rolling
from kasbah.cli.client import Client, Document, secret_path, service_path
from kasbah.cli.label_options import label_section
from kasbah.cli.options import DEFAULT_PROJECT, OutputOption, ProjectOption
from kasbah.cli.progress import progress
from kasbah.cli.render import Output
from kasbah.domain.label import LevelName
from kasbah.domain.secret import LARGEST
from kasbah.errors import Invalid, TooLarge

ROLL_SECONDS = 1_800.0

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Secrets that services use.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SecretName = Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and dashes.")]


@app.command("set")
def set_(
    name: SecretName,
    raw: Annotated[bool, typer.Option("--raw", help="Keep a line end at the end of the value.")] = False,
    roll: Annotated[bool, typer.Option("--roll", help="Bring it to the services that use it, by a rollout.")] = False,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set a secret, from standard input.

    One line end at the end is left out. What uses the secret gets the new value when it is deployed again, or with
    --roll.
    """
    encoded = base64.b64encode(_value(raw=raw)).decode()
    with Client(context.find(), project=project) as client, progress(output) as steps:
        made = client.put(secret_path(name), {"value_base64": encoded})
        for service in made["outdated"] if roll else ():
            rollout = client.post(service_path(service, "env"), {})
            if rollout:
                ended = rolling.follow(client, rollout, service, steps, seconds=ROLL_SECONDS, look=lambda _: None)
                rolling.check(ended, service)
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(f"{name} is set (version {made['version']}, {format_size(made['size'])})")
    if made["outdated"] and not roll:
        render.say(f"  {', '.join(made['outdated'])} still use an older value: deploy again, or repeat with --roll")


@app.command()
def label(
    name: SecretName,
    level: Annotated[LevelName, typer.Argument(help="How sensitive it is.")],
    category: Annotated[
        list[str] | None, typer.Option("--category", help="What it is about, as often as needed.")
    ] = None,
    regime: Annotated[list[str] | None, typer.Option("--regime", help="A law it is under, as often as needed.")] = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how sensitive a secret is.

    Services that are labelled lower cannot have it. A label only rises. A secret without one is shared by services of
    one label.
    """
    asked = label_section(level, category or [], regime or []).model_dump(mode="json")
    with Client(context.find(), project=project) as client:
        made = client.put(f"{secret_path(name)}/label", asked)
    if output is not Output.TABLE:
        render.document(made, output)
        return
    render.say(f"{name} is labelled {_label(made['data'])}")


@app.command("list")
def list_(project: ProjectOption = DEFAULT_PROJECT, output: OutputOption = Output.TABLE) -> None:
    """List the secrets, without their values."""
    with Client(context.find(), project=project) as client:
        found = list(client.pages("/secrets"))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    headers = ("NAME", "VERSION", "SIZE", "CHANGED", "DATA", "USED BY", "OUTDATED")
    render.table(headers, [_row(one) for one in found], empty="no secrets yet: kasbah secrets set NAME < FILE")


@app.command()
def delete(name: SecretName, project: ProjectOption = DEFAULT_PROJECT) -> None:
    """Remove a secret that nothing uses."""
    with Client(context.find(), project=project) as client:
        client.delete(secret_path(name))
    render.say(f"{name} is removed")


def _value(*, raw: bool) -> bytes:
    """Standard input, or what is typed without being shown."""
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        value = getpass.getpass("value (not shown): ").encode()
    else:
        value = sys.stdin.buffer.read(LARGEST + 2) if sys.stdin is not None else b""
    value = value if raw else value.removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise Invalid("no value came in on standard input", hint="kasbah secrets set NAME < FILE", code="usage")
    if len(value) > LARGEST:
        raise TooLarge(
            f"the value has more than {LARGEST:,} bytes",
            hint="keep large files elsewhere, encrypted, and make their key the secret",
        )
    return value


def _label(data: Document | None) -> str:
    return "" if data is None else render.label(data["level"], data)


def _row(one: Document) -> tuple[object, ...]:
    return (
        one["name"],
        one["version"],
        format_size(one["size"]),
        render.moment(one["changed_at"]),
        _label(one["data"]),
        ", ".join(one["used_by"]),
        ", ".join(one["outdated"]),
    )
