"""More targets, for `targets.py`, where they are listed: of commands inside replicas, of hosts, of the command line, of
Envoy's reports and of the ledger."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError
from registry import any_text, target, temporary
from starlette.websockets import WebSocketDisconnect

from kasbah.agent import visits
from kasbah.agent.gateway import load, protos
from kasbah.agent.gateway.clusters import socket_address
from kasbah.agent.gateway.peers import is_ip
from kasbah.agent.ledger import Ledger
from kasbah.api.agent import DESIRED_STATE, IDENTITY, Identity
from kasbah.api.fields import Domain
from kasbah.api.signing import DESIRED, public_text, sign
from kasbah.cli import client, deploy, logs
from kasbah.cli.exits import ExitCode
from kasbah.cli.main import run
from kasbah.clock import SystemClock
from kasbah.control.usecases.publish import host, host_error, is_below
from kasbah.decide.certificates import covers
from kasbah.domain.crossing import address_error
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.service import name_error
from kasbah.drivers.visits import open_files
from kasbah.errors import Conflict, Denied, Invalid, KasbahError


class _Caller:
    """A WebSocket whose other side says these messages and leaves."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def receive_bytes(self) -> bytes:
        if not self._messages:
            raise WebSocketDisconnect
        return self._messages.pop(0)


@target(
    b'\0{"argv": ["sh", "-c", "ls"], "terminal": [30, 80], "replica": "rp-1"}|\1typed|\0{"resize": [3, 4]}|\1',
    b'\0{"argv": ["sh"], "terminal": [1e999, 1]}|\0{"resize": [1e999, 2]}',
    b'\0{"argv": ["sh"], "terminal": null}|\0{"resize": 5}',
    b'\0{"argv": ["\\ud800"]}|\0{"resize": [[], {}]}',
    b"\0" + b"[" * 100_000 + b"|\0" + b"[" * 100_000,
    b"|\0\xff|\x09",
)
def exec_messages(data: bytes) -> None:
    first, *rest = data.split(b"|")
    ours, theirs = open_files((3, 4))
    session = visits.Session(websocket=cast(Any, _Caller(rest)), visit=cast(Any, None), ends=ours, terminal=True)

    async def heard() -> None:
        with suppress(Invalid):
            asked = await visits._first(cast(Any, _Caller([first])))
            assert all(b"\0" not in os.fsencode(word) for word in asked.argv)
        with suppress(Invalid, WebSocketDisconnect):
            await visits._hear(session)

    try:
        asyncio.run(heard())
    finally:
        ours.close()
        for fd in theirs:
            os.close(fd)


_DOMAIN: TypeAdapter[str] = TypeAdapter(Domain)


def _is_host(text: str) -> bool:
    """Whether a browser, a resolver and Envoy take it for one host, and that only."""
    labels = text.split(".")
    plain = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    return len(text) <= 253 and all(
        1 <= len(one) <= 63 and set(one) <= plain and not one.startswith("-") and not one.endswith("-")
        for one in labels
    )


@target(
    b"shop.example.org", b"Shop.Example.ORG.", b"web", b"a--b", b"a\n", b"*.example.org", "é.example.org".encode(),
    b"a" * 64 + b".org", b"localhost", b"web.localhost", b"\xe2\x84\xaa.org", b"1.2.3.4", b"a..b", b"x" * 5_000,
)  # fmt: skip
def host_names(data: bytes) -> None:
    text = any_text(data)
    name, _, project = text.partition("/")
    project = project or "default"
    if name_error(name) is None and name_error(project) is None and host_error(name, project) is None:
        assert _is_host(host(name, project, "localhost"))
    covers((text,), text)
    covers((f"*.{text}", text[1:]), text)
    is_below(text, "localhost")
    with suppress(ValidationError):
        domain = _DOMAIN.validate_python(text)
        assert _is_host(domain)
        assert _DOMAIN.validate_python(domain) == domain
        assert covers((domain,), domain)


@target(
    b"192.0.2.1:9443", b"[2001:db8::1]:9443", b"2001:db8::1:9443", b"gateway.example.org:9443", b"0.0.0.0:1", b"[::]:1",
    b"[fe80::1%eth0]:1", b"a:" + b"9" * 5_000, b"a\n:1", "\u0663:1".encode(), b"\xb2:1",
)  # fmt: skip
def peer_address(data: bytes) -> None:
    """What one site reports, all others are told to dial: it must not spoil their gateways."""
    text = any_text(data)
    if address_error(text) is None:
        address = socket_address(text)["socket_address"]
        assert 0 < address["port_value"] < 65_536
        assert is_ip(text) or _is_host(address["address"].lower())
        if is_ip(text):
            assert not ip_address(address["address"]).is_unspecified


ON_THIS_MACHINE = {"up", "down", "control", "agent", "backup", "restore", "doctor"}
"""They need no server, and what they are told to do they do."""


LINES = (
    "ps -o json", "scale web 2 --min 1", f"scale web {'9' * 5_000}", "traffic web rv-1=101", "logs web --tail -1",
    "logs web -f", "plan .", f"plan {'9' * 5_000}", "deploy . --name -x", "exec web -- \udcff", "secrets set \ud800",
    "-- \udcf0", "keys create a --service b", "keys list -o yaml", "env set web A=\x1b[2J", "wake ../..", "wake web",
    "projects set p --memory nan", "projects create p --cpu 2", "sleep web --stop --timeout inf", "completion bash",
    "gc --yes -h", "-o json", "tokens create a --role auditor", "delete web --yes", "rollback web", "volumes list",
    "describe web -o yaml", "deploy kasbah.yaml --wait 1s", "sites list --output=json",
)  # fmt: skip


