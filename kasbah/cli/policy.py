"""`kasbah policy`: the rules that say where data may be, in packs, and their tests. Packs come with Kasbah; where an
installation answers, it says which of them are in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kasbah import packs
from kasbah.api.rules import rule_view
from kasbah.cli import context, grants, policy_change, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.render import Output
from kasbah.cli.shapes import PackView, TestedTable
from kasbah.domain.law import Pack
from kasbah.errors import KasbahError, NotFound
from kasbah.packs import tables
from kasbah.packs.own import TABLE, beside, read_own, table_in

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The rules that say where data may be.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    policy_change.check,
    policy_change.plan,
    policy_change.apply,
    policy_change.status,
    policy_change.history,
    policy_change.rollback,
    policy_change.approve,
    policy_change.resume,
    grants.approvals,
):
    app.command()(command)
app.command("file")(policy_change.write_file)
app.add_typer(grants.app, name="approval")

FAILED = 1


@app.command("list")
def list_(output: OutputOption = Output.TABLE) -> None:
    """List the packs, and whether each is in force."""
    held = _in_force()
    found = [_view(pack, held) for pack in packs.shipped()]
    shipped = {one.name for one in found}
    own = [] if held is None else [one for name, one in held.items() if name not in shipped]
    if output is not Output.TABLE:
        render.document([one.model_dump(mode="json") for one in found], output)
        return
    rows: list[tuple[object, ...]]
    rows = [(one.name, one.version, _state(one), len(one.rules), one.title) for one in found]
    rows += [(one["name"], one["version"], "in force, your own", "", one["title"]) for one in own]
    render.table(("PACK", "VERSION", "STATE", "RULES", "TITLE"), rows, empty="no packs")
    if any(one.in_force is not None and one.in_force < one.version for one in found):
        render.say("Newer versions came with Kasbah. See what they change: kasbah policy plan --adopt")


@app.command("coverage")
def coverage(output: OutputOption = Output.TABLE) -> None:
    """List the services that are kept stricter than their label needs, "just in case", and what that costs."""
    with Client(context.find()) as client:
        found = client.get("/policy/coverage")
    if output is not Output.TABLE:
        render.document(found, output)
        return
    rows = [
        (
            f"{one['project']}/{one['service']}",
            ", ".join(one["runs_at"]),
            _price(one["costs"]),
            ", ".join(one["could_run_at"]),
            _price(one["could_cost"]),
            "; ".join(one["why"]),
        )
        for one in found["stricter"]
    ]
    headers = ("SERVICE", "RUNS AT", "AN HOUR", "COULD RUN AT", "AN HOUR", "KEPT BY")
    render.table(headers, rows, empty=f"none of {found['asked']} services is kept stricter than its label needs")


def _price(cost: float | None) -> str:
    return "not declared" if cost is None else f"{cost:.4f}"


def _in_force() -> dict[str, Document] | None:
    """The packs in force, by name; None where no installation answers."""
    try:
        with Client(context.find()) as client:
            return {one["name"]: one for one in client.get("/policy")["packs"]}
    except KasbahError:
        return None


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="PACK", help="The pack.")], output: OutputOption = Output.TABLE
) -> None:
    """Show a pack's rules: what each says, where it comes from, and when that was last looked up."""
    pack = next((one for one in packs.shipped() if one.name == name), None)
    if pack is None:
        raise NotFound(f"there is no pack {name!r}", hint="`kasbah policy list` lists them", code="pack_not_found")
    view = _view(pack, _in_force())
    if output is not Output.TABLE:
        render.document(view.model_dump(mode="json"), output)
        return
    render.fields({view.name: f"{view.title} (version {view.version}, {_state(view)})"})
    for rule in view.rules:
        render.fields({
            rule.id: rule.title,
            "  advice": rule.advice,
            "  source": rule.citation,
            "  verified": rule.verified,
            "  lifted by": f"the approval {rule.approval}" if rule.approval else "",
        })  # fmt: skip


@app.command("test")
def run_tables(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="A folder with a pack of your own (pack.yaml, rules.cedar, tests.yaml), or a table for the shipped "
            "packs; all shipped tables where none is given.",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the tables of packs: what data may be at which site, and which rules refuse it."""
    own = [packs.read(path) for path in paths or () if path.is_dir()]
    found = [_run(path, table, own) for path, table in _tables(paths or ())]
    failed = sum(len(one.failed) for one in found)
    if output is not Output.TABLE:
        render.document([one.model_dump(mode="json") for one in found], output)
    else:
        wrong = [(one.table, case, problem) for one in found for case, problem in one.failed.items()]
        if wrong:
            render.table(("TABLE", "CASE", "PROBLEM"), wrong, empty="")
        total = sum(one.cases for one in found)
        render.say(f"{total - failed} of {total} cases hold, in {len(found)} table{'' if len(found) == 1 else 's'}")
    if failed:
        raise typer.Exit(FAILED)


def _tables(paths: Sequence[Path]) -> list[tuple[str, tuple[tables.Case, ...]]]:
    """Every table that is to be run, by what it is called. Raises Invalid for a pack that has none."""
    if not paths:
        return [(one.name, tables.cases(packs.HERE / one.name / TABLE)) for one in packs.shipped()]
    found = []
    for path in paths:
        if path.is_dir():
            own = read_own(path)
            found.append((str(own.file), own.table))
        else:
            found.append((str(path), table_in(path)))
    return found


def _run(name: str, table: tuple[tables.Case, ...], own: list[Pack]) -> TestedTable:
    """Run a table under all shipped packs, drafts included, and one's own in the place of those of the same name."""
    outcomes = tables.run(beside(packs.shipped(), own), table)
    return TestedTable(
        table=name, cases=len(outcomes), failed={one.case.name: one.problem for one in outcomes if one.problem}
    )


def _view(pack: Pack, held: Mapping[str, Document] | None) -> PackView:
    """A pack that comes with Kasbah. Without an installation, as a new one would have it."""
    rules = packs.law_of((pack,)).rules.values()
    in_force = None if pack.draft else pack.version
    if held is not None:
        in_force = held[pack.name]["version"] if pack.name in held else None
    return PackView(
        name=pack.name,
        title=pack.title,
        version=pack.version,
        draft=pack.draft,
        in_force=in_force,
        rules=[rule_view(rule) for rule in rules],
    )


def _state(pack: PackView) -> str:
    if pack.in_force is None:
        return "draft, off" if pack.draft else "off"
    return "in force" if pack.in_force == pack.version else f"in force: version {pack.in_force}"
