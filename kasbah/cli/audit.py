"""`kasbah audit`: who did what, whether the log is what was signed, and a copy for whoever must check it elsewhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from kasbah.api.quantities import parse_duration
from kasbah.cli import context, render
from kasbah.cli.audit_accept import accept
from kasbah.cli.audit_site import prove, site_folder, write_site
from kasbah.cli.client import Client, Document
from kasbah.cli.options import DataDir, OutputOption
from kasbah.cli.render import Output
from kasbah.clock import SystemClock
from kasbah.errors import Conflict, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from kasbah.api.audit_export import Verified

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Who did what, and the proof of it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED = 1
CONTROL = "control"


@app.command()
def log(
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="From a moment on: 2026-03-01, or how long ago: 24h.")
    ] = "",
    actor: Annotated[str, typer.Option("--actor", help="Of this actor: a token's name or id, or kasbah itself.")] = "",
    act: Annotated[str, typer.Option("--act", help="Of this act, such as start_deploy.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was done and decided, the newest first."""
    asked: dict[str, str | int] = {"actor": actor, "act": act, "limit": min(limit, 200)}
    asked |= {"since": _moment(since).isoformat()} if since else {}
    with Client(context.find()) as client:
        found = [one for _, one in zip(range(limit), client.pages("/audit/entries", **asked), strict=False)]
    if output is not Output.TABLE:
        render.document(found, output)
        return
    headers = ("ENTRY", "AT", "ACTOR", "ACT", "OBJECT", "OUTCOME", "REASON")
    render.table(headers, [_row(one) for one in found], empty="no entries")


@app.command()
def show(
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=0, help="The entry's number.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an entry, with the proof that it is in the log."""
    with Client(context.find()) as client:
        found = client.get(f"/audit/entries/{sequence}")
    if output is not Output.TABLE:
        render.document(found, output)
        return
    fields = {name: found[name] for name in ("sequence", "at", "actor", "credential", "act", "object", "outcome")}
    render.fields({**fields, "reason": found["reason"], **found["details"], "commitment": found["commitment"]})
    render.fields({"salt": found["salt"], "proof": f"{len(found['proof'])} hashes; -o json prints them"})


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An export. Without it, the logs of the installation.")
    ] = None,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="The log's public key, ed25519:..., as you were given it.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify that the log is what was signed, and only grew. An export needs no server for it."""
    found = _verify_file(file, key) if file is not None else _verify_all(key)
    if output is not Output.TABLE:
        render.document(found, output)
    else:
        headers = ("LOG", "ENTRIES", "COSIGNED", "BY", "STATE")
        render.table(headers, [_verdict(one) for one in found], empty="no logs")
        wrong = [(one["log"], two["where"], two["problem"]) for one in found for two in one["findings"]]
        if wrong:
            render.table(("LOG", "WHERE", "PROBLEM"), wrong, empty="")
        _tell_of_breaks(found)
    if any(one["findings"] for one in found):
        raise typer.Exit(FAILED)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; there must be none yet.")],
    of_site: Annotated[bool, typer.Option("--of-site", help="The log of this machine's site, from its files.")] = False,
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the control plane's log, or a site's, to a file that can be verified anywhere."""
    if file.exists():
        raise Conflict(f"{file} exists already", hint="choose another name: an export overwrites nothing")
    fresh = file.with_name(f".{file.name}.new")
    try:
        with open(fresh, "wb", opener=_private) as out:
            head = write_site(site_folder(data_dir), out) if of_site else _write_control(out)
        os.link(fresh, file)
    except OSError as error:
        raise Unavailable(f"{file} cannot be written: {error.strerror}", hint="choose a folder that exists") from error
    finally:
        fresh.unlink(missing_ok=True)
    answer = {"file": str(file.absolute()), "entries": head["size"], "key": head["public_key"]}
    if output is not Output.TABLE:
        render.document(answer, output)
        return
    render.say(f"Wrote {head['size']} entries to {file}. Give its reader the key by another way:")
    print(head["public_key"])


app.command()(prove)
app.command()(accept)


def _tell_of_breaks(found: list[Document]) -> None:
    """What somebody accepted stands beside what is sound, for ever; and how what is refused can be accepted."""
    broken = [
        (one["log"], render.moment(two["accepted_at"]), two["accepted_by"], two["reason"], two["trouble"])
        for one in found
        for two in one["breaks"]
    ]
    if broken:
        render.table(("BROKEN", "ACCEPTED AT", "BY", "BECAUSE", "REFUSED BEFORE"), broken, empty="")
    for name in (one["log"] for one in found if one["findings"] and one["log"] not in (CONTROL, one["origin"])):
        render.say(f"Next: look at it at {name} (kasbah audit export FILE --of-site); then, if you know why,")
        render.say(f"  kasbah audit accept {name} --reason WHY")


def _write_control(out: IO[bytes]) -> Document:
    with Client(context.find()) as client:
        return _write(client, out)


def _moment(text: str) -> datetime:
    """The moment that a person named."""
    try:
        return SystemClock().now() - parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no moment", where="--since", hint="write 2026-03-01T12:00, or 24h") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _write(client: Client, out: IO[bytes]) -> Document:
    """Write an export of the control plane's log; what is known of that log."""
    from kasbah.api.audit_export import Head, write_export

    known = next((one for one in client.pages("/audit/logs") if one["log"] == CONTROL), None)
    if known is None:
        raise NotFound("the log was never signed", hint="ask again in a second")
    head = Head(
        key=known["public_key"],
        checkpoint=known["checkpoint"],
        cosigned=known["cosigned"],
        witnesses=known["witnesses"],
    )
    for piece in write_export(head, _leaves(client, known["size"])):
        out.write(piece)
    out.flush()
    os.fsync(out.fileno())
    return known


