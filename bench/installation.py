"""An installation of Kasbah in a folder of its own, driven by its command line and its API, for measuring.

Its data folder, context and ports are its own. Every command and every wait has a deadline.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.errors import Unmeasured
from demo.load import Target

KASBAH = Path(sys.executable).with_name("kasbah")
COMMAND_SECONDS = 120.0
WAIT_SECONDS = 60.0
RECORDS = {
    "agent": "agent/endpoint.json",
    "control": "control/endpoint.json",
    "envoy": "agent/envoy/envoy.json",
    "runner": "agent/runner/runner.json",
}

Document = dict[str, Any]


class Installation:
    """A Kasbah below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASBAH_", "XDG_"))}
        self._env = {**kept, "KASBAH_CONTEXT": str(home / "context.json")}
        self.api = self.gateway = self.key = ""
        self._client = httpx.Client(timeout=WAIT_SECONDS, trust_env=False)

    # --- the command line ---------------------------------------------------------------------------------------------

    def run(self, *arguments: str | Path) -> str:
        """What a command printed. Raises Unmeasured where it fails."""
        shown = f"kasbah {' '.join(map(str, arguments))}"
        try:
            ran = subprocess.run(
                [str(KASBAH), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self._env,
                cwd=self.home,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unmeasured(f"`{shown}` did not end within {COMMAND_SECONDS:.0f} s") from None
        if ran.returncode != 0:
            raise Unmeasured(f"`{shown}` ended with {ran.returncode}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def up(self) -> None:
        """Start it; the first time, make a key that opens every service."""
        ports = ("--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0")
        said = json.loads(self.run("up", "-d", "--data-dir", self.data_dir, *ports, "-o", "json"))
        self.api, self.gateway = said["api"], said["gateway"].rpartition("/")[2]
        self._client.headers["authorization"] = f"Bearer {said['token']}"
        if not self.key:
            self.key = json.loads(self.run("keys", "create", "bench", "-o", "json"))["key"]

    def down(self) -> None:
        """End it, and everything it runs."""
        self.run("down", "--data-dir", self.data_dir)

    def deploy(self, folder: Path) -> None:
        """Deploy a folder and wait until it serves."""
        self.run("deploy", folder)

    # --- services -----------------------------------------------------------------------------------------------------

    def describe(self, name: str) -> Document:
        """Everything known about a service."""
        return self._call("GET", name)

    def sleep(self, name: str, rung: str) -> None:
        """Put a service that runs to sleep, and wait until it is `frozen` or `stopped`."""
        self._call("POST", f"{name}/sleep", {"rung": rung})
        self.reaches(name, rung)

    def wake(self, name: str) -> None:
        """Wake a service, and wait until it runs."""
        self._call("POST", f"{name}/wake")
        self.reaches(name, "running")

    def order_sleep(self, name: str, rung: str) -> None:
        """Tell a service to sleep, and do not wait."""
        self._call("POST", f"{name}/sleep", {"rung": rung})

    def reaches(self, name: str, state: str, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until a service is in a state."""
        seen: Document = {}

        def look() -> bool:
            seen.update(self.describe(name))
            return bool(seen["state"] == state)

        eventually(look, f"{name} to be {state}", seconds=seconds, pause=0.02)

    def target(self, name: str) -> Target:
        """Where calls for a service go, with the key that opens all of them."""
        return Target(address=self.gateway, host=f"{name}.localhost", key=self.key)

    def _call(self, method: str, path: str, body: Document | None = None) -> Document:
        answer = self._client.request(method, f"{self.api}/api/v1/services/{path}", json=body)
        if not answer.is_success:
            raise Unmeasured(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
        document: Document = answer.json()
        return document

    # --- processes ----------------------------------------------------------------------------------------------------

    def pid(self, part: str) -> int:
        """The process of the agent, the control plane, Envoy or the runner."""
        return int(json.loads((self.data_dir / RECORDS[part]).read_text())["pid"])

    def ready(self) -> bool:
        """Whether the agent says that the site is ready, its gateway and the control plane included."""
        try:
            status = json.loads((self.data_dir / RECORDS["agent"]).read_text())["status"]
            site = self._client.get(f"http://{status}/readyz", timeout=2)
            return site.is_success and self._client.get(f"{self.api}/readyz", timeout=2).is_success
        except (OSError, ValueError, httpx.HTTPError):
            return False


@contextmanager
def installed(home: Path) -> Iterator[Installation]:
    """An installation that is up, and down again at the end, whatever happens."""
    home.mkdir(parents=True, exist_ok=True)
    site = Installation(home)
    try:
        site.up()
        yield site
    finally:
        site.down()


def eventually(condition: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS, pause: float = 0.05) -> None:
    """Ask until it is so. Raises Unmeasured where it does not come about in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise Unmeasured(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)
