"""Sites that join for real: each an agent of its own, with its gateway, its key and its say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from other_sites import APP, FILE, OtherSite, asked, join, other_site, sites_url, start
from support import Site, eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SITES = """
sites:
  local: {kind: on-prem, country: MA, operator: Banque Atlas, operator_home: MA, exposure: [MA]}
  paris: {kind: sovereign, country: FR, operator: Souverain, operator_home: FR, exposure: [FR]}
  lyon: {kind: sovereign, country: FR, operator: Rhone, operator_home: FR, exposure: [FR]}
  nice: {kind: sovereign, country: FR, operator: Azur, operator_home: FR, exposure: [FR]}
"""
BROCHURE = """
services:
  brochure: {command: [python3, app.py], access: public, data: {level: internal}, placement: {avoid: [paris]}}
"""


CALLS = """
services:
  books: {command: [python3, app.py], data: {level: sensitive}, placement: {only: [BOOKS]}}
  till:
    command: [python3, till.py]
    access: public
    data: {level: internal}
    placement: {only: [TILL]}
    calls: [books]
    egress: []
"""
TILL = """
import http.server, os, urllib.error, urllib.request


class Till(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.request.Request(os.environ["KASBAH_URL_BOOKS"])
        asked.add_header("authorization", "Bearer " + os.environ["KASBAH_KEY"])
        try:
            said = urllib.request.urlopen(asked, timeout=10).read()
        except urllib.error.HTTPError as error:
            said = error.read()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Till).serve_forever()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation in Casablanca that sites can join."""
    home = Site(tmp_path_factory.mktemp("home"))
    home.up("--country", "MA", "--sites", "127.0.0.1:0", "--peers", "127.0.0.1:0")
    (home.home / "sites.yaml").write_text(SITES)
    home.ok("sites", "apply", "-f", home.home / "sites.yaml")
    try:
        yield home
    finally:
        assert home.down().code == 0


@pytest.fixture(scope="module")
def paris(home: Site) -> Iterator[OtherSite]:
    with other_site(home, "paris") as site:
        yield site


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "kasbah.yaml").write_text(FILE)
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_what_may_only_be_in_europe_goes_to_paris(home: Site, paris: OtherSite, app: Path) -> None:
    home.deploy(app)
    assert home.describe("claims")["site"] == "paris"
    assert asked(paris, "claims") == "paris"
    sites = {one["site"]: one for one in home.json("explain", "claims")["sites"]}
    assert (sites["paris"]["verdict"], sites["local"]["verdict"]) == ("chosen", "refused")
    assert sites["local"]["rules"][0]["id"] == "gdpr.transfer"


def test_where_it_is_and_who_controls_that_place_is_told(home: Site, paris: OtherSite, app: Path) -> None:
    home.deploy(app)
    (place,) = home.json("where", "claims")["places"]
    assert (place["site"], place["country"], place["operator"], place["exposure"]) == (
        "paris",
        "FR",
        "Souverain",
        ["FR"],
    )
    assert {"serves", "builds: 1", "source", "logs"} <= set(place["what"])
    told = home.ok("where", "claims")
    assert "reached by the law of" in told


def test_its_source_and_logs_are_in_paris_alone(home: Site, paris: OtherSite, app: Path) -> None:
    home.deploy(app)
    eventually(lambda: asked(paris, "claims") == "paris", lambda: "it does not answer")
    here, there = home.data_dir / "agent", paris.data_dir / "agent"
    service = home.describe("claims")["id"]
    assert (there / "logs" / service).exists()
    assert not (here / "logs" / service).exists()
    for folder in ("blobs", "builds"):
        assert list((there / folder).iterdir())
        kept = [path.read_bytes() for path in (here / folder).rglob("*") if path.is_file()]
        assert not any(b"KASBAH_SITE" in one for one in kept)


def test_what_runs_at_the_first_site_is_served_at_the_others(home: Site, paris: OtherSite, app: Path) -> None:
    taken = {name: home.site(name)["peers_address"] for name in ("local", "paris")}
    assert (taken["local"].startswith("127.0.0.1:"), taken["paris"]) == (True, "")
    rows = {row.split()[0]: row for row in home.ok("sites", "list").splitlines()}
    assert (taken["local"] in rows["local"], " nothing " in rows["paris"]) == (True, True)
    assert taken["local"] in home.ok("sites", "describe", "local")
    (app / "kasbah.yaml").write_text(BROCHURE)
    home.deploy(app)
    eventually(lambda: asked(paris, "brochure") == "local", lambda: asked(paris, "brochure"))
    home.ok("delete", "brochure", "--yes")


def test_a_service_calls_a_sensitive_one_at_another_site_with_the_key_that_its_own_made(home: Site, app: Path) -> None:
    """The control plane carries what each site states of it; the first site's gateway is known as the others are."""
    (app / "till.py").write_text(TILL)
    with other_site(home, "nice", "--peers", "127.0.0.1:0") as nice:
        for till, books in (("nice", "local"), ("local", "nice")):
            (app / "kasbah.yaml").write_text(CALLS.replace("TILL", till).replace("BOOKS", books))
            home.deploy(app)
            eventually(lambda: asked(nice, "till") == books, lambda: asked(nice, "till"))  # noqa: B023
        for name in ("till", "books"):
            home.ok("delete", name, "--yes")


