"""Requests that no client sends by mistake: whatever comes, the neighbour serves, nothing without a key wakes who asks
for one, no forged header reaches an app, and answers tell nothing of what stands behind."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import Site, app

pytestmark = pytest.mark.real

MIRROR = """\
import http.server, json, os

class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        said = json.dumps({"headers": self.headers.items(), "path": self.path, "method": self.command}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Mirror).serve_forever()
"""
TELLING = (b"cold", b"/run/", b".sock", b"upstream connect", b"sv-", b"rv-", b"127.0.0.1:", b"Traceback")
"""What an answer of the gateway's own would give away."""
SECONDS = 0.4


@pytest.fixture(scope="module")
def mirror(site: Site) -> str:
    """A public app that says what reached it."""
    manifest = "services:\n  mirror:\n    command: python3 mirror.py\n    access: public\n"
    site.deploy(app(site.home / "mirror", manifest, mirror__py=MIRROR))
    return "mirror"


@pytest.fixture(scope="module")
def locked(site: Site) -> str:
    """An app that asks for a key, and sleeps."""
    site.deploy(app(site.home / "locked", "services:\n  locked:\n    command: python3 mirror.py\n", mirror__py=MIRROR))
    site.sleep("locked", "stopped")
    return "locked"


@pytest.fixture(autouse=True)
def nobody_is_harmed(site: Site, probed: str, locked: str) -> Iterator[None]:
    parts = {part: site.pid(part) for part in ("agent", "envoy", "control")}
    before = site.get(probed).json()["replica"]
    yield
    assert site.get(probed).json()["replica"] == before
    assert {part: site.pid(part) for part in parts} == parts
    assert site.describe(locked)["state"] == "stopped"


def say(site: Site, *pieces: bytes, seconds: float = SECONDS) -> bytes:
    """Everything that the gateway answers to these bytes until it closes, or has said nothing for so long. Our half
    stays open: who closes it has left, as far as the gateway knows, and is answered nothing."""
    host, _, port = site.gateway.rpartition(":")
    heard = b""
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=seconds) as raw:
        for piece in pieces:
            raw.sendall(piece)
        while data := raw.recv(65_536):
            heard += data
    return heard


