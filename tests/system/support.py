"""One installation of Kasbah, driven as its users drive it: by its command line, and by calls through its gateway.

Every command and every wait has a deadline. What a test deploys is its own; the installation is shared.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import command

from demo.load import Target

KASBAH = Path(sys.executable).with_name("kasbah")
APPS = Path(__file__).with_name("apps")
PROBE = "uvicorn app:app --host 127.0.0.1 --port $PORT --no-access-log"
COMMAND_SECONDS = 110.0
WAIT_SECONDS = 60.0

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything it said."""
        return self.out + self.err

    def json(self) -> Any:
        """What it printed, read as JSON."""
        assert self.code == 0, self.said
        return json.loads(self.out)


class Site:
    """An installation below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data_dir = home / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASBAH_", "XDG_"))}
        self.env = {**kept, "KASBAH_CONTEXT": str(home / "context.json")}
        self.api = self.gateway = self.token = self.key = ""
        self.said: Document = {}

    # --- the command line -----------------------------------------------------------------------------------------

    def run(self, *arguments: str | Path, seconds: float = COMMAND_SECONDS, **env: str) -> Ran:
        """Run a command to its end."""
        words = [str(one) for one in arguments]
        code, out, err = self._command(words, {**self.env, **env}, seconds)
        if code is None:
            pytest.fail(f"kasbah {' '.join(words)} did not end within {seconds} s: {out}{err}")
        return Ran(code=code, out=out, err=err)

    def _command(self, words: list[str], env: Mapping[str, str], seconds: float) -> tuple[int | None, str, str]:
        return command(words, env=env, folder=self.home, seconds=seconds)

    def popen(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [str(KASBAH), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
            cwd=self.home,
        )

    def ok(self, *arguments: str | Path) -> str:
        """Run a command that must work; what it printed."""
        ran = self.run(*arguments)
        assert ran.code == 0, f"kasbah {' '.join(map(str, arguments))}: exit code {ran.code}\n{ran.said}"
        return ran.out

    def json(self, *arguments: str | Path) -> Any:
        """Run a command with `-o json`; what it printed."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def up(self, *options: str) -> None:
        """Start it; `said` is what `up` printed."""
        ports = ("--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0")
        self.said = self.json("up", "-d", "--data-dir", self.data_dir, *ports, *options)
        self.api, self.token = self.said["api"], self.said["token"]
        self.gateway = self.said["gateway"].rpartition("/")[2]

    def down(self) -> Ran:
        """End it."""
        return self.run("down", "--data-dir", self.data_dir)

    # --- services -------------------------------------------------------------------------------------------------

    def deploy(self, folder: Path) -> None:
        """Deploy a folder that must work."""
        self.ok("deploy", folder)

    def describe(self, name: str) -> Document:
        """Everything known about a service, from the API: quicker than the command, which shows the same."""
        return self._call("GET", f"services/{name}")

    def site(self, name: str) -> Document:
        """Everything known about a site, likewise."""
        return self._call("GET", f"sites/{name}")

    def sleep(self, name: str, rung: str) -> None:
        """Put a service to sleep, and wait until it is `frozen` or `stopped`. It is woken first: who sleeps deeper than
        is asked stays where he is, and an order that still waits for an idle moment is forgotten."""
        self._call("POST", f"services/{name}/wake")
        self.reaches(name, "running")
        self.order_sleep(name, rung)
        self.reaches(name, rung)

    def order_sleep(self, name: str, rung: str) -> None:
        """Tell a service to sleep, and do not wait."""
        self._call("POST", f"services/{name}/sleep", {"rung": rung})

    def reaches(self, name: str, state: str, *, seconds: float = WAIT_SECONDS) -> Document:
        """Wait until a service is in `state`."""
        return self.becomes(name, lambda seen: bool(seen["state"] == state), f"is {state}", seconds=seconds)

    def becomes(
        self, name: str, condition: Callable[[Document], bool], what: str, *, seconds: float = WAIT_SECONDS
    ) -> Document:
        """Wait until what is known about a service fulfils a condition."""
        seen: Document = {}

        def look() -> bool:
            seen.update(self.describe(name))
            return condition(seen)

        eventually(look, lambda: f"{name} never {what}: {json.dumps(seen, indent=1)}", seconds=seconds)
        return seen

    def isolation(self) -> list[str]:
        """What is in force for replicas here."""
        (found,) = self.json("sites", "list")
        return list(found["isolation"])

    def target(self, name: str) -> Target:
        """Where calls for a service go, with a key that opens all of them."""
        return Target(address=self.gateway, host=f"{name}.localhost", key=self.key)

    def client(self, name: str, **options: Any) -> httpx.Client:
        """A client of a service, with that key."""
        headers = {"host": f"{name}.localhost", "authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://{self.gateway}", headers=headers, timeout=90.0, **options)

    def get(self, name: str, path: str = "/") -> httpx.Response:
        """One GET, on a connection of its own."""
        with self.client(name) as client:
            return client.get(path)

    def _call(self, method: str, path: str, body: Document | None = None) -> Document:
        headers = {"authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, f"{self.api}/api/v1/{path}", headers=headers, json=body, timeout=WAIT_SECONDS)
        assert answer.is_success, answer.text
        document: Document = answer.json()
        return document

    # --- processes ------------------------------------------------------------------------------------------------

    def pid(self, part: str) -> int:
        """The process of the agent, the control plane or Envoy."""
        record = {"agent": "agent/endpoint.json", "control": "control/endpoint.json", "envoy": "agent/envoy/envoy.json"}
        return int(json.loads((self.data_dir / record[part]).read_text())["pid"])

    def process_of(self, replica: str) -> int:
        """The process of a replica, which may know itself by another number."""
        record = self.data_dir / f"agent/runner/{replica}.replica"
        return int(json.loads(record.read_text())["pid"])

    def processes(self) -> dict[int, str]:
        """Every process on this machine that carries the data folder's mark: in its arguments, its environment, its
        folder or its program."""
        mark = os.fsencode(self.data_dir)
        marked = {}
        for folder in Path("/proc").glob("[0-9]*"):
            traces = [_traces(folder / name) for name in ("cmdline", "environ", "cwd", "exe")]
            if any(mark in trace for trace in traces):
                marked[int(folder.name)] = traces[0].replace(b"\0", b" ").decode(errors="replace")
        return marked


def _traces(path: Path) -> bytes:
    try:
        return os.fsencode(os.readlink(path)) if path.name in ("cwd", "exe") else path.read_bytes()
    except OSError:
        return b""


@contextmanager
def installation(home: Path) -> Iterator[Site]:
    """An installation that is up, taken down at the end whatever happens."""
    site = Site(home)
    try:
        site.up()
        site.key = site.json("keys", "create", "tests")["key"]
        yield site
    finally:
        ended = site.down()
        assert ended.code == 0, ended.said


def app(folder: Path, manifest: str = "", /, **files: str) -> Path:
    """Write an app: its kasbah.yaml, if any, and its files, whose names have `__` for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    if manifest:
        (folder / "kasbah.yaml").write_text(manifest)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def probe(folder: Path, services: Mapping[str, Document]) -> Path:
    """The probe app under one or more names; what is given for a name is added to its entry in the file."""
    shutil.copytree(APPS / "probe", folder, dirs_exist_ok=True)
    usual = {"source": ".", "command": PROBE, "access": "public", "data": {"level": "public"}}
    entries = {name: {**usual, **given} for name, given in services.items()}
    (folder / "kasbah.yaml").write_text(json.dumps({"services": entries}))
    return folder


def eventually(condition: Callable[[], bool], otherwise: Callable[[], str], *, seconds: float = WAIT_SECONDS) -> None:
    """Ask again and again until it is so, or fail with what `otherwise` says."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            pytest.fail(otherwise())
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
