"""A site's own door, asked over HTTP what nobody should: paths, queries, bodies and tickets that are not in order.

It answers each, and has no bug; without a ticket for just that it refuses, and what it refuses changes nothing; no
ticket, whoever signed it, reaches a file outside the folders that the door is for. The same few examples at every run;
EXAMPLES=N for more, and new ones (`make fuzz`).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote, unquote

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from no_sandbox import no_sandbox
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import Builder
from kasbah.agent.door import Door
from kasbah.agent.ledger import Ledger
from kasbah.agent.paths import Paths
from kasbah.agent.revisions import Revisions
from kasbah.agent.serving import serve_unix
from kasbah.agent.shelf import Shelf
from kasbah.agent.space import Housekeeper
from kasbah.agent.visitors import Visitors
from kasbah.agent.visits import Visits
from kasbah.api.agent import DESIRED_STATE, Identity
from kasbah.api.signing import DESIRED, Ticket, public_text, sign, write_ticket
from kasbah.clock import ManualClock
from kasbah.decide.keeping import AtWork
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.settings import Limits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"k", b"s"))
SITE, INSTALLATION = SiteId("st-here"), InstallationId("in-ours")
SERVICE, REPLICA = "sv-0000000000000000", "rp-0000000000000001"
DIGEST = "sha256:" + "0" * 64
SECRET = b"what is nobody's to see"
SECONDS = 20


class Asked:
    """A door that is served on a Unix socket, in a folder among others' files."""

    def __init__(self, outer: Path) -> None:
        self.outer = outer
        paths = Paths(outer / "data")
        paths.make()
        self.socket = paths.door_socket
        ledger = Ledger(paths.ledger)
        ledger.pin(Identity(installation=INSTALLATION, site=SITE, site_name="here", public_key=public_text(KEY)))
        desired = DesiredState(
            installation=INSTALLATION, site=SITE, base_domain="localhost", epoch=1, generation=1, issued_at=NOW
        )
        document = DESIRED_STATE.dump_json(desired)
        ledger.accept(document, sign(KEY, DESIRED, document))
        self._fill(paths)
        blobs, clock = BlobStore(paths, Limits()), ManualClock(NOW)
        revisions = Revisions(
            paths, Builder(paths, Limits(), blobs, sandboxes=no_sandbox), blobs, asyncio.create_task, lambda: None
        )
        keeper = Housekeeper(paths, Limits(), revisions, clock, lambda: ledger.desired, AtWork)
        nobody = cast(Any, SimpleNamespace(units=()))
        shelf = Shelf(paths, lambda: ledger.desired, AtWork)
        door = Door(paths, ledger, blobs, clock, lambda: None, keeper, shelf, Visitors(nobody))
        self._app = door.app(Visits(nobody, ledger, nobody, nobody))
        self._ended: asyncio.Event
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        while not self._answers():
            assert self._thread.is_alive()

    def _fill(self, paths: Paths) -> None:
        line = f"2026-03-01T12:00:00.000000Z stdout F {SECRET.decode()}\n"
        for folder in (self.outer, paths.data_dir, paths.root, paths.runner, paths.logs, paths.replicas):
            (folder / f"{REPLICA}.log").write_text(line)
        (paths.logs / SERVICE).mkdir()
        (paths.logs / SERVICE / f"{REPLICA}.log").write_text(line.replace(SECRET.decode(), "hello"))
        for folder in (paths.volumes / "sv-gone" / "data", paths.volumes / "sv-gone" / "more"):
            folder.mkdir(parents=True)
            (folder / "file").write_text("kept")

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        serving = asyncio.create_task(serve_unix(self._app, self.socket))
        await self._ended.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(self.socket))
            return True
        return False

    def ask(self, method: str, target: bytes, ticket: str, body: bytes) -> tuple[int, bytes]:
        """The answer's status and body; of an answer that does not end, the beginning."""
        headers = {"authorization": f"Bearer {ticket}".encode("latin-1", "replace")} if ticket else {}
        with (
            httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=SECONDS) as client,
            client.stream(
                method, "http://kasbah", headers=headers, content=body, extensions={"target": target}
            ) as answer,
        ):
            endless = b"follow" in target and answer.is_success
            return answer.status_code, b"" if endless else answer.read()

    def raw(self, sent: bytes) -> bytes:
        """What comes back for these bytes, until the door closes or the sender does."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(SECONDS)
            peer.connect(str(self.socket))
            said = b""
            with suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(sent)
                peer.shutdown(socket.SHUT_WR)
                while part := peer.recv(65_536):
                    said += part
            return said

    def files(self, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Every file and what it holds; but for these folders of the agent's."""
        spared = [self.outer / "data" / "agent" / name for name in (*but, "run")]
        return {
            str(path): path.read_bytes() if path.is_file() else b""
            for path in self.outer.rglob("*")
            if not any(path.is_relative_to(one) for one in spared)
        }

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the door does not end"
        self._loop.close()


