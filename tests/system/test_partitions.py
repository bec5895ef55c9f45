"""Three sites with real agents, gateways and replicas, and lines between them that fail: what callers and books see.

The clocks of two of them are off all the while, minutes ahead and an hour behind, and one is set an hour ahead for a
while. One fleet for all of it; a test leaves it as it found it, but for what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from fleet import ADDRESS, CONTROL, HOUR, Calls, Fleet, fleet
from other_sites import other_site
from support import Document, app, eventually

from demo.load import Fault

pytestmark = [pytest.mark.real, pytest.mark.root, pytest.mark.timeout(300)]

AT_ONCE = 10.0
"""Within so many seconds of a site's return there ends what was made unlawful meanwhile."""
SITES = """
sites:
  local: {kind: on-prem, country: MA, operator: Banque Atlas, operator_home: MA, exposure: [MA]}
  rabat: {kind: sovereign, country: MA, operator: Souverain, operator_home: MA, exposure: [MA]}
  fez: {kind: sovereign, country: FR, operator: Oasis, operator_home: FR, exposure: [FR]}
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
  sleeper: {<<: *rabat, sleep: {freeze_after: never, stop_after: 500ms}, scaling: {max: 3, concurrency: 1}}
  counted: {<<: *rabat, data: {level: internal, regimes: [gdpr]}}
  pair: {<<: *rabat, placement: {sites: 2, only: [rabat, fez]}}
  far: {<<: *rabat, placement: {only: [fez]}}
  claims: {<<: *rabat, placement: {only: [fez]}, data: {level: restricted}}
  exported: {<<: *rabat, placement: {only: [fez]}, data: {level: internal, categories: [personal], regimes: [ma-0908]}}
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
LATE = """
services:
  late: {source: ., command: python3 app.py, runtime: command, data: {level: internal}, placement: {only: [fez]}}
"""
TRANSFER = "cndp-f118"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, SITES) as made:
        change_law(made, LAW)  # which takes its time, from site to site
        approve(made, "1d")
        made.join("rabat", "fez")
        made.home.deploy(app(folder / "app", FILE, app__py=APP))
        yield made


@pytest.fixture(autouse=True)
def healed(three: Fleet) -> Iterator[None]:
    """Each test begins with sites that hear each other."""
    yield
    three.network.heal()
    for site in three.sites():
        three.is_connected(site)


def change_law(fleet: Fleet, text: str) -> None:
    (fleet.home.home / "law.yaml").write_text(text)
    fleet.home.ok("policy", "apply", "-f", fleet.home.home / "law.yaml", "--even-so")


def approve(fleet: Fleet, span: str) -> None:
    """Let personal data of Moroccans go to where it may not go otherwise, for so long."""
    what = (TRANSFER, "--all-of", "default", "--evidence", "file 1")
    fleet.home.ok("policy", "approval", "add", *what, "--expires", span)


def newest_law(fleet: Fleet) -> Document:
    found: Document = fleet.home.json("policy", "status")["newest"]
    return found


def replicas(fleet: Fleet, site: str, service: str) -> int:
    """The replicas of a service that are ready at a site, as its agent says itself."""
    found = re.findall(rf'kasbah_replicas{{service="{service}",state="ready"}} (\S+)', fleet.metrics(site))
    return int(float(found[0])) if found else 0


def cosigned(fleet: Fleet, site: str) -> bool:
    """Whether the control plane has seen a site's whole audit log, and that it only grew."""
    found = {one["log"]: one for one in fleet.home.json("audit", "verify")}
    assert all(one["findings"] == [] for one in found.values())
    return 0 < found[site]["cosigned"] == found[site]["entries"]


def counts(fleet: Fleet, service: str, sent: int) -> None:
    """Wait until so many requests are in the books; no more."""
    eventually(lambda: fleet.usage(service)["requests"] >= sent, lambda: f"{fleet.usage(service)}, sent {sent}")
    assert fleet.usage(service)["requests"] == sent


def all_from(calls: Calls, site: str) -> None:
    """Wait until the last answers were all given at one site; then so are the next."""
    eventually(lambda: set(calls.bodies[-10:]) == {site.encode()}, lambda: f"{calls.bodies[-30:]}, not {site}")
    calls.reach(30)
    assert set(calls.bodies[-25:]) == {site.encode()}, "it flaps"


def other_than(site: str) -> str:
    return "fez" if site == "rabat" else "rabat"


