"""The `kasbah` command: which commands there are, where each lives, and what becomes of an error.

A command's module is imported only when it is asked for, so that `kasbah --help` and `kasbah ps` are quick. An expected
error ends with its own exit code and no traceback; anything else is our bug and says so.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from kasbah.cli.exits import MEANINGS, ExitCode, exit_code, for_people, for_programs
from kasbah.cli.loading import quick_imports
from kasbah.cli.text import clean
from kasbah.errors import Invalid, KasbahError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is: `module:attribute`, a function or a Typer app of several. `summary` is its help's first
    line, kept here too because `--help` imports none of them."""

    at: str
    summary: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Run Kasbah": {
        "up": Entry("up:up", "Start Kasbah on this machine: control plane, agent and gateway."),
        "down": Entry("down:down", "Stop Kasbah on this machine, and everything it runs."),
        "backup": Entry("backup:backup", "Write a backup of the control plane: its database, without the keys."),
        "restore": Entry("backup:restore", "Put a backup of the control plane in the place of what is there."),
        "doctor": Entry("doctor:doctor", "Look at this machine and its installation, and say what is wrong."),
        "control": Entry("parts:control", "Run a control plane alone, for a service manager."),
        "agent": Entry("parts:agent", "Run a site's agent alone, for a service manager."),
        "join": Entry("join:join", "Make this machine a site, with a token that `kasbah sites token` made."),
    },
    "Deploy": {
        "deploy": Entry("deploy:deploy", "Deploy a folder, or the services of a kasbah.yaml."),
        "rollback": Entry("traffic:rollback", "Return a service to a revision that served before."),
        "traffic": Entry("traffic:traffic", "Show or divide a service's traffic between its revisions."),
        "rollouts": Entry("traffic:rollouts", "List a service's rollouts, the last first."),
        "plan": Entry("deploy:plan", "Show what a deploy would do, and change nothing."),
        "schema": Entry("about:schema", "Print the JSON Schema of kasbah.yaml."),
    },
    "Services": {
        "ps": Entry("services:ps", "List the services."),
        "describe": Entry("services:describe", "Show everything known about a service."),
        "logs": Entry("logs:logs", "Show what a service's replicas wrote."),
        "exec": Entry("visit:visit", "Run a command inside a replica."),
        "env": Entry("env:app", "A service's environment."),
        "scale": Entry("services:scale", "Change how many replicas a service has."),
        "sleep": Entry("services:sleep", "Put a service to sleep now."),
        "wake": Entry("services:wake", "Wake a service now."),
        "delete": Entry("services:delete", "Remove a service and everything made from it."),
    },
    "Access and places": {
        "secrets": Entry("secrets:app", "Secrets that services use."),
        "keys": Entry("keys:app", "Keys that open services."),
        "tokens": Entry("tokens:app", "Tokens that open this API."),
        "projects": Entry("projects:app", "Projects, and how much each may have."),
        "sites": Entry("sites:app", "The places that run services."),
        "explain": Entry("explain:explain", "Show why a service is where it is, and nowhere else."),
        "where": Entry("where:where", "Show where a service is, who controls that place, and which laws reach it."),
        "policy": Entry("policy:app", "The rules that say where data may be."),
        "deployers": Entry("deployers:app", "Who may sign what is deployed."),
        "declassify": Entry("grants:declassify", "Let a service's label be lowered, for a time, signed by the owner."),
        "audit": Entry("audit:app", "Who did what, and the proof of it."),
        "volumes": Entry(
            "volumes:app", "What services keep: folders that outlive replicas, revisions and the service itself."
        ),
        "gc": Entry("gc:gc", "Show what is kept, and free what is not needed."),
    },
    "This program": {
        "completion": Entry("about:completion", "Print the completion script of a shell."),
        "version": Entry("about:version", "Print the versions of the client and of the installation."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

COMPLETE = "_KASBAH_COMPLETE"
"""Set by the shell's completion script: this run only completes words."""

ClickException: type[Any] = typer.BadParameter.__mro__[2]
"""The root of what Typer raises for wrong usage. Typer carries a click of its own and exports only this leaf."""


class Commands(TyperGroup):
    """The group of all commands, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            self.commands.update(dict.fromkeys(COMMANDS))  # type: ignore[arg-type]  # for Typer's suggestions
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])


def load(name: str) -> Any:
    """The command `name`, imported now."""
    module, _, attribute = COMMANDS[name].at.partition(":")
    with quick_imports():
        found = getattr(importlib.import_module(f"kasbah.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        found.info.name = name
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, context_settings={"help_option_names": ["-h", "--help"]})(found)
    return typer.main.get_command(alone)


app = typer.Typer(
    name="kasbah",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def kasbah(context: typer.Context) -> None:
    """Kasbah: the AI cloud you own. Start with `kasbah up`, then `kasbah deploy FOLDER`."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run one command line and give its exit code; errors have been told."""
    try:
        if COMPLETE in os.environ:
            from typer.completion import completion_init  # type: ignore[attr-defined]

            completion_init()
        result = typer.main.get_command(app).main(args=arguments, prog_name="kasbah", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.OK
    except KasbahError as error:
        _tell(error, arguments)
        return exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; standard output must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except ClickException as error:
        _tell_usage(error, arguments)
        return ExitCode.USAGE
    except Exception:
        _tell_bug(traceback.format_exc(), service=arguments[:1] in (["control"], ["agent"]))
        return ExitCode.FAILED


def _tell(error: KasbahError, arguments: Sequence[str]) -> None:
    print(for_programs(error) if _wants_json(arguments) else for_people(error), file=sys.stderr)


def _tell_usage(error: Any, arguments: Sequence[str]) -> None:
    if not _wants_json(arguments):
        told = error.format_message()
        context = getattr(error, "ctx", None)
        usage = f"{context.get_usage()}\n" if context is not None else ""
        print(f"{usage}Error: {clean(told, lines=True)}", file=sys.stderr)
        return
    print(for_programs(Invalid(error.format_message(), hint="see --help", code="usage")), file=sys.stderr)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether errors should be JSON. Asked of the words themselves, because a wrong usage has no parsed options."""
    joined = " ".join(arguments)
    return any(f in f"{joined} " for f in ("-o json ", "-ojson ", "--output json ", "--output=json "))


def _tell_bug(trace: str, *, service: bool) -> None:
    """Say that it is our bug. The traceback is for us: in a file, or in the log that a service writes anyway."""
    print(f"error: this is a bug in Kasbah: {clean(trace.splitlines()[-1])}", file=sys.stderr)
    if service:
        print(trace, file=sys.stderr)
        return
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="kasbah-bug-", suffix=".log", delete=False) as log:
        log.write(trace)
    print(f"hint: please report it with the contents of {log.name}", file=sys.stderr)
