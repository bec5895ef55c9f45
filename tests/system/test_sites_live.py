"""Two sites of one installation, each a real agent with its Envoy and its replicas: what is asked of one is served by
the other. Their identities and the second site's record are made by hand, as joining makes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from apart import Apart, killed
from certificate_files import Authority
from charters import charter_of
from support import eventually, probe

from kasbah.agent.paths import Paths
from kasbah.api.owner import CHARTER, OWNER_KEY, load, sign_document
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.store.records import SiteRecord
from kasbah.control.store.sql import SqlStore, open_engine
from kasbah.domain.crossing import spiffe_id
from kasbah.domain.ids import InstallationId, SiteId

pytestmark = pytest.mark.real

TOKEN = "kss_" + "r" * 43
SLEEPS = {"sleep": {"freeze_after": "never", "stop_after": "never"}, "access": "key"}


class AtSite(Apart):
    """A site's agent, of the installation whose control plane is at `api`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.token_file = self.data_dir / "site.token"

    def introduce(self) -> dict[str, Any]:
        """Who this site is."""
        headers = {"authorization": f"Bearer {self.token_file.read_text().strip()}", "x-kasbah-protocol": "1"}
        found: dict[str, Any] = httpx.get(f"{self.api}/agent/v1/identity", headers=headers, trust_env=False).json()
        return found

    def join(self, authority: Authority) -> None:
        """Write this site's identity."""
        who = self.introduce()
        name = spiffe_id(InstallationId(who["installation"]), SiteId(who["site"]))
        chain, key = authority.issue_site(name)
        folder = Paths(self.data_dir).identity
        folder.mkdir(parents=True)
        for file, contents in (("site.crt", chain), ("site.key", key), ("ca.crt", authority.certificate)):
            (folder / file).write_bytes(contents)

    def _options(self, part: str) -> list[str]:
        return [*super()._options(part), *(["--peers", "127.0.0.1:0"] if part == "agent" else [])]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[dict[str, AtSite]]:
    """The sites by name."""
    local, rabat = AtSite(tmp_path / "local"), AtSite(tmp_path / "rabat")
    for site in (local, rabat):
        site.home.mkdir()
    try:
        local.start("control")
        local.token = local.env["KASBAH_TOKEN"] = (local.data_dir / "admin.token").read_text().strip()
        local.env["KASBAH_DEPLOYER_KEY"] = str(local.data_dir / "deployer.key")
        add_rabat(local.data_dir / "control")
        rabat.data_dir.mkdir()
        rabat.token_file.write_text(TOKEN)
        rabat.token_file.chmod(0o600)
        rabat.api = local.api
        local.key = rabat.key = local.json("keys", "create", "tests")["key"]
        authority = Authority(datetime.now(UTC))  # noqa: TID251  TLS reads the machine's clock
        for site in (local, rabat):
            site.join(authority)
            site.start("agent")
        yield {"local": local, "rabat": rabat}
    finally:
        for site in (rabat, local):
            site.down_all()


def add_rabat(folder: Path) -> None:
    (database,) = folder.glob("*.db")
    store = SqlStore(open_engine(f"sqlite:///{database}"))
    site, owner = SiteId("st-rabat00000000000"), load(folder.parent / OWNER_KEY)
    with store.write() as tx:
        installation = tx.installations.get()
        assert installation is not None
        charter = charter_of(installation.id, site, "rabat", None)
        signed = sign_document(owner, CHARTER, charter)
        tx.sites.add(SiteRecord(id=site, name="rabat", charter=charter, signed=signed, token_sha256=sha256_of(TOKEN)))
    store.close()


def test_a_service_at_one_site_is_served_at_both(two: dict[str, AtSite]) -> None:
    local = two["local"]
    local.deploy(probe(local.home / "probe", {"probe": SLEEPS}))
    seen = local.reaches("probe", "running")
    (home,) = [one["site"] for one in seen["placements"]]
    (away,) = set(two) - {home}

    def answers(status: int) -> bool:
        return two[away].get("probe").status_code == status

    eventually(lambda: answers(200), lambda: f"{two[away].get('probe').text}")
    decisions = set()
    for name in two:
        found = two[name].get("probe")
        assert (found.status_code, found.headers["x-kasbah-site"]) == (200, home)
        decisions.add(found.headers["x-kasbah-decision"])
    assert len(decisions) == 1

    local.sleep("probe", "stopped")
    assert two[away].get("probe").headers["x-kasbah-site"] == home, "it is woken from the other site"
    local.reaches("probe", "running")

    two[home].kill("agent")
    assert two[away].get("probe").status_code == 200, "no agent is on a request's way"
    two[home].start("agent")
    killed(two[home].pid("envoy"))
    eventually(lambda: answers(200), lambda: f"{two[away].get('probe').text}")

    local.ok("delete", "probe", "--yes")
    eventually(lambda: answers(404), lambda: f"{two[away].get('probe').text}")