def test_a_long_way_is_gone_last_and_breaks_nothing(three: Fleet) -> None:
    first = three.get("home", "pair").text
    with three.calls("home", "pair") as pair, three.calls("home", "far") as far:
        for address in (ADDRESS["home"], CONTROL):
            three.network.delay(ADDRESS[first], address, 0.075)
            three.network.delay(address, ADDRESS[first], 0.075)
        three.home.kill("agent")
        three.home.start("agent")  # which measures at once how near they are
        all_from(pair, other_than(first))
        three.home.ok("scale", "far", "--max", "2")
        far.reach(10)
    assert (pair.failed, far.failed) == ([], [])
    eventually(
        lambda: three.describe("fez")["applied_generation"] == three.describe("fez")["desired_generation"],
        lambda: f"{three.describe('fez')}",
    )


def test_loss_in_one_direction(three: Fleet) -> None:
    """What a site says arrives, and what it is answered does not: it says it again, and it counts once. Between sites
    others are asked, until it is whole again."""
    first = three.get("home", "pair").text
    other = other_than(first)
    known = three.usage("steady")["requests"]
    with three.calls("rabat", "steady") as steady, three.calls("home", "pair") as pair:
        three.network.lose(CONTROL, ADDRESS["rabat"])
        three.network.lose(ADDRESS[first], ADDRESS["home"])
        all_from(pair, other)
        three.is_connected("rabat", whether=False)
        three.network.heal()
        all_from(pair, first)
        three.is_connected("rabat")
    # What had begun to be answered when the line was lost is cut: nobody can repeat the half of it.
    assert (steady.failed, [one for one in pair.failed if one.fault is not Fault.TRUNCATED]) == ([], [])
    counts(three, "steady", known + len(steady.outcomes))


def test_a_site_that_is_cut_off_goes_on_and_comes_back(three: Fleet) -> None:
    eventually(lambda: newest_law(three)["state"] == "in-force", lambda: f"{newest_law(three)}")
    eventually(lambda: replicas(three, "rabat", "sleeper") == 0, lambda: three.metrics("rabat"))
    known = three.usage("steady")["requests"]
    with three.calls("rabat", "steady") as steady:
        three.network.isolate("rabat")
        change_law(three, LAW.replace("  gdpr:\n", ""))
        with three.calls("rabat", "sleeper", callers=3, path="/slow") as woken:
            eventually(lambda: replicas(three, "rabat", "sleeper") > 1, lambda: three.metrics("rabat"))
        assert woken.failed == [], "what sleeps wakes, and has as many replicas as it needs"
        three.restart("rabat")
        eventually(lambda: replicas(three, "rabat", "sleeper") == 0, lambda: three.metrics("rabat"))
        lost = three.get("rabat", "far")
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "no_lawful_site")
        three.is_connected("rabat", whether=False)
        eventually(lambda: newest_law(three)["state"] == "in-force", lambda: f"{newest_law(three)}")
        assert three.get("rabat", "counted").status_code == 200, "it has heard of no other law"
        steady.reach(20)
        three.network.heal()
        three.answers("rabat", "counted", 404, seconds=AT_ONCE)
        steady.reach(20)
    assert steady.failed == []
    counts(three, "steady", known + len(steady.outcomes))


def test_what_has_an_end_ends_though_nobody_says_so(three: Fleet) -> None:
    """An approval's, by the control plane's time and not by that of a machine which is an hour behind; and that of the
    last word, for the level that the law names."""
    home = three.home
    (held,) = home.json("policy", "approvals")
    approve(three, "12s")
    home.ok("policy", "approval", "revoke", held["id"])
    generation = three.describe("fez")["desired_generation"]
    eventually(lambda: three.describe("fez")["applied_generation"] >= generation, lambda: f"{three.describe('fez')}")
    with three.calls("fez", "far") as far:
        three.network.isolate("fez")
        assert [three.get("fez", service).status_code for service in ("claims", "exported")] == [200, 200]
        three.answers("fez", "claims", 404)
        three.answers("fez", "exported", 404)
        three.network.heal()
        three.answers("fez", "claims", 200)
        assert three.get("fez", "exported").status_code == 404
    assert far.failed == []


