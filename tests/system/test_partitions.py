"""Three sites with real agents, gateways and replicas, and lines between them that fail: what callers and books see.

The clocks of two of them are off all the while: minutes ahead, and an hour behind.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from fleet import Fleet, fleet
from support import app, eventually

pytestmark = [pytest.mark.real, pytest.mark.root, pytest.mark.timeout(300)]

TEN_SECONDS = 10.0
"""Within so many seconds of a site's return ends there what was made unlawful meanwhile."""
SITES = """
sites:
  local: {kind: on-prem, country: MA, operator: Banque Atlas, operator_home: MA, exposure: [MA]}
  rabat: {kind: sovereign, country: MA, operator: Souverain, operator_home: MA, exposure: [MA]}
  fez: {kind: sovereign, country: MA, operator: Oasis, operator_home: MA, exposure: [MA]}
"""
LAW = """
home: MA
packs:
  base:
  gdpr:
  ma-0908:
stale_after:
  restricted: 6s
"""
FILE = """
services:
  steady: &rabat
    source: .
    command: python3 app.py
    runtime: command
    data: {level: internal}
    sleep: {freeze_after: never, stop_after: never}
    placement: {only: [rabat]}
  sleeper: {<<: *rabat, sleep: {freeze_after: never, stop_after: 500ms}}
  scaled: {<<: *rabat, scaling: {max: 3, concurrency: 1}}
  doomed: *rabat
  moroccan: {<<: *rabat, data: {level: internal, categories: [personal], regimes: [ma-0908]}}
  pair: {<<: *rabat, placement: {sites: 2, only: [rabat, fez]}}
  far: {<<: *rabat, placement: {only: [fez]}}
  claims: {<<: *rabat, placement: {only: [fez]}, data: {level: restricted}}
"""
APP = """
import http.server, os, time
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1)
        body = os.environ["KASBAH_SITE"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, SITES) as made:
        (folder / "law.yaml").write_text(LAW)
        made.home.ok("policy", "apply", "-f", folder / "law.yaml", "--even-so")
        made.home.deploy(app(folder / "app", FILE, app__py=APP))
        yield made


@pytest.fixture(autouse=True)
def healed(three: Fleet) -> Iterator[None]:
    """Each test begins with three sites that hear each other."""
    yield
    three.network.heal()
    for site in ("home", *three.others):
        three.is_connected(site)


def replicas(fleet: Fleet, site: str, service: str) -> int:
    """The replicas of a service that are ready at a site, as its agent says itself."""
    found = re.findall(rf'kasbah_replicas{{service="{service}",state="ready"}} (\S+)', fleet.metrics(site))
    return int(float(found[0])) if found else 0


def test_a_site_that_is_cut_off_goes_on_and_comes_back(three: Fleet) -> None:
    home = three.home
    eventually(lambda: replicas(three, "rabat", "sleeper") == 0, lambda: three.metrics("rabat"))
    known = three.usage("steady")["requests"]
    with three.calls("rabat", "steady") as steady:
        three.network.isolate("rabat")
        assert three.get("rabat", "sleeper").text == "rabat", "what sleeps wakes"
        with three.calls("rabat", "scaled", callers=3, path="/slow") as slow:
            eventually(lambda: replicas(three, "rabat", "scaled") > 1, lambda: three.metrics("rabat"))
        assert slow.failed == []
        lost = three.get("rabat", "far")
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "no_lawful_site")
        three.is_connected("rabat", whether=False)
        home.ok("delete", "doomed", "--yes")
        (home.home / "law.yaml").write_text(LAW.replace("  ma-0908:\n", ""))
        home.ok("policy", "apply", "-f", home.home / "law.yaml", "--even-so")
        eventually(
            lambda: home.json("policy", "status")["newest"]["state"] == "in-force",
            lambda: home.ok("policy", "status"),
        )
        for service in ("doomed", "moroccan"):
            assert three.get("rabat", service).status_code == 200, "it was told nothing else"
        steady.reach(20)
        assert steady.failed == []
        three.network.heal()
        began = time.monotonic()
        for service in ("doomed", "moroccan"):
            three.answers("rabat", service, 404, seconds=TEN_SECONDS)
        print("ended after", time.monotonic() - began)
        steady.reach(20)
    assert steady.failed == []
    sent = known + len(steady.outcomes)
    eventually(lambda: three.usage("steady")["requests"] >= sent, lambda: f"{three.usage('steady')}, sent {sent}")
    assert three.usage("steady")["requests"] == sent
    eventually(lambda: cosigned(three, "rabat"), lambda: home.ok("audit", "verify"), seconds=40)
    assert three.usage("steady")["requests"] == sent, "nothing is counted twice later on"


def cosigned(fleet: Fleet, site: str) -> bool:
    """Whether the control plane has seen a site's whole audit log, and that it only grew."""
    found = {one["log"]: one for one in fleet.home.json("audit", "verify")}
    assert all(one["findings"] == [] for one in found.values())
    return 0 < found[site]["cosigned"] == found[site]["entries"]