@pytest.fixture(scope="module")
def door() -> Iterator[Asked]:
    with tempfile.TemporaryDirectory(prefix="kasbah-fuzz-") as outer:
        door = Asked(Path(outer))
        yield door
        door.close()


few = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

IDS = (SERVICE, REPLICA, DIGEST, "sv-gone", "data", "sha256:..", DIGEST + "\n", "../sv-gone", ".gone-x")
PATHS = ("..", ".", "", "../..", "../../..", "../logs", "/etc", "%2e%2e", "*", "**", "\0", "é", "a\nb", "x" * 300)
PART = st.sampled_from((*IDS, *PATHS, "{service}"))
ACTS = ("blob.put", "logs.read", "exec", "site.free", "site.volumes")
ROUTES = (
    ("PUT", "/v1/blobs/{}", "blob.put"),
    ("HEAD", "/v1/blobs/{}", "blob.put"),
    ("GET", "/v1/services/{}/logs", "logs.read"),
    ("GET", "/v1/gc", "site.free"),
    ("POST", "/v1/gc", "site.free"),
    ("GET", "/v1/volumes", "site.volumes"),
    ("DELETE", "/v1/volumes/{}/{}", "site.volumes"),
)
SPOILT = ("none", "torn", "longer", "another act", "another object", "another site", "expired", "a stranger's", "twice")


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, bytes, str, str]:
    """A method, a target, a body, and the act and object that the ticket for it names."""
    method, path, act = draw(st.sampled_from(ROUTES))
    parts = [draw(PART) for _ in range(path.count("{}"))]
    target = path.format(*(quote(one, safe=draw(st.sampled_from(["", "/"]))) for one in parts))
    names = st.sampled_from(["tail", "replica", "build", "follow", "everything", "é", ""])
    values = PART | st.sampled_from(["0", "1", "10001", "9" * 5_000, "-1", "²", "true"])
    query = "&".join(f"{quote(draw(names))}={quote(draw(values))}" for _ in range(draw(st.integers(0, 2))))
    body = draw(st.binary(max_size=40) | st.sampled_from([b"", gzip.compress(b"\0" * 1_024), b"\x1f\x8b" + b"\0" * 30]))
    thing = SITE if act.startswith("site.") else unquote(quote(parts[0]))
    return method, (f"{target}?{query}" if query else target).encode(), body, act, thing


def signed(act: str, thing: str, *, key: Ed25519PrivateKey = KEY, age: timedelta = timedelta(), **more: Any) -> str:
    ticket = Ticket(act=act, object=thing, site=SITE, expires_at=NOW - age + timedelta(minutes=10), limit=10**6)
    return write_ticket(key, replace(ticket, **more))


def spoilt(how: str, act: str, thing: str, at: int) -> str:
    """A ticket that is not the one for this."""
    good = signed(act, thing)
    cut = at % len(good)
    return {
        "none": "",
        "torn": good[:cut],
        "longer": good + "A" * (1 + at % 40),
        "another act": signed(ACTS[(ACTS.index(act) + 1 + at % (len(ACTS) - 1)) % len(ACTS)], thing),
        "another object": signed(act, f"{thing}x"),
        "another site": signed(act, thing, site=SiteId("st-else")),
        "expired": signed(act, thing, age=timedelta(minutes=10, seconds=at)),
        "a stranger's": signed(act, thing, key=STRANGER),
        "twice": f"{good}.{good}",
    }[how]


