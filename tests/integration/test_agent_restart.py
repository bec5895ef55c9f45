"""The agent alone is ended or killed: what it runs serves on, who waits is answered, and the next agent takes over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from site_runner import DEADLINE

from kasbah import proc
from kasbah.agent.paths import Paths
from kasbah.agent.teardown import teardown

pytestmark = pytest.mark.real

COMMAND = (sys.executable, "-P", "-m", "kasbah")
APP = """
import http.server, os, threading

go = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/held":
            go.wait(60)
        if self.path == "/go":
            go.set()
        body = str(os.getpid()).encode()
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
  app:
    command: [python, app.py]
    access: public
    sleep: {freeze_after: never, stop_after: never}
"""


def eventually(look: Callable[[], Any], what: str) -> Any:
    give_up = time.monotonic() + 2 * DEADLINE
    while not (found := look()):
        assert time.monotonic() < give_up, what
        time.sleep(0.01)
    return found


@dataclass
class Installation:
    """A control plane and an agent, each a process of its own, and one service."""

    home: Path
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def paths(self) -> Paths:
        return Paths(self.data)

    def start(self, part: str, *options: str) -> None:
        with (self.home / f"{part}.log").open("ab") as log:
            self.parts[part] = subprocess.Popen(
                [*COMMAND, part, "--data-dir", str(self.data), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def start_control(self) -> None:
        self.start("control", "--api", "127.0.0.1:0")
        self.api = eventually(lambda: _read(self.data / "control" / "endpoint.json"), "control starts")["api"]

    def start_agent(self) -> None:
        """Start the agent, and wait until it is ready."""
        options = ("--control-url", self.api, "--token-file", str(self.data / "site.token"))
        self.start("agent", *options, "--gateway", "127.0.0.1:0")
        pid = self.parts["agent"].pid
        found = eventually(lambda: (told := _read(self.paths.endpoint)) and told["pid"] == pid and told, "agent starts")
        self.gateway = f"http://{found['gateway']}"
        eventually(lambda: _is_well(f"http://{found['status']}/readyz"), "agent is ready")

    def end_agent(self, how: signal.Signals) -> int:
        """End it; its exit code."""
        self.parts["agent"].send_signal(how)
        return self.parts["agent"].wait(DEADLINE)

    def kasbah(self, *arguments: str) -> str:
        token = (self.data / "admin.token").read_text().strip()
        env = {**os.environ, "KASBAH_URL": self.api, "KASBAH_TOKEN": token, "KASBAH_CONTEXT": str(self.home / "none")}
        env["KASBAH_DEPLOYER_KEY"] = str(self.data / "deployer.key")
        done = subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + (self.home / "agent.log").read_text()[-4_000:]
        return done.stdout

    def describe(self) -> Any:
        return json.loads(self.kasbah("describe", "app", "-o", "json"))

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.gateway, headers={"host": "app.localhost"}, timeout=2 * DEADLINE, trust_env=False
        )

    def get(self, path: str = "/") -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def stopped(self) -> None:
        self.kasbah("sleep", "app", "--stop")
        eventually(lambda: self.describe()["state"] == "stopped", "it sleeps")

    @property
    def outliving(self) -> tuple[int, int, int]:
        """The processes that outlive an agent: Envoy, the runner, and the replica that answers."""
        envoy, runner = _read(self.paths.envoy / "envoy.json"), _read(self.paths.runner / "runner.json")
        return envoy["pid"], runner["pid"], int(self.get().text)


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _is_well(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("restart"))
    source = installation.home / "source"
    source.mkdir()
    (source / "app.py").write_text(APP)
    (source / "kasbah.yaml").write_text(FILE)
    try:
        installation.start_control()
        installation.start_agent()
        installation.kasbah("deploy", str(source))
        yield installation
    finally:
        for part in installation.parts.values():
            part.kill()
            part.wait()
        teardown(installation.paths)


@pytest.fixture
def site(shared: Installation) -> Installation:
    """The installation with its agent running and its service awake."""
    if shared.parts["agent"].poll() is not None:
        shared.start_agent()
    assert shared.get("/go").status_code == 200
    return shared


def test_an_agent_that_is_told_to_end_ends_alone(site: Installation) -> None:
    before = site.outliving
    assert site.end_agent(signal.SIGTERM) == 0
    assert site.outliving == before
    assert all(proc.runs(pid) for pid in before)
    site.start_agent()
    assert site.outliving == before
    assert "Traceback" not in (site.home / "agent.log").read_text()


def test_no_request_fails_while_the_agent_is_killed_and_comes_back(site: Installation) -> None:
    before = site.outliving
    done = threading.Event()

    def call() -> set[tuple[int, str]]:
        answers = set()
        with site.client() as client:
            while not done.is_set():
                found = client.get("/")
                answers.add((found.status_code, found.text))
        return answers

    with ThreadPoolExecutor() as callers:
        calling = [callers.submit(call) for _ in range(3)]
        try:
            for _ in range(2):
                assert site.end_agent(signal.SIGKILL) == -signal.SIGKILL
                assert site.get().status_code == 200
                site.start_agent()
                assert site.get().status_code == 200
        finally:
            done.set()
        answers = set().union(*(one.result() for one in calling))
    assert answers == {(200, str(before[2]))}
    assert site.outliving == before


def test_what_is_in_flight_outlives_the_agent(site: Installation) -> None:
    site.stopped()
    with ThreadPoolExecutor() as callers:
        held = callers.submit(site.get, "/held")
        eventually(lambda: site.describe()["state"] == "running", "it wakes")
        site.end_agent(signal.SIGKILL)
        site.start_agent()
        assert not held.done()
        assert site.get("/go").status_code == 200
        assert held.result(DEADLINE).status_code == 200


def test_who_waits_at_the_gate_is_answered_by_the_next_agent(site: Installation) -> None:
    site.stopped()
    os.kill(site.parts["agent"].pid, signal.SIGSTOP)
    with ThreadPoolExecutor() as callers:
        waiting = [callers.submit(site.get) for _ in range(5)]
        eventually(lambda: _held(site) == 5, "they reach the gate")
        site.end_agent(signal.SIGKILL)
        late = callers.submit(site.get)
        site.start_agent()
        answers = [one.result(2 * DEADLINE) for one in (*waiting, late)]
    assert {one.status_code for one in answers} == {200}
    assert len({one.text for one in answers}) == 1, "one wake for all"


def test_an_agent_without_its_control_plane_wakes_from_its_ledger(site: Installation) -> None:
    site.stopped()
    site.end_agent(signal.SIGTERM)
    control = site.parts["control"]
    os.kill(control.pid, signal.SIGSTOP)
    try:
        site.start_agent()
        assert site.get().status_code == 200
    finally:
        os.kill(control.pid, signal.SIGCONT)


def _held(site: Installation) -> int:
    """Requests at the cold listener."""
    transport = httpx.HTTPTransport(uds=str(site.paths.sockets / "admin.sock"))
    with httpx.Client(transport=transport) as admin:
        told = admin.get("http://admin/stats?filter=http.cold.downstream_rq_active$").text
    return int(told.split(": ")[1])