@target(*(line.replace(" ", "\0").encode("utf-8", "surrogatepass") for line in LINES))
def arguments(data: bytes) -> None:
    """Whatever is typed ends with a code of ours, and no bug; the installation that it would speak to is not there."""
    words = [os.fsdecode(one) for one in data.split(b"\0")]
    if ON_THIS_MACHINE & set(words) or any(os.path.isabs(one) or ".." in one or "~" in one for one in words[1:]):
        return
    with temporary() as folder:
        (folder / "app.py").write_text("print(1)\n")
        nowhere = {"KASBAH_URL": "http://127.0.0.1:9", "KASBAH_TOKEN": "kst_x", "HOME": str(folder)}
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        before = Path.cwd()
        os.chdir(folder)
        try:
            with (
                mock.patch.dict(os.environ, {"PATH": os.environ["PATH"], **nowhere}, clear=True),
                mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(b"value"), "utf-8")),
                mock.patch.object(client, "PAUSE_SECONDS", 0),
                mock.patch.object(deploy, "PATIENCE_SECONDS", 0),
                mock.patch.object(logs, "PATIENCE_SECONDS", 0),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                code = run(words)
        finally:
            os.chdir(before)
        said = cast(io.BytesIO, err.buffer).getvalue().decode()
    assert "bug in Kasbah" not in said, f"{words}: {said}"
    assert "Traceback" not in said
    assert code in set(ExitCode), f"{words}: {code}"


def _report(**endpoint: object) -> bytes:
    if not _LOADED:
        protos.load(Path(tempfile.gettempdir()) / f"kasbah-fuzz-protos-{os.getuid()}")
        _LOADED.append(True)
    stats = {"upstream_endpoint_stats": [endpoint]}
    cluster = {"cluster_name": "sv-1/rv-1", "upstream_locality_stats": [stats], "total_dropped_requests": 1}
    return protos.parse(_REQUEST, {"cluster_stats": [cluster]}).SerializeToString()


_LOADED: list[bool] = []
_REQUEST = "envoy.service.load_stats.v3.LoadStatsRequest"
_ADDRESS = {"socket_address": {"address": "127.0.0.1", "port_value": 4_000}}


@target(
    _report(address=_ADDRESS, total_requests_in_progress=3, total_issued_requests=5),
    _report(address={"pipe": {"path": "/cold.sock"}}, total_requests_in_progress=2**64 - 1),
    _report(total_issued_requests=1),
)
def load_report(data: bytes) -> None:
    """What Envoy could not have written is refused by its own types; of the rest, no count is below nothing."""
    request: Any = protos.message(_REQUEST)()
    try:
        request.ParseFromString(data)
    except Exception as error:
        if type(error).__name__ == "DecodeError":  # protobuf exports no name of it
            return
        raise
    report = load._report(1, request)
    counts = [*report.in_flight.values(), *report.issued.values(), *report.through_gate.values()]
    assert all(count >= 0 for count in counts)
    for cluster, address in report.in_flight:
        assert report.busy(cluster, address) >= report.direct(cluster, address)


_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
_PINNED = Identity(installation=InstallationId("i"), site=SiteId("s"), site_name="here", public_key=public_text(_KEY))
_DOCUMENT = DESIRED_STATE.dump_json(
    DesiredState(
        installation=InstallationId("i"),
        site=SiteId("s"),
        base_domain="localhost",
        epoch=1,
        generation=1,
        issued_at=SystemClock().now().replace(year=2026),
    )
)
_FILES: dict[str, dict[str, object]] = {
    "identity.json": {"identity": json.loads(IDENTITY.dump_json(_PINNED))},
    "desired.json": {"document": _DOCUMENT.decode(), "signature": sign(_KEY, DESIRED, _DOCUMENT)},
    "memory.json": {"proven": {"rv-1": "http1"}, "obeyed": {"sv-1": 3}},
}


def _written(name: str, **more: object) -> bytes:
    return name[0].encode() + json.dumps({"format": 1, **_FILES[name], **more}).encode()


@target(
    *map(_written, _FILES),
    _written("identity.json", identity={**json.loads(IDENTITY.dump_json(_PINNED)), "public_key": "ed25519:A"}),
    _written("identity.json", identity={**json.loads(IDENTITY.dump_json(_PINNED)), "site": "else"}),
    _written("desired.json", document="\ud800"),
    _written("memory.json", obeyed={"sv-1": 1e999}),
    _written("memory.json", format=2),
    b"d" + b"[" * 100_000,
    b"i\xff\xfe",
    b"m",
)
def ledger(data: bytes) -> None:
    """The first byte says which file holds the rest; the others are whole. It is read, or refused by the file's name,
    and left as it is."""
    name = next((one for one in _FILES if one[0].encode() == data[:1]), "memory.json")
    with temporary() as folder:
        for one in _FILES:
            (folder / one).write_bytes(data[1:] if one == name else _written(one)[1:])
        read = _read(folder)
        if isinstance(read, Ledger):
            read.remember()
            with suppress(Denied, Invalid):
                read.accept(_DOCUMENT, sign(_KEY, DESIRED, _DOCUMENT))
            assert Ledger(folder).memory == read.memory
        else:
            assert str(folder) in str(read), f"{read} does not say which file"
            assert read.hint
            assert (folder / name).read_bytes() == data[1:]


def _read(folder: Path) -> Ledger | KasbahError:
    try:
        return Ledger(folder)
    except (Invalid, Conflict, Denied) as refused:
        return refused