def test_without_the_ticket_for_it_nothing_is_done(door: Asked) -> None:
    before = door.files()

    @few
    @given(requests(), st.sampled_from(SPOILT), st.integers(0, 5_000))
    def holds(request: tuple[str, bytes, bytes, str, str], how: str, at: int) -> None:
        method, target, body, act, thing = request
        status, said = door.ask(method, target, spoilt(how, act, thing, at), body)
        assert status in (307, 401, 403, 404, 405), f"{method} {target!r} with {how}: {status} {said!r}"
        if status in (401, 403) and method != "HEAD":
            assert json.loads(said)["error"]["code"] in ("unauthenticated", "denied", "ticket_expired")
        assert SECRET not in said
        assert door.files() == before

    holds()


LOGS_OF_OTHERS = ("..", "../..", "x\0", "x" * 300)
"""Services whose logs nobody has; found first with tickets that name these."""


@pytest.mark.parametrize("service", LOGS_OF_OTHERS)
def test_a_ticket_for_no_service_reads_no_logs(door: Asked, service: str) -> None:
    target = f"/v1/services/{quote(service, safe='')}/logs".encode()
    status, said = door.ask("GET", target, signed("logs.read", service), b"")
    assert status in (400, 404)
    assert SECRET not in said


def test_with_a_ticket_nothing_else_is_reached(door: Asked) -> None:
    mine = ("blobs", "volumes", "logs", "builds", "cache")
    before = door.files(but=mine)

    @few
    @given(requests())
    def holds(request: tuple[str, bytes, bytes, str, str]) -> None:
        method, target, body, act, thing = request
        status, said = door.ask(method, target, signed(act, thing), body)
        assert status < 500, f"{method} {target!r}: {status} {said!r}"
        assert SECRET not in said, f"{method} {target!r}"
        assert door.files(but=mine) == before, f"{method} {target!r}"

    holds()


NOISE = st.binary(max_size=200) | st.sampled_from(
    [
        b"GET /v1/gc HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n",
        b"GET http://x/v1/gc HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"PUT /v1/blobs/x HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nzz\r\n",
        b"PUT /v1/blobs/x HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"GET /v1/services/a/exec HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"GET /v1/gc HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
)


def test_noise_is_answered_or_hung_up_on(door: Asked) -> None:
    before = door.files()

    @few
    @given(NOISE)
    def holds(sent: bytes) -> None:
        assert not door.raw(sent).startswith(b"HTTP/1.1 5")
        assert door.files() == before

    holds()
    assert door.ask("GET", b"/v1/gc", "", b"")[0] == 401, "it answers still"


def upgraded(door: Asked, uri: str, headers: dict[str, str]) -> ClientConnection | int:
    """The WebSocket that was opened, or the status with which it was not."""
    try:
        return unix_connect(str(door.socket), uri, additional_headers=headers, open_timeout=SECONDS)
    except InvalidStatus as refused:
        return refused.response.status_code


def test_an_exec_wants_its_own_ticket_and_a_command(door: Asked) -> None:
    @few
    @given(PART, st.sampled_from((*SPOILT, "the right one")), st.integers(0, 5_000), st.binary(max_size=30))
    def holds(service: str, how: str, at: int, first: bytes) -> None:
        ticket = signed("exec", service) if how == "the right one" else spoilt(how, "exec", service, at)
        uri = f"ws://kasbah/v1/services/{quote(service, safe='')}/exec"
        headers = {"authorization": f"Bearer {ticket}"} if ticket else {}
        opened = upgraded(door, uri, headers)
        if isinstance(opened, int):
            assert opened in (400, 403, 404)
            return
        with opened:
            with suppress(ConnectionClosed):
                opened.send(b"\0" + first)
            said = opened.recv(timeout=SECONDS)
            assert isinstance(said, bytes)
            code = json.loads(said[1:])["error"]["code"]
            assert (code in ("invalid", "not_found")) == (how == "the right one"), (how, said)
            with pytest.raises(ConnectionClosed):
                opened.recv(timeout=SECONDS)

    holds()
