"""Sources that go from site to site, with real agents: nobody deploys again because a site was lost or joined late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from other_sites import APP, FILE, OtherSite, asked, other_site
from support import Site, eventually

from kasbah.domain.audit import decode

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SITES = """
sites:
  local: {kind: on-prem, country: MA, operator: Banque Atlas, operator_home: MA, exposure: [MA]}
  paris: {kind: sovereign, country: FR, operator: Souverain, operator_home: FR, exposure: [FR]}
  virginia: {kind: public, country: US, operator: Cloud, operator_home: US, exposure: [US]}
  lyon: {kind: sovereign, country: FR, operator: Rhone, operator_home: FR, exposure: [FR]}
"""
TAKES = ("--peers", "127.0.0.1:0")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Site]:
    """An installation in Casablanca, which may not have what is deployed here."""
    home = Site(tmp_path)
    home.up("--country", "MA", "--sites", "127.0.0.1:0", "--peers", "127.0.0.1:0")
    (tmp_path / "sites.yaml").write_text(SITES)
    home.ok("sites", "apply", "-f", tmp_path / "sites.yaml")
    try:
        yield home
    finally:
        assert home.down().code == 0


def test_a_site_that_joined_after_the_deploy_takes_over(home: Site, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "kasbah.yaml").write_text(FILE)
    (app / "app.py").write_text(APP)
    with other_site(home, "paris", *TAKES) as paris:
        home.deploy(app)
        assert home.describe("claims")["site"] == "paris"
        (source,) = sources_at(paris)
        with other_site(home, "virginia", *TAKES) as virginia, other_site(home, "lyon", *TAKES) as lyon:
            eventually(lambda: sources_at(lyon) == [source], lambda: (lyon.data_dir / "agent.log").read_text()[-2_000:])
            home.ok("sites", "drain", "paris")
            home.becomes("claims", lambda seen: seen["site"] == "lyon", "is in lyon")
            assert asked(lyon, "claims") == "lyon"
            assert sources_at(virginia) == []
            eventually(lambda: ("hand_source", f"sources/{source}") in said_at(paris), lambda: str(said_at(paris)))
            eventually(lambda: ("take_source", f"sources/{source}") in said_at(lyon), lambda: str(said_at(lyon)))


def sources_at(site: OtherSite) -> list[str]:
    found = (site.data_dir / "agent" / "blobs").glob("*.tar.gz")
    return sorted(f"sha256:{one.name.removesuffix('.tar.gz')}" for one in found)


def said_at(site: OtherSite) -> set[tuple[str, str]]:
    """The acts in a site's audit log, with what each was about; as far as its last entry is whole."""
    lines = (site.data_dir / "agent" / "audit" / "entries").read_bytes().split(b"\n")[:-1]
    return {(one.act, one.object) for one in map(decode, lines)}
