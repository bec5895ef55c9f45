"""The disk is full: what serves keeps serving, what cannot be written says so, and nothing is damaged afterwards.

The data folder is a file system of its own, small enough to be filled.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from apart import Apart, parts_apart
from support import app, eventually

pytestmark = [pytest.mark.real, pytest.mark.root, pytest.mark.timeout(300)]

MEBIBYTE = 2**20
APP = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        print("x" * 4000, flush=True)
        body = ('{"replica": "%s"}' % os.environ["KASBAH_REPLICA"]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def source(folder: Path, name: str, *, padding: int = 0) -> Path:
    entry = {
        "source": ".",
        "command": ["python", "app.py"],
        "access": "public",
        "sleep": {"freeze_after": "never", "stop_after": "never"},
    }
    made = app(folder, json.dumps({"services": {name: entry}}), app__py=APP)
    (made / "padding").write_bytes(os.urandom(padding))
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    home = tmp_path_factory.mktemp("full")
    (home / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "kasbah", home / "data"], check=True)
    try:
        with parts_apart(home) as site:
            site.deploy(source(home / "app", "steady"))
            yield site
    finally:
        subprocess.run(["umount", "-l", home / "data"], check=True)


def fill(site: Apart) -> None:
    """Leave no byte."""
    with suppress(OSError), (site.data_dir / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * MEBIBYTE)
    with suppress(OSError), (site.data_dir / "filler2").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 512)


def make_room(site: Apart) -> None:
    for name in ("filler", "filler2"):
        (site.data_dir / name).unlink(missing_ok=True)


def sound(site: Apart) -> bool:
    """Whether every database is whole."""
    said = []
    for path in (site.data_dir / "control/kasbah.db", site.data_dir / "agent/usage.db"):
        with sqlite3.connect(path, timeout=20) as database:
            said.append(database.execute("PRAGMA integrity_check").fetchone()[0])
    return said == ["ok", "ok"]


def test_what_serves_keeps_serving_and_a_deploy_says_why_it_cannot(site: Apart) -> None:
    replica = site.get("steady").json()["replica"]
    fill(site)
    try:
        for _ in range(20):
            assert site.get("steady").json()["replica"] == replica
        refused = site.run("deploy", source(site.home / "another", "another", padding=2 * MEBIBYTE))
        assert refused.code != 0
        assert "bug" not in refused.said
        assert any(word in refused.said for word in ("No space left", "disk is full", "disk")), refused.said
        assert site.get("steady").json()["replica"] == replica
    finally:
        make_room(site)
    site.deploy(site.home / "another")
    assert site.get("another").status_code == 200
    assert sound(site)


def test_it_sleeps_and_wakes_on_a_full_disk(site: Apart) -> None:
    site.sleep("steady", "frozen")
    fill(site)
    try:
        assert site.get("steady").status_code == 200
    finally:
        make_room(site)


@pytest.mark.parametrize("part", ["agent", "control"])
def test_a_part_that_is_killed_on_a_full_disk_is_back_once_there_is_room(site: Apart, part: str) -> None:
    replica = site.get("steady").json()["replica"]
    fill(site)
    try:
        site.kill(part)
        assert site.get("steady").json()["replica"] == replica
    finally:
        make_room(site)
    site.start(part)
    assert site.get("steady").json()["replica"] == replica
    assert sound(site)
    seen = site.describe("steady")["usage"]["requests"]
    site.get("steady")
    eventually(lambda: site.describe("steady")["usage"]["requests"] > seen, lambda: "it counts no more")