def _leaves(client: Client, size: int) -> Iterator[bytes]:
    """The exact bytes of the first entries."""
    number = 0
    while size > 0:
        some = client.get(f"/audit/bundles/{number}")["entries"][:size]
        yield from (one.encode() for one in some)
        size, number = (size - len(some), number + 1) if some else (0, number)


def _verify_file(file: Path, key: str) -> list[Document]:
    if not key:
        raise Invalid(
            "an export proves nothing without the log's public key",
            where="--key",
            hint="give the key that you were given by another way; `kasbah audit export` prints it",
            code="usage",
        )
    try:
        with file.open("rb") as opened:
            found = _verified(opened, key)
            return [_document(found.origin or str(file), found)]
    except OSError as error:
        raise NotFound(
            f"{file} cannot be read: {error.strerror}", hint="name what `kasbah audit export` wrote"
        ) from error


def _verify_all(key: str) -> list[Document]:
    """The control plane's log read whole and verified; of each site's what the control plane found as it grew."""
    with Client(context.find()) as client, tempfile.TemporaryFile() as copy:
        known = _write(client, copy)
        copy.seek(0)
        found = [_document(CONTROL, _verified(copy, key or known["public_key"]))]
        others = [one for one in client.pages("/audit/logs") if one["log"] != CONTROL]
    for one in (known, *others):
        trouble = [{"where": "checkpoint", "problem": one["trouble"]}] if one["trouble"] else []
        if one is known:
            found[0]["findings"] += trouble
            continue
        found.append({
            "log": one["log"], "origin": one["origin"], "entries": one["size"], "cosigned": one["cosigned_size"],
            "cosigned_by": sorted(one["witnesses"]), "findings": trouble, "breaks": one["breaks"],
        })  # fmt: skip
    return found


def _verified(file: IO[bytes], key: str) -> Verified:
    from kasbah.api.audit_export import verify_export
    from kasbah.api.signing import parse_public

    try:
        parsed = parse_public(key)
    except ValueError as error:
        raise Invalid(
            f"{key!r} is no public key", where="--key", hint="ed25519: and 44 characters of base64"
        ) from error
    return verify_export(file, parsed, key)


def _document(name: str, verified: Verified) -> Document:
    return {
        "log": name,
        "origin": verified.origin,
        "entries": verified.size,
        "cosigned": verified.cosigned_size,
        "cosigned_by": list(verified.cosigned_by),
        "findings": [{"where": one.where, "problem": one.problem} for one in verified.findings],
        "breaks": [],
    }


def _row(entry: Document) -> tuple[object, ...]:
    actor = f"{entry['actor']} ({entry['credential']})" if entry["credential"] else entry["actor"]
    return (
        entry["sequence"],
        render.moment(entry["at"]),
        actor,
        entry["act"],
        entry["object"],
        entry["outcome"],
        entry["reason"],
    )


def _verdict(one: Document) -> tuple[object, ...]:
    by = ", ".join(one["cosigned_by"]) or "nobody"
    return one["log"], one["entries"], one["cosigned"], by, "failed" if one["findings"] else "ok"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
