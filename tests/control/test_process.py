"""The process itself: how it starts, what it refuses, how it ends, and that what it acknowledged survives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.real

PROGRAM = """
import sys
from pathlib import Path
from kasbah.control.app import run
from kasbah.errors import KasbahError
from kasbah.settings import ControlSettings
try:
    run(ControlSettings(data_dir=Path(sys.argv[1]), api=sys.argv[2]))
except KasbahError as error:
    sys.exit(f"{error} | {error.hint}")
"""


class Process:
    def __init__(self, data: Path, api: str) -> None:
        self.data = data
        self._child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(data), api], stderr=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def endpoint(self) -> dict[str, Any]:
        """Where it listens, once it says so."""
        path = self.data / "control" / "endpoint.json"
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if self._child.poll() is not None:
                raise AssertionError(f"it ended: {self._child.stderr.read() if self._child.stderr else ''}")
            if path.exists() and (found := json.loads(path.read_text()))["pid"] == self.pid:
                return dict(found)
            time.sleep(0.02)
        raise AssertionError("it never listened")

    def client(self) -> httpx.Client:
        api = self.endpoint()["api"]
        headers = {"authorization": f"Bearer {(self.data / 'admin.token').read_text().strip()}"}
        return httpx.Client(base_url=f"{api}/api/v1", headers=headers, timeout=30, trust_env=False)

    def connect(self) -> socket.socket:
        """A plain connection to it."""
        host, _, port = self.endpoint()["api"].removeprefix("http://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it; its exit code and what it wrote."""
        if self._child.poll() is None:
            os.kill(self.pid, how)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        _, written = self._child.communicate(timeout=30)
        return self._child.returncode, written


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def go(api: str = "127.0.0.1:0") -> Process:
        started.append(Process(tmp_path / "data", api))
        return started[-1]

    yield go
    for one in started:
        one.end(signal.SIGKILL)


def test_it_ends_when_told_and_lets_those_who_wait_go(start) -> None:
    process = start()
    with process.client() as api:
        config = {"runtime": "command", "command": ["x"], "data": {"level": "internal"}}
        request = {"config": config, "source": "sha256:" + "0" * 64, "source_size": 1}
        rollout = api.post("/services/web/deploys", json=request).json()["rollout"]
        waiting = process.connect()
        path = f"/api/v1/rollouts/{rollout['id']}?after={rollout['version']}&wait=30"
        ask = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {api.headers['authorization']}\r\n\r\n"
        waiting.sendall(ask.encode())
        assert api.get("/services").status_code == 200  # read after the one that waits was
        code, _ = process.end()
    with waiting:
        answer = b"".join(iter(lambda: waiting.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 200")
    assert f'"version":{rollout["version"]}' in answer
    assert code == 0
    assert not (process.data / "control" / "endpoint.json").exists()


def test_a_second_one_on_the_same_folder_is_refused(start) -> None:
    first = start()
    first.endpoint()
    code, written = start().wait()
    assert code == 1
    assert f"another control plane (pid {first.pid}) runs on {first.data}" in written
    with first.client() as api:
        assert api.get("/services").status_code == 200


def test_a_port_already_taken_is_named(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, written = start(f"127.0.0.1:{port}").wait()
    assert code == 1
    assert f"127.0.0.1:{port}" in written
    assert "--api" in written


@pytest.mark.parametrize("api", ["nonsense", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(start, api) -> None:
    code, written = start(api).wait()
    assert code == 1
    assert repr(api) in written


def test_port_0_is_the_same_port_the_next_time_and_another_if_that_is_taken(start) -> None:
    process = start()
    first = process.endpoint()["api"]
    process.end()
    process = start()
    assert process.endpoint()["api"] == first
    process.end()
    port = int(first.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        assert start().endpoint()["api"] != first


def test_what_was_acknowledged_survives_kill_9(start) -> None:
    """Writers write until the process is killed under them; each write that was answered is there afterwards."""
    process = start()
    clients = [process.client() for _ in range(4)]
    names: list[str] = []

    def write(worker: int) -> None:
        with clients[worker] as api:
            for number in range(1_000):
                name = f"k{worker}-{number}"
                try:
                    if api.post("/keys", json={"name": name}).status_code == 201:
                        names.append(name)
                except httpx.HTTPError:
                    return

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, worker) for worker in range(4)]
        give_up = time.monotonic() + 30
        while len(names) < 40 and time.monotonic() < give_up:
            time.sleep(0.005)
        process.end(signal.SIGKILL)
        for writer in writers:
            writer.result(timeout=30)
    acknowledged = set(names)
    assert len(acknowledged) >= 40
    with start().client() as api:
        found: set[str] = set()
        cursor = None
        while True:
            page = api.get("/keys", params={"limit": 200, **({"cursor": cursor} if cursor else {})}).json()
            found |= {one["name"] for one in page["items"]}
            if (cursor := page["next"]) is None:
                break
    assert acknowledged <= found


def test_a_new_admin_token_replaces_the_one_that_was_removed(start) -> None:
    process = start()
    process.endpoint()
    path = process.data / "admin.token"
    old = path.read_text()
    process.end()
    path.unlink()
    process = start()
    with process.client() as api:
        assert path.read_text() != old
        assert api.get("/services").status_code == 200
        assert api.get("/services", headers={"authorization": f"Bearer {old.strip()}"}).status_code == 401


def test_no_secret_is_in_the_log(start) -> None:
    process = start()
    with process.client() as api:
        key = api.post("/keys", json={"name": "a"}).json()["key"]
        api.get("/services", headers={"authorization": "Bearer kst_guess"})
    _, written = process.end()
    assert "control plane listens" in written
    secrets = [key, "kst_guess", (process.data / "admin.token").read_text().strip()]
    assert [one for one in secrets if one in written] == []
