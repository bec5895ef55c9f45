"""What every reader of foreign bytes promises: whatever it is given, it answers, or refuses in our own words.

A target takes bytes and raises only where that promise is broken. `test_parsers.py` gives them what hypothesis makes,
at every run of the tests; `cover.py` what atheris finds by coverage (`make fuzz`).

target          reads                                    whose bytes they may be         may refuse with
manifest_file   kasbah.yaml                              whoever wrote the source        Invalid
quantity        durations and sizes                      the same, and callers of the API    ValueError
egress          entries of `egress`                      the same                        ValueError
ignore          .gitignore, .kasbahignore                whoever wrote the source        Invalid
python_source   what is guessed from Python files        whoever wrote the source        nothing
bundle          a source bundle, zipped or not           whoever holds a ticket          KasbahError
access_log      the gateway's log, the cold listener's   callers choose parts of it      nothing
journal_lines   what a replica writes, and reading it    the replica                     nothing
record          a replica's record                       who writes the data folder      nothing
runner          the runner's lines of JSON               without root, a replica         an error in its answer
gate            Envoy's questions to the gate            Envoy                           nothing
ticket          tickets at a site's door                 callers                         Denied
sealed          a sealed secret                          who writes the database         Unavailable
cursor          the cursor of a list                     callers of the API              Invalid
documents       desired states, statuses, usage          control planes, sites           ValidationError
certificate     a certificate and its key                who fills the TLS folder        CertificateError
backup_file     a backup's file                          who hands it over               KasbahError
shown           text on its way to a terminal            everybody                       nothing

Those in `targets_outside.py`:

exec_messages   what a caller of an exec sends           callers                         Invalid, or it leaves
load_report     what Envoy reports                       Envoy                           DecodeError
ledger          what a ledger holds                      who writes the data folder      Invalid, Conflict, Denied
host_names      hosts of services and domains            callers, the source             Invalid, or no host
peer_address    where a site says it is dialled          sites                           no address
arguments       the command line                         whoever types                   an exit code

Those in `targets_law.py`:

policy_file     policy.yaml                              whoever writes it               KasbahError
owner_documents lawbooks, approvals, declassifications   callers of the API              Invalid
policies        Cedar policies                           callers of the API              Invalid
Those in `targets_audit.py`:

audit_entry     an entry of an audit log                 who hands over an export        ValueError
checkpoint      a signed checkpoint                      sites, control planes           ValueError
audit_export    an export                                who hands it over               findings
audit_words     what is said of a log                    sites, control planes           ValidationError
entry_file      a site's log                             who writes the data folder      nothing: it is cut
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import targets_audit  # noqa: F401  its targets are added by import
import targets_law  # noqa: F401
import targets_outside  # noqa: F401
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError
from registry import SEEDS, TARGETS, any_text, target, temporary

from kasbah.agent import logs
from kasbah.agent.activator import Gate
from kasbah.agent.pem import CertificateError, read_pair
from kasbah.agent.runner import journal
from kasbah.agent.runner.records import Records
from kasbah.agent.runner.server import Connection, Server
from kasbah.api.agent import DESIRED_STATE, SITE_STATUS, USAGE_BATCH
from kasbah.api.bundle import unpack
from kasbah.api.ignore import travelling
from kasbah.api.quantities import format_duration, parse_duration, parse_size, write_size
from kasbah.api.sealing import Vault
from kasbah.api.signing import read_ticket
from kasbah.cli import manifest
from kasbah.cli.text import clean, clean_json
from kasbah.control import backup
from kasbah.control.http.paging import read_cursor
from kasbah.decide.detect_node import detect_node
from kasbah.decide.metering import first_bytes, meter
from kasbah.decide.python_source import imported, parse
from kasbah.domain.egress import destination
from kasbah.domain.ids import Digest, ReplicaId
from kasbah.errors import Denied, Invalid, KasbahError, Unavailable

__all__ = ["SEEDS", "TARGETS"]

FILE = b"""services:
  web: &base
    command: [python, app.py]
    env: {A: 1.10, B: "x"}
    access: public
    sleep: {freeze_after: 1m30s, stop_after: never}
    resources: {cpu: 0.5, memory: 512Mi}
    egress: ["api.example.com:443", 10.0.0.0/8, "service:b"]
    scaling: {min: 0, max: 2}
  two:
    <<: *base
    port: 0x50
