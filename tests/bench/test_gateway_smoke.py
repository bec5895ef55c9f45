"""A gateway row is measured end to end: a real installation, a hand-written Envoy beside it, and wrk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import gateway
from bench.installation import installed
from kasbah import proc

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed: apt-get install wrk"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed: apt-get install gcc libc6-dev"),
]


def test_one_round_beside_an_envoy_written_by_hand(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with installed(tmp_path / "site") as site:
        envoy = site.pid("envoy")
        row = gateway.smoke(site, work)
    assert row.ours
    assert row.reference
    assert row.ratio == row.ours / row.reference
    assert not proc.runs(envoy)
    assert oct((work / f"load-{site.gateway.rpartition(':')[2]}.lua").stat().st_mode)[-3:] == "600"
