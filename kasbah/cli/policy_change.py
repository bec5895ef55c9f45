"""`kasbah policy check|plan|apply|status|history|rollback|approve|resume|file`: a change of the law, seen before it is
made, signed by the owner, and undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah import packs
from kasbah.api.owner import LAWBOOK, read_document, sign_document, write_document
from kasbah.cli import context, foreseen, policy_file, render
from kasbah.cli.client import Client, Document
from kasbah.cli.options import OutputOption
from kasbah.cli.owner_key import OwnerKeyOption, owner_key
from kasbah.cli.render import Output
from kasbah.domain.charter import Lawbook
from kasbah.domain.ids import InstallationId
from kasbah.errors import Invalid
from kasbah.packs.own import beside, read_own

FILE = Path("policy.yaml")
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="The policy file. [default: policy.yaml]", show_default=False)
]
AdoptOption = Annotated[
    bool, typer.Option("--adopt", help="No file: what is in force, with the newest packs that come with Kasbah.")
]

EvenSo = Annotated[bool, typer.Option("--even-so", help="Even beyond the limit: you have seen what ends.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", help="The lawbook, as `history` numbers it.", min=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A lawbook that is not signed yet, and the version it would replace."""

    lawbook: Lawbook
    based_on: int

    @property
    def text(self) -> str:
        """As it is planned."""
        return write_document(self.lawbook)


def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A pack's folder, or a policy file.")],
) -> None:
    """Say whether a pack, or a policy file, is sound, and whether its tests hold. Nobody is asked."""
    if path.is_dir():
        own = read_own(path)
        law = beside(packs.shipped(), [own.pack])
        rules = sum(rule.pack == own.pack.name for rule in law.rules.values())
        held = policy_file.hold(law, own)
        render.say(f"{own.pack.name} is sound: {rules} rules; {held} of {held} cases hold.")
        return
    found = policy_file.lawbook_of(path, InstallationId(""), 0, ())
    render.say(f"{path} is sound: {len(found.packs)} packs, {len(packs.law_of(found.packs).rules)} rules.")


def plan(file: FileOption = None, adopt: AdoptOption = False, output: OutputOption = Output.TABLE) -> None:
    """Show what a change of the law would do, and change nothing."""
    with Client(context.find()) as client:
        draft = _draft(client, file, adopt=adopt)
        found = client.post("/policy/plan", {"document": draft.text})
    if output is not Output.TABLE:
        render.document(found, output)
        return
    foreseen.show(found, against=f"Against version {found['based_on']}: ")
    if found["two_person"]:
        render.say(f"A second person has to approve it: {', '.join(found['two_person'])}.")
    which = "--adopt" if adopt else f"-f {file or FILE}"
    more = " --even-so" if found["too_far"] else ""
    render.say(f"Next: kasbah policy apply {which} --based-on {found['based_on']}{more}")


