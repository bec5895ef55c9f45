"""More sites on this machine: each joins as a person would have it join, and is an agent of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
from support import KASBAH, Site, eventually

Place = Callable[[], AbstractContextManager[None]]
"""Where the processes of a site are started: on this machine, or in a network of their own."""
CODE = re.compile(r"Its code: (\S+)")
FILE = """
services:
  claims:
    command: [python3, app.py]
    access: public
    data: {level: restricted, categories: [personal], regimes: [gdpr]}
"""
"""A service that may be in Europe alone, and `APP`, which says where it runs."""
APP = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["KASBAH_SITE"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Answer).serve_forever()
"""


@dataclass(kw_only=True)
class OtherSite:
    """A site that joined the installation `home` under this name."""

    home: Site
    name: str
    data_dir: Path
    agent: subprocess.Popen[bytes]

    @property
    def gateway(self) -> str:
        """Where its gateway answers, HOST:PORT."""
        return str(json.loads((self.data_dir / "agent" / "endpoint.json").read_text())["gateway"])

    def end(self) -> None:
        """End it with everything that it runs."""
        if self.agent.poll() is None:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait(30)
        assert self.home.run("down", "--data-dir", self.data_dir).code == 0


def join(home: Site, name: str, place: Place = nullcontext) -> Path:
    """Have a machine join; its data folder."""
    data_dir = home.home / f"site-{name}"
    token = home.home / f"{name}.token"
    token.write_text(home.ok("sites", "token", name))
    with place():
        process = home.popen("join", "--control-url", sites_url(home), "--token-file", token, "--data-dir", data_dir)
    with process as joining:
        assert joining.stderr is not None
        shown = CODE.search(joining.stderr.readline())
        assert shown is not None
        home.ok("sites", "approve", name, shown[1])
        _, said = joining.communicate(timeout=60)
        assert joining.returncode == 0, said
    return data_dir


def start(
    home: Site,
    name: str,
    data_dir: Path,
    *options: str,
    place: Place = nullcontext,
    program: Sequence[str] = (str(KASBAH),),
) -> OtherSite:
    """Start the agent of a site that joined, and wait until it reports."""
    site = launch(home, name, data_dir, *options, place=place, program=program)
    eventually(
        lambda: home.site(name)["connected"],
        lambda: f"{name} does not report: {(data_dir / 'agent.log').read_text()[-2_000:]}",
    )
    return site


def launch(
    home: Site,
    name: str,
    data_dir: Path,
    *options: str,
    place: Place = nullcontext,
    program: Sequence[str] = (str(KASBAH),),
) -> OtherSite:
    """Start the agent of a site that joined."""
    arguments = ("agent", "--control-url", sites_url(home), "--data-dir", str(data_dir), "--gateway", "127.0.0.1:0")
    with (data_dir / "agent.log").open("ab") as log, place():
        agent = subprocess.Popen([*program, *arguments, *options], stdout=log, stderr=log, env=home.env)
    return OtherSite(home=home, name=name, data_dir=data_dir, agent=agent)


@contextmanager
def other_site(home: Site, name: str, *options: str) -> Iterator[OtherSite]:
    """A site that joins, runs, and ends with the block."""
    site = start(home, name, join(home, name), *options)
    try:
        yield site
    finally:
        site.end()


def sites_url(home: Site) -> str:
    """Where sites dial in."""
    return str(json.loads((home.data_dir / "control" / "endpoint.json").read_text())["sites"])


def asked(site: OtherSite, name: str) -> str:
    return httpx.get(f"http://{site.gateway}/", headers={"host": f"{name}.localhost"}, timeout=30).text
