"""What services need every day: secrets, another environment."""

from __future__ import annotations

import json
import os
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


CALLS = """
import http.server, os, urllib.error, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = os.environ["KASBAH_URL_CALLEE"].replace("callee", self.path.strip("/"))
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {os.environ['KASBAH_KEY']}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        except OSError as error:
            status, body = 599, str(error).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
CALLER = """
services:
  callee:
    source: ./callee
    command: [python3, app.py]
    runtime: command
    env: {GREETING: from the callee}
    data: {level: public}
  caller:
    source: ./caller
    command: [python3, app.py]
    runtime: command
    access: public
    calls: [callee]
    data: {level: public}
"""


def test_a_service_calls_another_asleep_with_its_own_key(site: Site, tmp_path: Path) -> None:
    app(tmp_path / "callee", app__py=TELLS.replace('open(os.environ["TOKEN_FILE"]).read()', '""'))
    app(tmp_path / "caller", app__py=CALLS)
    site.deploy(app(tmp_path, CALLER))
    site.sleep("callee", "stopped")
    answer = site.get("caller", "/callee")
    if answer.status_code == 599 and os.getuid() != 0:
        pytest.skip(f"replicas have no mounts of their own here, and the machine does not know the name: {answer.text}")
    assert (answer.status_code, answer.json()["GREETING"]) == (200, "from the callee")
    assert site.get("callee").status_code == 200
    without = site.get("caller", "/elsewhere")
    assert without.status_code in (403, 404, 599), "it is led to what it says it calls, and nowhere else"