def apply(
    file: FileOption = None,
    adopt: AdoptOption = False,
    based_on: Annotated[
        int | None, typer.Option("--based-on", help="Only if this version still holds, as `plan` printed it.", min=1)
    ] = None,
    even_so: EvenSo = False,
    reason: Reason = "",
    owner: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Sign a change of the law and put it on its way, one site after the other."""
    key = owner_key(owner)
    with Client(context.find()) as client:
        draft = _draft(client, file, adopt=adopt)
        base = draft.based_on if based_on is None else based_on
        made = _send(client, key, draft.lawbook, based_on=base, even_so=even_so, reason=reason)
    _show_made(made, output)


def rollback(
    to: Annotated[
        int | None, typer.Option("--to", help="The version to return to; none: the one before.", min=1)
    ] = None,
    even_so: EvenSo = False,
    reason: Reason = "",
    owner: OwnerKeyOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Return to a law that held before: its text, signed again as a new version."""
    key = owner_key(owner)
    with Client(context.find()) as client:
        status = client.get("/policy")
        target = to or _before(status)
        text = client.get(f"/policy/lawbooks/{target}")["document"]
        lawbook = policy_file.again(read_document(text, Lawbook), status["next_version"])
        base, why = status["newest"]["version"], reason or f"back to version {target}"
        made = _send(client, key, lawbook, based_on=base, even_so=even_so, reason=why)
    _show_made(made, output)


def _send(
    client: Client, key: Ed25519PrivateKey, lawbook: Lawbook, *, based_on: int, even_so: bool, reason: str
) -> Document:
    """Sign a lawbook and put it on its way."""
    signed = sign_document(key, LAWBOOK, lawbook)
    body = {"document": signed.document, "signature": signed.signature}
    return client.post("/policy/lawbooks", {**body, "based_on": based_on, "even_so": even_so, "reason": reason})


def status(output: OutputOption = Output.TABLE) -> None:
    """Show the law that holds, and how far a new one has come."""
    with Client(context.find()) as client:
        found = client.get("/policy")
    if output is not Output.TABLE:
        render.document(found, output)
        return
    newest, force = found["newest"], found["in_force"]
    render.fields({
        "In force": f"version {force['version']}, since {render.moment(force['changed_at'])}",
        "On its way": _way(newest) if newest["version"] != force["version"] else "",
        "Proposed": _waits(found["proposed"]) if found["proposed"] else "",
        "Home": found["home"] or "the country of the first site",
        "Limit": _limit(found),
        "Owner": found["owner_key"],
    })  # fmt: skip
    rows = [
        (one["name"], one["version"], "two persons" if one["two_person"] else "one person") for one in found["packs"]
    ]
    render.table(("PACK", "VERSION", "CHANGED BY"), rows, empty="no packs")


def history(output: OutputOption = Output.TABLE) -> None:
    """List every law there was, the newest first."""
    with Client(context.find()) as client:
        found = list(client.pages("/policy/lawbooks"))
    if output is not Output.TABLE:
        render.document(found, output)
        return
    rows = [
        (one["version"], one["state"], _by(one), render.moment(one["at"]), one["reason"], one["note"]) for one in found
    ]
    render.table(("VERSION", "STATE", "BY", "AT", "REASON", "NOTE"), rows, empty="no law")


def approve(version: VersionArgument, output: OutputOption = Output.TABLE) -> None:
    """Say yes, as the second person, to a law that is proposed."""
    with Client(context.find()) as client:
        made = client.post(f"/policy/lawbooks/{version}/approve")
    _show_made(made, output)


def resume(version: VersionArgument, output: OutputOption = Output.TABLE) -> None:
    """Let a law that halted go on to the next site; what went wrong is taken as it is."""
    with Client(context.find()) as client:
        made = client.post(f"/policy/lawbooks/{version}/resume")
    _show_made(made, output)


def write_file() -> None:
    """Print the policy file that says what holds now."""
    with Client(context.find()) as client:
        _, lawbook = _in_force(client)
    render.document(policy_file.written(lawbook), Output.YAML)


def _draft(client: Client, file: Path | None, *, adopt: bool) -> Draft:
    if adopt and file is not None:
        raise Invalid("--adopt takes no file", where="--adopt", code="usage")
    status, lawbook = _in_force(client)
    version, based_on = status["next_version"], status["newest"]["version"]
    if adopt:
        return Draft(lawbook=policy_file.adopted(lawbook, version), based_on=based_on)
    path = file or FILE
    if not path.exists():
        raise Invalid(
            f"there is no {path}",
            where="--file",
            hint=f"`kasbah policy file > {FILE}` writes one that says what holds now",
            code="usage",
        )
    made = policy_file.lawbook_of(path, InstallationId(status["installation"]), version, lawbook.packs)
    return Draft(lawbook=made, based_on=based_on)


def _in_force(client: Client) -> tuple[Document, Lawbook]:
    """The law as it is told, and the newest lawbook."""
    status = client.get("/policy")
    text = client.get(f"/policy/lawbooks/{status['newest']['version']}")["document"]
    return status, read_document(text, Lawbook)


def _before(status: Document) -> int:
    """Where a rollback leads that names nothing: to what is in force, or, where all is settled, to what was before."""
    newest, force = status["newest"], status["in_force"]
    if newest["version"] != force["version"]:
        return int(force["version"])
    if force["based_on"] is None:
        raise Invalid("no law held before this one", where="--to", hint="`kasbah policy history` lists all there were")
    return int(force["based_on"])


def _show_made(made: Document, output: Output) -> None:
    if output is not Output.TABLE:
        render.document(made, output)
        return
    if made["state"] == "proposed":
        render.say(f"{_waits(made)} Next, by somebody else: kasbah policy approve {made['version']}")
        return
    render.say(_way(made))


def _way(one: Document) -> str:
    sites = ", ".join(place["site"] for place in one["arrived"]) or "no site"
    told = f"Version {one['version']} is {one['state']}; it has arrived at {sites}."
    return f"{told} {one['note'][:1].upper()}{one['note'][1:]}." if one["note"] else told


def _waits(one: Document) -> str:
    return f"Version {one['version']}, by {one['author']}, waits: it {one['note']}."


def _by(one: Document) -> str:
    return f"{one['author']}, {one['approved_by']}" if one["approved_by"] else str(one["author"])


def _limit(found: Document) -> str:
    if found["limit_percent"] is not None:
        return f"{found['limit_percent']:g}% of the services"
    return f"{found['limit_services'] or 0} services"