def test_a_drained_site_gives_what_it_runs_to_one_that_may_have_it(home: Site, paris: OtherSite, app: Path) -> None:
    with other_site(home, "lyon") as lyon:
        (app / "app.py").write_text(APP + "# another revision, so that lyon gets its source too\n")
        home.deploy(app)
        assert home.describe("claims")["site"] in ("paris", "lyon")
        first, second = (paris, lyon) if home.describe("claims")["site"] == "paris" else (lyon, paris)
        home.ok("sites", "drain", first.name)
        home.becomes("claims", lambda seen: seen["site"] == second.name, f"is at {second.name} alone")
        assert asked(second, "claims") == second.name
        home.ok("sites", "drain", second.name)
        waits = home.becomes("claims", lambda seen: seen["site"] is None, "is nowhere")
        assert waits["state"] == "waiting"
        assert "it is drained" in waits["reason"]
        home.ok("sites", "drain", first.name, "--undo")
        home.becomes("claims", lambda seen: seen["site"] == first.name, "is given back")
        home.ok("sites", "drain", second.name, "--undo")
        home.ok("sites", "drain", "lyon")
        home.becomes("claims", lambda seen: seen["site"] == "paris", "is in paris again")
    home.ok("sites", "drain", "lyon", "--undo")


def test_a_token_is_good_once_and_a_folder_is_one_site(home: Site, paris: OtherSite) -> None:
    used = home.home / "paris.token"
    again = home.run(
        "join", "--control-url", sites_url(home), "--token-file", used, "--data-dir", home.home / "elsewhere"
    )
    assert (again.code, "used already" in again.err) == (4, True), again.said
    here = home.run("join", "--control-url", sites_url(home), "--token-file", used, "--data-dir", paris.data_dir)
    assert "is the site 'paris' already" in here.err


def test_a_removed_site_runs_nothing_and_does_not_come_back(home: Site, app: Path) -> None:
    (home.home / "more.yaml").write_text("sites: {porto: {kind: sovereign, country: PT, exposure: [PT]}}")
    home.ok("sites", "apply", "-f", home.home / "more.yaml")
    porto = start(home, "porto", join(home, "porto"))
    try:
        (app / "kasbah.yaml").write_text(FILE.replace("claims:", "ledger:") + "    placement: {only: [porto]}\n")
        home.deploy(app)
        assert asked(porto, "ledger") == "porto"
        refused = home.run("sites", "remove", "porto")
        assert (refused.code, "runs ledger" in refused.err) == (6, True)
        home.ok("sites", "remove", "porto", "--force")
        eventually(
            lambda: httpx.get(f"http://{porto.gateway}/", headers={"host": "ledger.localhost"}).status_code == 404,
            lambda: "it still serves what it was told to",
        )
        assert "porto" not in {one["name"] for one in home.json("sites", "list")}
        again = home.run("sites", "token", "porto")
        assert again.code != 0
    finally:
        porto.end()


def test_an_agent_of_another_installation_is_nobody_here(home: Site, paris: OtherSite, tmp_path: Path) -> None:
    stranger = Site(tmp_path / "stranger")
    stranger.home.mkdir()
    stranger.up("--sites", "127.0.0.1:0")
    try:
        identity = paris.data_dir / "agent" / "identity"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{sites_url(stranger)}/agent/v1/identity", verify=str(identity / "ca.crt"))
        token = tmp_path / "token"
        token.write_text(home.ok("sites", "token", "lyon"))
        other = stranger.run(
            "join", "--control-url", sites_url(stranger), "--token-file", token, "--data-dir", tmp_path / "lyon"
        )
        assert (other.code, "another fingerprint" in other.err) == (4, True), other.said
    finally:
        assert stranger.down().code == 0