def told(answer: bytes) -> list[int]:
    """The statuses of the answers that came."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] + [
        int(part[:3]) for part in answer.split(b"HTTP/1.0 ")[1:]
    ]


def request(host: bytes, *lines: bytes, first: bytes = b"GET / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([first, b"host: " + host, *lines, b"connection: close", b"", body])


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: locked.localhost\r\n\r\n"
AMBIGUOUS = {
    "a length and chunks": (b"content-length: 4", b"transfer-encoding: chunked"),
    "two lengths": (b"content-length: 4", b"content-length: 40"),
    "a list of lengths": (b"content-length: 4, 40",),
    "a negative length": (b"content-length: -1",),
    "a length with a sign": (b"content-length: +4",),
    "chunks by another name": (b"transfer-encoding: xchunked",),
    "chunks twice": (b"transfer-encoding: chunked, chunked",),
    "chunks that are not last": (b"transfer-encoding: chunked, identity",),
    "a folded header": (b"x-a: b", b" transfer-encoding: chunked"),
    "a space before the colon": (b"content-length : 4",),
    "a bare line feed": (b"x-a: b\ncontent-length: 4",),
    "a bare carriage return": (b"x-a: b\rcontent-length: 4",),
    "a zero byte": (b"x-a: b\0c",),
    "a name with a zero byte": (b"x-\0a: b",),
    "no name": (b": b",),
    "two hosts": (b"host: locked.localhost",),
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_two_readers_could_read_differently_smuggles_nothing(
    site: Site, mirror: str, lines: tuple[bytes, ...]
) -> None:
    asked = request(b"mirror.localhost", *lines, first=b"POST / HTTP/1.1", body=b"0\r\n\r\n" + SMUGGLED)
    answer = say(site, asked.replace(b"connection: close\r\n", b""))
    assert set(told(answer)[1:]) <= {400, 401}, (
        answer
    )  # what follows is nothing, or asked of the gateway, which refuses
    assert b"/smuggled" not in answer, "the app was given a request that the gateway did not see"
    after = say(site, request(b"mirror.localhost", first=b"GET /after HTTP/1.1"), seconds=60)
    assert b'"path": "/after"' in after, "an answer came to somebody else's request"


def test_no_header_that_callers_forge_reaches_an_app_or_steers_the_gateway(site: Site, mirror: str) -> None:
    ours = [
        *(b"x-kasbah-%s: sv-0" % name for name in (b"service", b"revision", b"replica", b"upstream", b"wake", b"hop")),
        *(b"X-Envoy-%s: 1" % name for name in (b"Original-Path", b"Retry-On", b"Upstream-Rq-Timeout-Ms", b"Internal")),
        b"x-envoy-original-dst-host: 127.0.0.1:1",
        b"x-envoy-decorator-operation: forged",
        b"x-envoy-force-trace: 1",
    ]
    answer = say(site, request(b"mirror.localhost", *ours), seconds=60)
    assert told(answer) == [200], answer
    seen = {name.lower(): value for name, value in json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]}
    known = ("x-kasbah-service", "x-kasbah-revision")  # the gateway sets these two itself
    assert all(seen.get(name, "") not in ("sv-0", "1") for name in known)
    given = {line.partition(b":")[0].decode().lower() for line in ours}
    assert seen.keys() & given <= set(known), seen


HOSTS = {
    "nothing": b"",
    "an infrastructure cluster": b"door",
    "a cold cluster": b"cold",
    "a user": b"admin@locked.localhost",
    "dots": b"..",
    "a path": b"../../etc/passwd",
    "a zero byte": b"locked\0.localhost",
    "another alphabet": "l\u043ecked.localhost".encode(),
    "a list": b"locked.localhost, mirror.localhost",
    "very long": b"a" * 5_000 + b".localhost",
    "a port that is none": b"locked.localhost:99999999",
    "an address": b"[::1]",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_odd_hosts_lead_nowhere(site: Site, host: bytes) -> None:
    answer = say(site, request(host))
    assert set(told(answer)) <= {400, 401, 404, 431}, answer
    assert not any(one in answer for one in TELLING), answer


@pytest.mark.parametrize(
    "host", [b"LOCKED.LocalHost", b"locked.localhost.", b"locked.localhost:1", b"locked.localhost"]
)
def test_however_a_host_is_written_its_service_asks_for_a_key(site: Site, host: bytes) -> None:
    for first in (b"GET / HTTP/1.1", b"GET http://mirror.localhost/ HTTP/1.1", b"GET //mirror.localhost/ HTTP/1.1"):
        assert set(told(say(site, request(host, first=first)))) <= {200, 400, 401, 404}


PATHS = [b"//", b"/../../x", b"/%2e%2e/x", b"/a%2fb", b"/%00", b"/;x=1", b"/%", b"/\xff", b"*", b"/" + b"a" * 20_000]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_odd_paths_pass_no_key(site: Site, path: bytes) -> None:
    answer = say(site, request(b"locked.localhost", first=b"GET " + path + b" HTTP/1.1"))
    assert set(told(answer)) <= {400, 401, 404, 431}, answer
    assert not any(one in answer for one in TELLING), answer


METHODS = [b"TRACE", b"CONNECT", b"BREW", b"PRI", b"X" * 5_000, b"get", b"", b"G\0T", b"\x16\x03\x01"]


@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_odd_methods_pass_no_key(site: Site, method: bytes) -> None:
    answer = say(site, request(b"locked.localhost", first=method + b" / HTTP/1.1"))
    assert set(told(answer)) <= {400, 401, 403, 404, 405, 431}, answer
    assert not any(one in answer for one in TELLING), answer


def test_upgrades_old_versions_and_expectations_wake_nobody(site: Site) -> None:
    upgrade = (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-key: dGhl", b"sec-websocket-version: 13")
    for asked in (
        request(b"locked.localhost", *upgrade),
        request(b"locked.localhost", b"upgrade: h2c", b"http2-settings: AAMAAABk"),
        b"GET / HTTP/1.0\r\nhost: locked.localhost\r\n\r\n",
        request(b"locked.localhost", b"expect: 100-continue", b"content-length: 9", first=b"POST / HTTP/1.1"),
        request(
            b"locked.localhost", b"content-encoding: gzip", b"content-length: 99999999999", first=b"POST / HTTP/1.1"
        ),
    ):
        assert set(told(say(site, asked))) <= {100, 400, 401, 403, 426}, asked


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
LOCKED = b"\x82\x86\x84\x41\x10locked.localhost"
"""GET / of the locked service, as HPACK has it."""
FLOODS = {
    "rapid resets": b"".join(frame(1, 5, n, LOCKED) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 8_001, 2)),
    "headers without end": frame(1, 0, 1, LOCKED) + frame(9, 0, 1, b"\x00\x01a\x01b") * 20_000,
    "settings": frame(4, 0, 0, b"\0\x03\0\0\0\x64") * 20_000,
    "pings": frame(6, 0, 0, bytes(8)) * 20_000,
    "empty data": frame(1, 4, 1, LOCKED) + frame(0, 0, 1) * 20_000,
    "windows": frame(8, 0, 0, b"\0\0\0\x01") * 20_000,
    "priorities": frame(2, 0, 1, b"\0\0\0\0\x10") * 20_000,
    "a frame that is too long": b"\xff\xff\xff\0\0\0\0\0\x01" + bytes(70_000),
    "noise": bytes(range(256)) * 50,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods_end_their_own_connection_at_most(site: Site, flood: bytes) -> None:
    say(site, PREFACE, flood)


def test_many_who_say_little_keep_nobody_waiting(site: Site, probed: str) -> None:
    host, _, port = site.gateway.rpartition(":")
    with contextlib.ExitStack() as held:
        for _ in range(200):
            raw = held.enter_context(socket.create_connection((host, int(port)), timeout=30))
            raw.sendall(b"GET / HTTP/1.1\r\nhost: locked.localhost\r\nx-a: ")
        began = time.monotonic()
        assert site.get(probed).status_code == 200
        assert time.monotonic() - began < 60


def bytes_in(site: Site) -> dict[str, int]:
    """What was sent to each service, as it is counted."""
    used = httpx.get(f"{site.api}/api/v1/usage", headers={"authorization": f"Bearer {site.token}"}).json()
    return {one["service"]: one["bytes_in"] for one in used["items"]}


class TestWhatAnAppWrites:
    """It is shown, and neither obeyed nor taken for what Kasbah says."""

    SAYS = (
        "import os, sys, http.server\n"
        "out = sys.stdout.buffer\n"
        "out.write(b'\\x1b]0;owned\\x07\\x1b[2J nul\\x00 \\xff\\xfe end\\n')\n"
        "out.write(b'2001-01-01T00:00:00.000000Z stdout F forged time\\n')\n"
        'out.write(b\'{"at": "2001", "replica": "rp-0000000000000000", "stream": "stdout", "text": "forged"}\\n\')\n'
        "out.write(b'over\\rwritten \\x0b\\xc2\\x85\\xe2\\x80\\xa8 lines\\n')\n"
        "out.write(b'L' * 10_000_000 + b'\\n')\n"
        "out.write(b'the last line\\n')\n"
        "out.flush()\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])),"
        " http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )

    def test_logs(self, site: Site, tmp_path: Path) -> None:
        manifest = "services:\n  liar:\n    command: python3 -u liar.py\n    access: public\n"
        site.deploy(app(tmp_path / "liar", manifest, liar__py=self.SAYS))
        site.becomes("liar", lambda _: "the last line" in site.ok("logs", "liar", "--tail", "1"), "has said all")
        shown = site.ok("logs", "liar", "--tail", "2000")
        assert not {"\x1b", "\x07", "\0", "\r", "\x0b", "\x85", "\u2028"} & set(shown)
        assert "\\x1b]0;owned\\x07" in shown
        lines = shown.splitlines()
        (replica,) = {line.split()[2] for line in lines}
        assert replica.startswith("rp-")
        assert all(not line.startswith("2001") for line in lines)
        assert any(line.endswith("| 2001-01-01T00:00:00.000000Z stdout F forged time") for line in lines)
        assert sum(line.count("L" * 100) > 0 for line in lines) > 500, "the long line is told in parts"
        told = [json.loads(line) for line in site.ok("logs", "liar", "--tail", "2000", "-o", "json").splitlines()]
        assert {one["replica"] for one in told} == {replica}
        assert not any(one["at"].startswith("2001") for one in told)

    def test_usage_is_not_forged_by_what_callers_say(self, site: Site, mirror: str) -> None:
        forged = b'/"},{"cluster":"sv-x/rv-x","status":200,"bytes_in":9000000000}\\n%0a?"'
        lines = (b'user-agent: ","cluster":"sv-x/rv-x","bytes_in":900000000,"x":"', b'x-request-id: "}\\n{"at":1')
        before = bytes_in(site)
        known = site.describe("mirror")["usage"]
        for _ in range(5):
            say(site, request(b"mirror.localhost", *lines, first=b"GET " + forged + b" HTTP/1.1"), seconds=10)
        site.get("mirror")  # what is counted after them
        seen = site.becomes("mirror", lambda seen: seen["usage"]["requests"] > known["requests"], "is counted")
        after = bytes_in(site)
        assert all(one - before.get(name, 0) < 10**9 for name, one in after.items()), (before, after)
        assert seen["usage"]["bytes_in"] - known["bytes_in"] < 10**6
