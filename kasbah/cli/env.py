"""`kasbah env`: change a service's environment without its source at hand."""

from __future__ import annotations

from typing import Annotated

import typer

from kasbah.cli import context, render
from kasbah.cli import rollouts as rolling
from kasbah.cli.client import Client, service_path
from kasbah.cli.options import DEFAULT_PROJECT, DeployerKeyOption, OutputOption, ProjectOption, ServiceName
from kasbah.cli.progress import progress
from kasbah.cli.render import Output
from kasbah.cli.signing import Signer
from kasbah.errors import Invalid

ROLL_SECONDS = 1_800.0

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="A service's environment.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def env() -> None:
    """A service's environment."""


@app.command("set")
def set_(
    name: ServiceName,
    changes: Annotated[
        list[str], typer.Argument(metavar="VARIABLE=VALUE...", help="VARIABLE- removes a variable.", show_default=False)
    ],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return at once.")] = False,
    deployer: DeployerKeyOption = None,
    project: ProjectOption = DEFAULT_PROJECT,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a service's environment: a new revision of what serves, and its rollout.

    The next deploy brings back what the file says: write the change there too. For what is secret there is
    `kasbah secrets`. The change is signed where what serves was signed with the same key.
    """
    added, removed = _read(changes)
    with Client(context.find(), project=project) as client, progress(output) as steps:
        signer, signed = Signer(client, project, deployer), None
        if signer.signs and (added or removed):
            signed = signer.change(name, client.get(service_path(name, "env")), added, removed)
        body = {"set": added, "unset": removed, **({} if signed is None else {"attested": signed})}
        rollout = client.post(service_path(name, "env"), body) or None
        if rollout is not None and not no_wait:
            rollout = rolling.follow(client, rollout, name, steps, seconds=ROLL_SECONDS, look=lambda _: None)
            rolling.check(rollout, name)
    if output is not Output.TABLE:
        render.document(rollout, output)
        return
    done = "nothing changed" if rollout is None else f"revision {rollout['revision']} has the new environment"
    render.say(f"{name}: {done}")


def _read(changes: list[str]) -> tuple[dict[str, str], list[str]]:
    """What is set, and what is removed."""
    added: dict[str, str] = {}
    removed = []
    for change in changes:
        variable, equals, value = change.partition("=")
        if equals and variable:
            added[variable] = value
        elif change.endswith("-") and len(change) > 1:
            removed.append(change[:-1])
        else:
            raise Invalid(f"{change!r}: write VARIABLE=VALUE, or VARIABLE- to remove it", code="usage")
    return added, removed