def test_a_site_an_hour_ahead_ends_things_early_and_serves_on(three: Fleet) -> None:
    """What ends within the hour has ended there: keys, approvals, tickets; the owner reads why. Its last word is as old
    as it is, also once the clock is set right while it is cut off. Then everything is as before."""
    home, late = three.home, app(three.home.home / "late", LATE, app__py=f"{APP}# its source was never there\n")
    with three.calls("fez", "far") as far:
        home.set_clock("fez", HOUR)
        ending = home.json("keys", "create", "ending", "--expires", "30m")["key"]
        approve(three, "30m")
        explained = partial(home.ok, "explain", "exported")
        eventually(lambda: "the site itself refuses it" in explained(), explained)
        assert any("1 h 0 min ahead" in one and "set both by NTP" in one for one in three.describe("fez")["notes"])
        three.answers("rabat", "steady", 200, key=ending)
        assert three.get("fez", "steady", key=ending).status_code == 401
        deployed = partial(home.run, "deploy", late)
        eventually(
            lambda: "expired" in (said := deployed().said) and "a clock that is ahead" in said, lambda: deployed().said
        )
    three.answers("fez", "claims", 200)  # as it jumped, the last word seemed an hour old until the next
    with three.calls("fez", "claims") as claims:
        claims.reach(20)
    assert (far.failed, claims.failed) == ([], [])
    three.network.isolate("fez")
    home.set_clock("fez", -HOUR)
    three.answers("fez", "claims", 404)
    three.network.heal()
    three.answers("fez", "claims", 200)
    three.answers("fez", "exported", 200)
    assert three.get("fez", "steady", key=ending).status_code == 200
    home.deploy(late)
    assert three.get("fez", "late").status_code == 200


def test_the_books_of_what_was_cut_off_are_whole(three: Fleet) -> None:
    """All of both sites' logs has arrived and is cosigned; and nothing is counted twice later on."""
    counted = three.usage("steady")["requests"]
    for site in ("rabat", "fez"):
        eventually(lambda site=site: cosigned(three, site), lambda: three.home.ok("audit", "verify"), seconds=40)  # type: ignore[misc]
    assert three.usage("steady")["requests"] == counted


def test_sites_meet_while_the_control_plane_is_lost_to_one_and_restored(three: Fleet) -> None:
    home = three.home
    with three.calls("home", "steady") as there, three.calls("rabat", "far") as away:
        three.network.cut((ADDRESS["rabat"],), (CONTROL,))
        home.kill("control")
        home.start("control")
        backup = home.home / "backup.tar.gz"
        home.ok("backup", backup, "--data-dir", home.data_dir)
        home.ok("delete", "sleeper", "--yes")
        assert three.get("rabat", "sleeper").status_code == 200, "it has not heard of that"
        home.kill("control")
        assert home.json("restore", backup, "--data-dir", home.data_dir)["epoch"] == 2
        home.start("control")
        three.network.heal()
        for site in three.sites():
            eventually(
                lambda site=site: three.describe(site)["applied_generation"] > 0,  # type: ignore[misc]
                lambda site=site: f"{three.describe(site)}",  # type: ignore[misc]
            )
            assert three.describe(site)["epoch"] == 2
        there.reach(10)
        away.reach(10)
    assert (there.failed, away.failed) == ([], [])
    assert three.get("rabat", "sleeper").status_code == 200, "the backup has it"


def test_a_site_that_was_removed_meanwhile_runs_nothing(three: Fleet) -> None:
    """From here on there are two."""
    three.network.isolate("fez")
    three.home.ok("sites", "remove", "fez", "--force")
    three.left.add("fez")
    assert three.get("fez", "far").status_code == 200, "it has not heard of it"
    three.network.heal()
    three.answers("fez", "far", 404, seconds=AT_ONCE)
    eventually(lambda: "kasbah_replicas{" not in three.metrics("fez"), lambda: three.metrics("fez"))


def answer(fleet: Fleet, gateway: str) -> int:
    """What callers of this gateway get of a service at rabat."""
    headers = {"host": "steady.localhost", "authorization": f"Bearer {fleet.home.key}"}
    return httpx.get(f"http://{gateway}/", headers=headers, timeout=60, trust_env=False).status_code


def test_a_control_plane_an_hour_ahead_is_heard_and_certifies(three: Fleet) -> None:
    """The machines' clocks are an hour behind its, then: what it certifies must be good by theirs, which OpenSSL and
    Envoy read. From here on the sites go by its time."""
    home = three.home
    home.kill("control")
    home.set_clock("control", HOUR)
    home.start("control")
    three.is_connected("rabat")
    (home.home / "more.yaml").write_text(SITES.replace("fez:", "oujda:"))
    home.ok("sites", "apply", "-f", home.home / "more.yaml")
    with other_site(home, "oujda", "--gateway", f"{ADDRESS['home']}:0", "--peers", f"{ADDRESS['home']}:0") as oujda:
        eventually(lambda: answer(three, oujda.gateway) == 200, lambda: f"{answer(three, oujda.gateway)}")
        notes = three.describe("oujda")["notes"]
        assert any("1 h 0 min" in note and "behind the control plane's" in note for note in notes), notes
