"""Today's code starts from the data folder of an earlier landing, and everything of it is there and serves."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import Site, eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

FIXTURES = Path(__file__).parents[1] / "fixtures"
LANDINGS = sorted(path.name for path in FIXTURES.glob("landing-*"))


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """An installation that is down, with the data folder of a landing."""
    site = Site(tmp_path)
    shutil.copytree(FIXTURES / request.param, site.data_dir)
    for dump in list(site.data_dir.rglob("*.sql")):
        with closing(sqlite3.connect(dump.with_suffix(".db"))) as database:
            database.executescript(dump.read_text())
        dump.unlink()
    try:
        yield site
    finally:
        ended = site.down()
        assert ended.code == 0, ended.said


@pytest.mark.parametrize("site", LANDINGS, indirect=True)
def test_the_data_folder_of_a_landing(site: Site) -> None:
    site.up("--country", "FR")  # it is under the GDPR, which was not asked about then
    site.key = (site.data_dir / "service.key").read_text().strip()
    assert site.token == (site.data_dir / "admin.token").read_text().strip()
    (kept,) = site.json("ps")
    assert (kept["name"], kept["access"]) == ("kept", "key")
    assert site.get("kept").text == "from the landing before"
    told = site.describe("kept")
    assert (told["data"]["level"], told["data"]["categories"]) == ("internal", ["personal"])
    assert told["scaling"]["max"] == 2
    assert told["usage"]["requests"] >= 1, "what was counted then"
    copies = list((site.data_dir / "control/backups").glob("kasbah-*.db"))
    with closing(sqlite3.connect(site.data_dir / "control/kasbah.db")) as database:
        (tables,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert bool(copies) == (tables != "0001"), "a copy is kept where the tables changed"


@pytest.mark.parametrize("site", LANDINGS, indirect=True)
def test_what_may_not_be_there_any_more_ends_and_says_which_fact_is_missing(site: Site) -> None:
    site.up()
    site.key = (site.data_dir / "service.key").read_text().strip()
    waits = site.reaches("kept", "waiting")
    assert "nobody declared the site's country" in waits["reason"]
    assert site.get("kept").status_code == 404
    assert site.down().code == 0
    site.up("--country", "FR")
    site.becomes("kept", lambda seen: seen["state"] != "waiting", "is given back")
    eventually(lambda: site.get("kept").text == "from the landing before", lambda: "it does not serve again")
