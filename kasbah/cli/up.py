"""`kasbah up`: starts the supervisor, here or detached, says where Kasbah answers, and tells the client.

The supervisor's own work is `supervisor.py`'s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kasbah.cli import context, render
from kasbah.cli.addresses import Address, parse_address, parse_country, parse_domain, parse_peers, parse_tls
from kasbah.cli.exits import Failed
from kasbah.cli.options import (
    CertificatesOption,
    DataDir,
    OutputOption,
    PacksOption,
    PeersAddressOption,
    PeersOption,
    SitesOption,
    TlsOption,
)
from kasbah.cli.processes import last_lines
from kasbah.cli.record import DataFolder, data_folder
from kasbah.cli.render import Output
from kasbah.cli.supervisor import Plan, Ready, supervise
from kasbah.errors import Conflict, Invalid, KasbahError
from kasbah.settings import DEFAULT_API, DEFAULT_BASE_DOMAIN, DEFAULT_GATEWAY

_KINDS: dict[str, type[KasbahError]] = {"Conflict": Conflict, "Invalid": Invalid}
GONE_SECONDS = 60.0
"""A supervisor that could not start Kasbah has ended what it started by then."""


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once Kasbah is ready; it runs on.")] = False,
    data_dir: DataDir = None,
    gateway: Annotated[
        str,
        typer.Option("--gateway", metavar="HOST:PORT", help="Where services answer; port 0 takes a free one."),
    ] = DEFAULT_GATEWAY,
    api: Annotated[
        str, typer.Option("--api", metavar="HOST:PORT", help="Where the API answers; port 0 takes a free one.")
    ] = DEFAULT_API,
    tls: TlsOption = None,
    certificates: CertificatesOption = None,
    country: Annotated[
        str | None, typer.Option("--country", metavar="CODE", help="The country this machine stands in, such as MA.")
    ] = None,
    sites: SitesOption = None,
    packs: PacksOption = None,
    peers: PeersOption = None,
    peers_address: PeersAddressOption = None,
    base_domain: Annotated[
        str, typer.Option("--base-domain", metavar="DOMAIN", help="Services answer at NAME.BASE_DOMAIN.")
    ] = DEFAULT_BASE_DOMAIN,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start Kasbah on this machine: control plane, agent and gateway.

    It runs until Ctrl-C, or until `kasbah down` with --detach; then nothing of it is left running. What was deployed
    is kept in the data folder and is there again at the next `kasbah up`.
    """
    api_address = parse_address(api, option="--api")
    gateway_address = parse_address(gateway, option="--gateway")
    tls_address = parse_tls(tls, certificates)
    folder = data_folder(data_dir)
    plan = Plan(
        data_dir=str(folder.path),
        api=(api_address.host, api_address.port),
        gateway=(gateway_address.host, gateway_address.port),
        tls=None if tls_address is None else (tls_address.host, tls_address.port),
        certificates=None if certificates is None else str(certificates.absolute()),
        sites=None if sites is None else str(parse_address(sites, option="--sites")),
        peers=parse_peers(peers, peers_address),
        peers_address=peers_address,
        base_domain=parse_domain(base_domain),
        country=None if country is None else parse_country(country),
        packs=None if packs is None else _pinned(packs),
    )
    _warn_of_the_open(("--api", api_address), ("--gateway", gateway_address))

    owned = folder.owner_key.exists()

    def announce(ready: Ready) -> None:
        token = folder.admin_token.read_text().strip()
        _remember(context.Remembered(url=ready.api, token_file=folder.admin_token))
        _print(ready, folder, token, output, detach=detach)
        if not owned and folder.owner_key.exists() and output is Output.TABLE:
            _tell_of_the_owner(folder)

    if detach:
        announce(start_detached(plan, folder))
    else:
        supervise(plan, announce=announce, say=_quietly(output))


def _pinned(folder: Path) -> str:
    """The folder, once the packs in it are sound and their tests hold. Raises Invalid."""
    from kasbah.packs.own import pinned  # it takes longer to import than all of this

    pinned(folder)
    return str(folder.absolute())


def start_detached(plan: Plan, folder: DataFolder) -> Ready:
    """Start the supervisor as nobody's child and wait until Kasbah is ready. Raises what kept it from that."""
    folder.make()
    reading, writing = os.pipe()
    with folder.log.open("ab") as log:
        since = log.tell()
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "kasbah.cli.supervisor", json.dumps(asdict(plan)), str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(writing,),
            cwd=folder.path,
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            line = pipe.readline()
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait()
        raise
    message = json.loads(line) if line else {}
    if "ready" not in message:
        _see_out(supervisor)
    if not line:
        tail = last_lines(folder.log, 15, since=since)
        raise Failed("Kasbah ended before it was ready", hint=f"see {folder.log}", tail=tail)
    if "error" in message:
        raise _error(message["error"])
    return Ready(**message["ready"])


def _see_out(supervisor: subprocess.Popen[bytes]) -> None:
    """It could not start Kasbah and is on its way out: who is told so finds nothing of it left."""
    try:
        supervisor.wait(GONE_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def _error(fields: dict[str, Any]) -> KasbahError:
    kind = _KINDS.get(fields["kind"])
    if kind is None:
        return Failed(fields["message"], hint=fields["hint"], code=fields["code"], tail=tuple(fields["tail"]))
    return kind(fields["message"], hint=fields["hint"], code=fields["code"], where=fields["where"])


def _remember(installation: context.Remembered) -> None:
    """Tell the client where Kasbah is; without that it still runs."""
    try:
        context.write(context.path(), installation)
    except OSError as error:
        render.say(
            f"warning: {context.path()} cannot be written ({error.strerror}), so the client does not find Kasbah by "
            f"itself: set KASBAH_URL={installation.url}, and KASBAH_TOKEN to what {installation.token_file} holds"
        )


def _print(ready: Ready, folder: DataFolder, token: str, output: Output, *, detach: bool) -> None:
    if output is not Output.TABLE:
        answer = {"api": ready.api, "gateway": ready.gateway, "data_dir": str(folder.path), "token": token}
        render.document(answer, output)
        sys.stdout.flush()
        return
    render.say("Kasbah is up.")
    render.fields({"API": ready.api, "Gateway": ready.gateway, "Sites": ready.sites, "Data": folder.path})
    example = Path("examples/hello-python")
    render.say(f"Next: kasbah deploy {example if example.is_dir() else 'FOLDER'}")
    render.say("Stop it with: kasbah down" if detach else "Stop it with Ctrl-C.")
    sys.stdout.flush()


def _tell_of_the_owner(folder: DataFolder) -> None:
    """Said once: the key was made just now."""
    render.say(
        f"The owner's key was made: {folder.owner_key}. It signs what is law here, and is in no backup: keep a copy of "
        "it elsewhere. You may take it away from this machine; commands that sign then take --owner-key. What is "
        "deployed from here is signed with another key, deployer.key beside it."
    )
    sys.stdout.flush()


def _warn_of_the_open(*addresses: tuple[str, Address]) -> None:
    for option, address in addresses:
        if not address.loopback:
            render.say(f"warning: {option} {address} can be reached from other machines, and there is no TLS on it")


def _quietly(output: Output) -> Callable[[str], None]:
    """What the supervisor says goes to people only; programs read one object."""
    return render.say if output is Output.TABLE else lambda _text: None
