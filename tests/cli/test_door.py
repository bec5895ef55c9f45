"""Sending a source through the site's door: skipped where it is there, made again where that is safe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kasbah.cli import door
from kasbah.errors import Denied, TooLarge


class Site(ThreadingHTTPServer):
    """A site's door: `answers` are the statuses of the next PUTs, 201 afterwards."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.blobs: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, str]] = []

    def door(self, ticket: str = "good") -> dict[str, Any]:
        return {
            "address": f"127.0.0.1:{self.server_port}",
            "host": "kasbah.localhost",
            "path": "/v1/blobs/sha256:ab",
            "ticket": ticket,
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_HEAD(self) -> None:
        self.answer(200 if self.path in self.server.blobs else 404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.answers.pop(0) if self.server.answers else 201
        if self.headers["authorization"] == "Bearer old":
            status = 403
        if status == 201:
            self.server.blobs[self.path] = body
        self.answer(status)

    def answer(self, status: int) -> None:
        self.server.seen.append((self.command, self.headers["host"], self.headers["authorization"]))
        error = {"message": "no", "type": "t", "code": "c", "hint": "h"}
        body = b"" if status < 300 or self.command == "HEAD" else json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.write_bytes(b"x" * 1_000_000)
    return path


def test_it_is_sent_once_with_the_host_and_the_ticket(site: Site, bundle: Path) -> None:
    told: list[int] = []
    for _ in range(2):
        door.send(bundle, site.door(), site.door, told.append)
    assert site.blobs["/v1/blobs/sha256:ab"] == bundle.read_bytes()
    assert [one[0] for one in site.seen] == ["HEAD", "PUT", "HEAD"]
    assert {one[1:] for one in site.seen} == {("kasbah.localhost", "Bearer good")}
    assert told[-1] == 1_000_000


def test_a_busy_gateway_is_asked_again(site: Site, bundle: Path) -> None:
    site.answers = [503, 502]
    door.send(bundle, site.door(), site.door, lambda _: None)
    assert site.blobs


def test_an_expired_ticket_is_changed_for_a_new_one_once(site: Site, bundle: Path) -> None:
    door.send(bundle, site.door("old"), site.door, lambda _: None)
    assert site.blobs
    site.blobs.clear()
    with pytest.raises(Denied):
        door.send(bundle, site.door("old"), lambda: site.door("old"), lambda _: None)


def test_what_is_too_large_is_not_sent_again(site: Site, bundle: Path) -> None:
    site.answers = [413]
    with pytest.raises(TooLarge):
        door.send(bundle, site.door(), site.door, lambda _: None)
    assert [one[0] for one in site.seen] == ["HEAD", "PUT"]
