"""A service keeps files in a volume: over sleep, deploys, deaths, and its own deletion."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support import Site, app, eventually

pytestmark = pytest.mark.real

COUNTS = """
import http.server, os, sqlite3

PLACE = os.path.join(os.environ["KASBAH_VOLUME_DATA"], "visits.db")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with sqlite3.connect(PLACE) as db:
            db.execute("create table if not exists visits (n integer)")
            db.execute("insert into visits values (1)")
            count = db.execute("select count(*) from visits").fetchone()[0]
        body = f"{count} {os.environ['GREETING']} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
FILE = """
services:
  counts:
    source: .
    command: [python3, app.py]
    runtime: command
    access: public
    data: {level: public}
    env: {GREETING: hello}
    volumes: [{name: data, path: data, size: 8Mi}]
    rollout: {watch: 0s}
"""


def count(site: Site) -> int:
    answer = site.get("counts")
    assert answer.status_code == 200, answer.text
    return int(answer.text.split()[0])


def test_what_a_service_keeps(site: Site, tmp_path: Path) -> None:
    folder = app(tmp_path / "counts", FILE, app__py=COUNTS)
    site.deploy(folder)
    assert [count(site), count(site)] == [1, 2]
    assert "data (8Mi) at data" in site.ok("describe", "counts")

    site.ok("sleep", "counts", "--stop")
    assert count(site) == 3
    site.ok("env", "set", "counts", "GREETING=good evening")
    answer = site.get("counts").text
    assert answer.startswith("4 good evening")
    (replica,) = [one for one in site.json("describe", "counts")["replicas"] if one["state"] == "ready"]
    os.kill(replica["pid"], signal.SIGKILL)
    assert count(site) == 5
    os.kill(json.loads((site.data_dir / "agent/runner/runner.json").read_text())["pid"], signal.SIGKILL)
    assert count(site) == 6

    wide = site.run("scale", "counts", "2")
    assert (wide.code != 0, "a volume (data)" in wide.err) == (True, True)
    (kept,) = [one for one in site.json("volumes", "list") if one["service_name"] == "counts"]
    assert (kept["name"], kept["size"], 0 < kept["used"] < kept["size"]) == ("data", 8 * 2**20, True)
    refused = site.run("volumes", "delete", "counts", "data", "--yes")
    assert (refused.code != 0, "in use by counts" in refused.err) == (True, True)

    assert "its volumes are kept" in site.run("delete", "counts", "--yes").said
    site.deploy(folder)
    assert count(site) == 1, "a service of the same name begins anew"
    delete = ("volumes", "delete", kept["service"], "data", "--yes")
    eventually(lambda: site.run(*delete).code == 0, lambda: site.run(*delete).said)
    left = [one for one in site.json("volumes", "list") if one["service_name"] == "counts"]
    assert [one["service"] == kept["service"] for one in left] == [False], "the new one's alone"
    assert count(site) == 2
