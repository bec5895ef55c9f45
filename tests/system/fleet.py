"""Three sites of one installation, each in a network of its own: the control plane with its own site, and two more.

    home    10.77.1.1  its gateway    10.77.1.2  the control plane
    rabat   10.77.2.1  its machine's clock is minutes ahead
    fez     10.77.3.1  its machine's clock is an hour behind

The thread that made it is at `home`: commands are given there. Callers are where they are told to be.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from apart import Apart, read
from namespaces import Network
from other_sites import OtherSite, join, launch
from skewed import set_clock
from support import Document, eventually

from demo.load import Outcome, Request, Target, call

CONTROL = "10.77.1.2"
ADDRESS = {"home": "10.77.1.1", "rabat": "10.77.2.1", "fez": "10.77.3.1"}
HOUR = 3_600
PAUSE = 0.05
"""Seconds between two calls of a caller."""
SKEW = {"rabat": 240, "fez": -HOUR}
SKEWED = str(Path(__file__).with_name("skewed.py"))


class Home(Apart):
    """The control plane and the first site, as processes of their own."""

    def skewed(self, who: str) -> list[str]:
        """The program of whoever goes by a clock of his own, which is set by `set_clock`."""
        return [sys.executable, SKEWED, str(self._clock_of(who))]

    def set_clock(self, who: str, ahead: float) -> None:
        """Set the clock of a site's machine, or from its next start on that of `control`, so many seconds ahead."""
        set_clock(self._clock_of(who), ahead)

    def _clock_of(self, who: str) -> Path:
        return self.home / f"{who}.clock"

    def _command(self, words: list[str], env: Mapping[str, str], seconds: float) -> tuple[int | None, str, str]:
        """By a program that begins where the thread is: what is forked elsewhere runs in another network."""
        with self.popen(*words, **env) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                return None, out, err
        return process.returncode, out, err

    def _program(self, part: str) -> list[str]:
        return self.skewed(part) if self._clock_of(part).exists() else super()._program(part)

    def _options(self, part: str) -> list[str]:
        if part == "control":
            return [*super()._options(part), "--sites", f"{CONTROL}:0", "--country", "MA"]
        return [*super()._options(part), "--peers", f"{ADDRESS['home']}:0"]


@dataclass
class Calls:
    """Callers of one service at one site, who come again and again; and what each of them got."""

    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def failed(self) -> list[Outcome]:
        return [one for _, one in self.outcomes if one.fault is not None]

    @property
    def bodies(self) -> list[bytes]:
        """In the order in which they came; what failed left out."""
        return [one.body for _, one in sorted(self.outcomes, key=lambda pair: pair[0]) if one.fault is None]

    def reach(self, more: int) -> None:
        """Wait until so many more have had an answer."""
        goal = len(self.outcomes) + more
        eventually(lambda: len(self.outcomes) >= goal, lambda: f"{len(self.outcomes)} of {goal} calls have ended")


