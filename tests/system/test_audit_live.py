"""The audit logs of an installation that runs: what it did is in them, each request once, and an export verifies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import Site, app, eventually

from kasbah.domain.audit import Entry, decode

pytestmark = pytest.mark.real

FILE = """
services:
  audited:
    source: .
    command: python3 -m http.server $PORT --bind 127.0.0.1
    runtime: command
    access: public
    data: {level: internal}
    rollout: {watch: 0s}
"""


def entries(site: Site) -> list[Entry]:
    """The site's own log, as far as its last entry is whole."""
    lines = (site.data_dir / "agent" / "audit" / "entries").read_bytes().split(b"\n")[:-1]
    return [decode(line) for line in lines]


def logged(site: Site, service: str) -> int:
    """How many requests of the service the site's log tells of."""
    return sum(int(dict(one.details).get(service, "0")) for one in entries(site) if one.act == "requests")


def test_what_is_done_is_logged_once_across_a_killed_agent_and_verifies(site: Site, tmp_path: Path) -> None:
    site.deploy(app(tmp_path / "audited", FILE, index__html="hello"))
    service = site.describe("audited")["id"]
    told = {(one.act, one.object) for one in entries(site)}
    assert ("route", f"services/{service}") in told

    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            assert site.get("audited").status_code == 200
        sent += count
        eventually(lambda: logged(site, service) >= sent, lambda: f"{logged(site, service)} of {sent} are logged")
        assert logged(site, service) == sent

    send(20)
    agent = site.pid("agent")
    os.kill(agent, signal.SIGKILL)
    send(20)
    eventually(lambda: site.pid("agent") != agent, lambda: "the agent was not started again")
    send(5)

    def told_of_replicas() -> list[tuple[str, str]]:
        acts = ("start_replica", "end_replica")
        mine = [one for one in entries(site) if one.act in acts and one.object == f"services/{service}"]
        return [(one.act, one.reason) for one in mine]

    def become(*expected: tuple[str, str]) -> None:
        eventually(lambda: told_of_replicas() == [*expected], lambda: f"{told_of_replicas()}")

    life = [("start_replica", "trial"), ("end_replica", "put to sleep"), ("start_replica", "1 in flight")]
    site.sleep("audited", "stopped")
    become(*life[:2])
    send(1)
    become(*life)

    def cosigned() -> bool:
        found = {one["log"]: one for one in site.json("audit", "verify")}
        assert all(one["findings"] == [] for one in found.values())
        local = found.get("local")
        return local is not None and 0 < local["cosigned"] == local["entries"] >= len(entries(site))

    eventually(cosigned, lambda: site.ok("audit", "verify"), seconds=40)
    file = tmp_path / "audit.tar"
    made = site.json("audit", "export", file)
    assert "ok" in site.ok("audit", "verify", file, "--key", made["key"])
    whole = file.read_bytes()
    assert b"start_deploy" in whole
    assert b"http.server" not in whole, "what was sent is in no log"
