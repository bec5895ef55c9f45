"""The law where it bites: a replica that runs, and a label that says it may not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support import Site, app, eventually

pytestmark = pytest.mark.real

FILE = """
services:
  claims:
    source: .
    command: python3 -m http.server $PORT --bind 127.0.0.1
    runtime: command
    access: public
    data: {label}
    rollout: {{watch: 0s}}
"""
INTERNAL = "{level: internal}"
EUROPEAN = "{level: restricted, categories: [personal], regimes: [gdpr]}"


def deploying(site: Site, folder: Path, label: str) -> Path:
    return app(folder, FILE.format(label=label), index__html="claims")


def test_a_label_that_rises_past_the_site_ends_what_runs_there(site: Site, tmp_path: Path) -> None:
    site.deploy(deploying(site, tmp_path / "claims", INTERNAL))
    assert site.get("claims").text == "claims"
    (replica,) = site.describe("claims")["replicas"]
    process = site.process_of(replica["id"])
    site.sleep("claims", "frozen")

    raised = deploying(site, tmp_path / "raised", EUROPEAN)
    planned = site.run("plan", raised)
    assert "it ends at site local" in planned.out
    assert "GDPR, articles 44 to 46" in planned.out
    ended = site.run("deploy", raised)
    assert ended.code == 1
    assert "runs nowhere now" in ended.err
    assert "[gdpr.transfer]" in ended.err

    eventually(lambda: not Path(f"/proc/{process}").exists(), lambda: "the frozen replica goes on", seconds=10)

    def unknown() -> bool:
        return site.get("claims").status_code == httpx.codes.NOT_FOUND

    eventually(unknown, lambda: f"callers get {site.get('claims').status_code}", seconds=10)
    assert site.describe("claims")["state"] == "waiting"

    lowered = deploying(site, tmp_path / "lowered", INTERNAL)
    refused = site.run("deploy", lowered)
    assert (refused.code, "kasbah declassify claims --to internal" in refused.err) == (4, True)
    site.ok("declassify", "claims", "--to", "internal", "--evidence", "file 7", "--expires", "1d")
    again = site.run("deploy", lowered)  # what the law took was erased at the site: its source is sent again
    assert (again.code, "sending 1 file" in again.err) == (0, True), again.said
    eventually(lambda: site.get("claims").text == "claims", lambda: "it does not serve again")