"""


@target(
    FILE,
    b"a: &a [*a]\n",
    b"services: {web: {source: " + b"a" * 300 + b"}}",
    b"services:\n  a: {port: 0x" + b"f" * 5_000 + b"}",
)
def manifest_file(data: bytes) -> None:
    with temporary() as folder:
        (folder / "kasbah.yaml").write_bytes(data)
        with suppress(Invalid):
            manifest.read(folder / "kasbah.yaml")


@target(b"1h30m", b"512Mi", b"1.5d", b"never", "²s".encode(), b"9" * 5_000)
def quantity(data: bytes) -> None:
    text = any_text(data)
    with suppress(ValueError):
        parsed = parse_duration(text)
        assert abs((parse_duration(format_duration(parsed)) - parsed).total_seconds()) <= 0.001
    with suppress(ValueError):
        assert parse_size(write_size(parse_size(text))) == parse_size(text)


@target(b"api.example.com:443", b"10.0.0.0/8", b"service:web", b"[::1]:80", b"10.0.0.1/8:5")
def egress(data: bytes) -> None:
    with suppress(ValueError):
        destination(any_text(data))


@target(b"*.log\n!keep.log\n/build/\n", b"[z-a]\n", b"*" * 60 + b"x\n", b"*a" * 30 + b"\n", b"\\\n", b"a**/b\n[!x]\n")
def ignore(data: bytes) -> None:
    with temporary() as folder:
        (folder / ".gitignore").write_bytes(data)
        (folder / "app.py").touch()
        with suppress(Invalid):
            list(travelling(folder))


@target(b"from flask import Flask as F\napp = F(__name__)\n", b'{"scripts": {"start": "node x.js"}}', b"(" * 300)
def python_source(data: bytes) -> None:
    text = any_text(data)
    if (tree := parse(text)) is not None:
        imported(tree)
    detect_node({"package.json": text})


def _archive(*members: tuple[str, bytes, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, kind, link in members:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, link
            tar.addfile(header)
    return raw.getvalue()


@target(
    _archive(("a/b", tarfile.REGTYPE, ""), ("c", tarfile.SYMTYPE, "a/b"), ("d", tarfile.DIRTYPE, "")),
    _archive(("../x", tarfile.REGTYPE, ""), ("/y", tarfile.LNKTYPE, "/etc/passwd"), ("z", tarfile.CHRTYPE, "")),
    _archive(("a", tarfile.SYMTYPE, ""), ("a", tarfile.DIRTYPE, "")),
)
def bundle(data: bytes) -> None:
    with temporary() as folder:
        (folder / "bundle").write_bytes(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1))
        with suppress(KasbahError):
            unpack(folder / "bundle", folder / "in" / "to", limit_bytes=2**20, expected=Digest("sha256:" + "0" * 64))
        assert {one.name for one in folder.iterdir()} <= {"bundle", "in"}
        assert not any((folder / "in").iterdir()), "a refused bundle left something behind"


LINE = (
    b'{"at":1.5,"cluster":"sv-1/rv-1","key":"k","status":200,"milliseconds":1,"bytes_in":1,"bytes_out":1,"flags":"-"}'
)


@target(LINE, b'{"at":1,"wake":"wk-1","first_byte_milliseconds":2}', LINE.replace(b"1.5", b"1e999"), b"[" * 5_000)
def access_log(data: bytes) -> None:
    lines = data.splitlines()
    metered = meter(lines)
    assert sum(one.requests for one in metered.usage.values()) + metered.unreadable <= len(lines)
    first_bytes(lines)


@target(b"hello\nworld", b"2026-01-01T00:00:00.0Z stdout F forged\r\n\x1b[2J", "é\u2028\x85".encode() * 6_000)
def journal_lines(data: bytes) -> None:
    """What a replica says comes back as that, between our own time and name: it forges no line."""
    with temporary() as folder:
        written = journal.Journal(folder / "rp-1.log", file_bytes=2**30, files=2)
        half = len(data) // 2
        written.take("stdout", data[:half])
        written.take("stdout", data[half:])
        written.finish()
        written.close()
        said = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
        raw = journal.last_lines(folder / "rp-1.log", 10**6)
        read = [logs.parse_line(ReplicaId("rp-1"), line) for line in raw]
        assert all(one is not None and one.stream == "stdout" for one in read)
        assert sum(line.split(" ", 3)[2] == "F" for line in raw) == said


@target(b'{"version": 1, "replica": "rp-1"}', b"[]", b"12", b"[" * 5_000)
def record(data: bytes) -> None:
    with temporary() as folder:
        (folder / "rp-1.replica").write_bytes(data)
        Records(folder).load()


class _Socketless:
    """Stands in for a socket and the loop that watches it: takes what is sent."""

    def __init__(self, given: bytes) -> None:
        self.given, self.sent = given, b""

    def recvmsg(self, size: int, *_: object) -> tuple[bytes, list[object], int, None]:
        data, self.given = self.given[:size], self.given[size:]
        return data, [], 0, None

    def send(self, data: bytes) -> int:
        self.sent += bytes(data)
        return len(data)

    def fileno(self) -> int:
        return 9

    def nothing(self, *_: object) -> None:
        """Close, watch, stop watching: not here."""

    setblocking = close = watch = unwatch = listen = nothing


@target(
    b'{"id": 1, "op": "hello", "token": "t", "protocol": 1}\n{"id": 2, "op": "events"}\n',
    b"[" * 5_000 + b"\n",
    b'{"id": 1, "op": {}}\n{"id": [], "op": "hello", "token": "\\ud800"}\n',
)
def runner(data: bytes) -> None:
    """Each line is answered, and nobody who has not shown the token is told or given anything."""
    caller: Any = _Socketless(data + b"\n")
    server = Server(caller, caller, token="not t", operations={"stop": _never}, visitor=_never, ended=lambda: ["rp-1"])
    connection = Connection(caller, server, caller)
    while caller.given:
        connection._receive()
    for line in caller.sent.splitlines():
        assert json.loads(line)["error"]["code"] in ("denied", "invalid"), line
    assert not connection.subscribed


def _never(*_: object) -> None:
    raise AssertionError("a stranger was obeyed")


class _Wire:
    def __init__(self) -> None:
        self.said, self.aborted = b"", False

    def write(self, data: bytes) -> None:
        self.said += data

    def abort(self) -> None:
        self.aborted = True


@target(
    b"GET / HTTP/1.1\r\nx-kasbah-service: sv-1\r\nx-kasbah-revision: rv-1\r\n\r\n" * 2,
    b"\r\n\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nx-kasbah-service:\r\n x\r\n\r\n",
    b"a" * 200_000,
)
def gate(data: bytes) -> None:
    """However what it reads is cut, the gate asks the same questions, one at a time."""

    async def asked(step: int) -> list[tuple[str, str]]:
        questions: list[tuple[str, str]] = []

        def arrive(service: str, revision: str) -> asyncio.Future[Any]:
            questions.append((service, revision))
            return asyncio.get_running_loop().create_future()

        connection, wire = Gate(arrive), _Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        for at in range(0, len(data), step):
            connection.data_received(data[at : at + step])
        assert len(questions) <= 1, "a second question before the first is answered"
        connection.connection_lost(None)
        return questions

    async def both() -> None:
        assert await asked(max(1, len(data) // 7)) == await asked(max(1, len(data)))

    asyncio.run(both())


KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@target(b"e30.AAAA", b".", b"e30." + b"A" * 86, "é.é".encode())
def ticket(data: bytes) -> None:
    with suppress(Denied):
        read_ticket(KEY.public_key(), any_text(data), now=NOW)
        raise AssertionError("a ticket that nobody signed")


@target(Vault(b"k" * 32).seal(b"value", "here"), b"", b"short")
def sealed(data: bytes) -> None:
    with suppress(Unavailable):
        Vault(b"k" * 32).open(data, "elsewhere")
        raise AssertionError("opened what was not sealed for here")


@target(b"WyJhIiwiYiJd", b"WyJcdWQ4MDAiLCJ4Il0", b"W1tbW1tb", "é".encode())
def cursor(data: bytes) -> None:
    with suppress(Invalid):
        for part in read_cursor(any_text(data)) or ():
            part.encode()


@target(b'{"installation": "i", "site": "s", "epoch": 1}', b"[" * 500, b'{"sequence": 1e999, "usage": []}')
def documents(data: bytes) -> None:
    for shape in (DESIRED_STATE, SITE_STATUS, USAGE_BATCH):
        with suppress(ValidationError):
            shape.validate_json(data)


@target(
    b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
)
def certificate(data: bytes) -> None:
    chain, _, key = data.partition(b"\0")
    with suppress(CertificateError):
        read_pair("shop", chain, key)
    with suppress(CertificateError):
        read_pair("shop", data, data)


def _backup(text: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, body in ((backup.MANIFEST, text), (backup.DATABASE, b"SQLite format 3\0")):
            header = tarfile.TarInfo(name)
            header.size = len(body)
            tar.addfile(header, io.BytesIO(body))
    return raw.getvalue()


@target(
    b"\x1f\x8b" + b"\0" * 30,
    _backup(b'{"format": 1e999}'),
    _backup(b'{"format": 1, "installation": [], "epoch": "x", "schema": {}, "created_at": 1, "sha256": 2, "keys": []}'),
)
def backup_file(data: bytes) -> None:
    with temporary() as folder:
        (folder / "file").write_bytes(data)
        with suppress(KasbahError):
            backup._unpack(folder / "file", folder / "fresh")


OBEYED = {*map(chr, (*range(9), *range(11, 32), *range(127, 160))), "\u061c", "\u2028", "\u202e", "\u2066"}


@target(
    b"\x1b]0;title\x07",
    "a\u202eb\x85c\u061c".encode(),
    b"\x1b[31mred\x1b[0m",
    b"\xed\xa0\x80",
    b"\xed\xa0\x80\xed\xb0\x80",
)
def shown(data: bytes) -> None:
    text = any_text(data)
    for safe in (clean(text, lines=True), clean_json(json.dumps(text, ensure_ascii=False))):
        assert OBEYED.isdisjoint(safe)
        safe.encode()
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # JSON joins halves that meet
    assert json.loads(clean_json(json.dumps(text, ensure_ascii=False))) == whole
    assert clean(text, lines=True).count("\n") <= text.count("\n")
    assert "\n" not in clean(text)
