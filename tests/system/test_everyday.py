"""What services need every day: secrets, another environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support import KASBAH, Ran, Site, app

pytestmark = pytest.mark.real

TELLS = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {name: os.environ.get(name) for name in ("TOKEN", "GREETING")}
        told["file"] = open(os.environ["TOKEN_FILE"]).read()
        body = json.dumps(told).encode()
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
  tells:
    source: .
    command: [python3, app.py]
    runtime: command
    access: public
    data: {level: public}
    env: {GREETING: hello}
    secrets: {TOKEN: upstream-token, TOKEN_FILE: {name: upstream-token, deliver: file}}
    rollout: {watch: 0s}
"""


def set_secret(site: Site, name: str, value: bytes, *options: str) -> Ran:
    done = subprocess.run(
        [str(KASBAH), "secrets", "set", name, *options],
        input=value, capture_output=True, env=site.env, cwd=site.home, timeout=100, check=False,
    )  # fmt: skip
    return Ran(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def test_a_secret_reaches_the_app_and_nothing_else(site: Site, tmp_path: Path) -> None:
    first, second = b"s3cr3t-of-the-first", b"s3cr3t-of-the-second"
    folder = app(tmp_path / "tells", FILE, app__py=TELLS)
    missing = site.run("deploy", folder)
    assert missing.code != 0
    assert "kasbah secrets set upstream-token" in missing.err
    assert set_secret(site, "upstream-token", first + b"\n").code == 0
    site.deploy(folder)
    assert site.get("tells").json() == {"TOKEN": first.decode(), "GREETING": "hello", "file": first.decode()}

    rolled = set_secret(site, "upstream-token", second, "--roll", "-o", "json")
    assert json.loads(rolled.out)["outdated"] == ["tells"]
    assert site.get("tells").json()["TOKEN"] == second.decode()

    site.ok("env", "set", "tells", "GREETING=good evening")
    assert site.get("tells").json() == {
        "TOKEN": second.decode(), "GREETING": "good evening", "file": second.decode()
    }  # fmt: skip

    shown = site.ok("describe", "tells", "-o", "json") + site.ok("secrets", "list") + site.ok("logs", "tells")
    kept = [path for path in site.data_dir.rglob("*") if path.is_file() and "replicas" not in path.parts]
    for value in (first, second):
        assert value.decode() not in shown
        assert not [path for path in kept if value in path.read_bytes()]
        assert not [line for line in site.processes().values() if value.decode() in line]


def test_a_secret_too_large_or_empty_is_refused_and_says_so(site: Site) -> None:
    large = set_secret(site, "large", b"x" * (10 * 2**20))
    assert (large.code != 0, "more than 65,536 bytes" in large.err) == (True, True)
    empty = set_secret(site, "empty", b"\n")
    assert (empty.code != 0, "no value came in" in empty.err) == (True, True)