class Fleet:
    """See the module."""

    def __init__(self, home: Home, network: Network) -> None:
        self.home = home
        self.network = network
        self.others: dict[str, OtherSite] = {}
        self.left: set[str] = set()
        """Sites that were removed: their agents run, and nobody hears them."""

    def sites(self) -> list[str]:
        return ["home", *(site for site in self.others if site not in self.left)]

    def gateway(self, site: str) -> str:
        return self.home.gateway if site == "home" else self.others[site].gateway

    def target(self, site: str, service: str) -> Target:
        """A service, as the callers of this site reach it."""
        return Target(address=self.gateway(site), host=f"{service}.localhost", key=self.home.key)

    def get(self, site: str, service: str, path: str = "/", *, key: str = "") -> httpx.Response:
        """One GET by a caller of this site."""
        headers = {"host": f"{service}.localhost", "authorization": f"Bearer {key or self.home.key}"}
        with self.network.inside(site):
            return httpx.get(f"http://{self.gateway(site)}{path}", headers=headers, timeout=60, trust_env=False)

    def answers(self, site: str, service: str, status: int, *, key: str = "", seconds: float = 30.0) -> None:
        """Wait until a caller of this site gets this status."""
        eventually(
            lambda: self.get(site, service, key=key).status_code == status,
            lambda: f"{service} at {site}: {self.get(site, service, key=key).status_code}, not {status}",
            seconds=seconds,
        )

    @contextmanager
    def calls(
        self, site: str, service: str, *, callers: int = 2, pause: float = 0.05, path: str = "/"
    ) -> Iterator[Calls]:
        """Callers for as long as the block runs; then they finish what they have begun."""
        seen = Calls()
        target, request = self.target(site, service), Request(path=path)

        async def caller() -> None:
            while not seen.over.is_set():
                began = time.monotonic()
                seen.outcomes.append((began, await call(target, request)))
                await asyncio.sleep(PAUSE)

        async def all_of_them() -> None:
            await asyncio.gather(*(caller() for _ in range(callers)))

        def work() -> None:
            with self.network.inside(site):
                asyncio.run(all_of_them())

        thread = threading.Thread(target=work)
        thread.start()
        try:
            seen.reach(callers)
            yield seen
        finally:
            seen.over.set()
            thread.join()

    def describe(self, site: str) -> Document:
        """A site, as the control plane knows it."""
        headers = {"authorization": f"Bearer {self.home.token}"}
        url = f"{self.home.api}/api/v1/sites/{'local' if site == 'home' else site}"
        found: Document = httpx.get(url, headers=headers, timeout=30, trust_env=False).json()
        return found

    def is_connected(self, site: str, *, whether: bool = True, seconds: float = 40.0) -> None:
        """Wait until the control plane hears a site, or hears it no more."""
        eventually(
            lambda: self.describe(site)["connected"] is whether,
            lambda: f"{site}: {self.describe(site)}",
            seconds=seconds,
        )

    def metrics(self, site: str) -> str:
        """What a site's agent says of itself, on its own machine."""
        folder = self.home.data_dir if site == "home" else self.others[site].data_dir
        status = json.loads((folder / "agent" / "endpoint.json").read_text())["status"]
        with self.network.inside(site):
            return httpx.get(f"http://{status}/metrics", timeout=30, trust_env=False).text

    def usage(self, service: str) -> Document:
        found: Document = self.home.describe(service)["usage"]
        return found

    def join(self, *sites: str) -> None:
        """Have sites join, at once, and start their agents."""
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(self._join, sites))

    def _join(self, site: str) -> None:
        self.home.set_clock(site, SKEW[site])
        self._launch(site, join(self.home, site, lambda: self.network.inside(site)))
        self.is_connected(site)

    def restart(self, site: str) -> None:
        """SIGKILL a site's agent and start it again; it waits for nobody but its own gateway."""
        agent, data_dir = self.others[site].agent, self.others[site].data_dir
        agent.kill()
        agent.wait()
        self._launch(site, data_dir)
        eventually(lambda: self._is_ready(site), lambda: (data_dir / "agent.log").read_text()[-2_000:])

    def _launch(self, site: str, data_dir: Path) -> None:
        self.others[site] = launch(
            self.home, site, data_dir, "--gateway", f"{ADDRESS[site]}:0", "--peers", f"{ADDRESS[site]}:0",
            place=lambda: self.network.inside(site), program=self.home.skewed(site),
        )  # fmt: skip

    def _is_ready(self, site: str) -> bool:
        said = read(self.others[site].data_dir / "agent" / "endpoint.json")
        if said is None or said["pid"] != self.others[site].agent.pid:
            return False
        with self.network.inside(site), suppress(httpx.TransportError):
            return httpx.get(f"http://{said['status']}/readyz", trust_env=False).is_success
        return False


@contextmanager
def fleet(folder: Path, sites: str) -> Iterator[Fleet]:
    """The first of three sites, with what their owner declares of all in `sites`; the others are still to join."""
    network = Network(home=(ADDRESS["home"], CONTROL), rabat=(ADDRESS["rabat"],), fez=(ADDRESS["fez"],))
    home = Home(folder)
    made = Fleet(home, network)
    try:
        with network.inside("home"):
            home.up()
            home.env["KASBAH_OWNER_KEY"] = str(home.data_dir / "owner.key")
            home.key = home.json("keys", "create", "tests")["key"]
            (home.home / "sites.yaml").write_text(sites)
            home.ok("sites", "apply", "-f", home.home / "sites.yaml")
            yield made
    finally:
        network.heal()
        for other in made.others.values():
            with network.inside("home"), suppress(AssertionError):
                other.end()
        with network.inside("home"):
            home.down_all()
        network.close()
