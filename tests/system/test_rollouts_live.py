"""Rollouts under load, with a real gateway: good revisions arrive unnoticed, bad ones turn back, and a rollback is at
once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from callers import none_failed, trickle
from support import Site, eventually, probe

from demo.load import Outcome, Request, Tally, burst

pytestmark = pytest.mark.real

AWAKE = {"sleep": {"freeze_after": "never", "stop_after": "never"}}


def app(folder: Path, name: str, version: str, *, env: dict[str, str] | None = None, **fields: Any) -> Path:
    return probe(folder, {name: {**AWAKE, "env": {"VERSION": version, **(env or {})}, **fields}})


def versions(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(json.loads(one.body)["version"] for one in outcomes)


def statuses(outcomes: list[Outcome]) -> set[int | None]:
    return {one.status for one in outcomes}


def shares(site: Site, name: str) -> dict[str, int]:
    return {one["id"]: one["percent"] for one in site.json("traffic", name)}


async def test_replica_by_replica_without_a_failure(site: Site, tmp_path: Path) -> None:
    name = "wide"
    wide = {"scaling": {"min": 2, "max": 4, "concurrency": 2}, "rollout": {"watch": "0s"}}
    site.deploy(app(tmp_path, name, "1", **wide))
    async with trickle(site.target(name), callers=8, pause=0.01) as outcomes:
        await asyncio.to_thread(site.deploy, app(tmp_path, name, "2", **wide))
        none_failed(after := await burst(site.target(name), Request(), 50))
    none_failed(Tally.of(outcomes))
    assert json.loads(after.body)["version"] == "2"
    (last, *_) = site.json("rollouts", name)
    assert (last["strategy"], last["percent"], last["state"]) == ("rolling", 100, "done")


async def test_a_canary_gets_its_part_and_then_everything(site: Site, tmp_path: Path) -> None:
    name = "canary"
    rules = {"rollout": {"strategy": "canary", "steps": [20], "pause": "3s", "watch": "0s"}}
    site.deploy(app(tmp_path, name, "1", **rules))
    app(tmp_path, name, "2", **rules)
    async with trickle(site.target(name), callers=4, pause=0.02) as outcomes:
        with site.popen("deploy", tmp_path) as deploying:
            await asyncio.to_thread(eventually, lambda: 20 in shares(site, name).values(), lambda: "no canary")
            begun = len(outcomes)
            rollout = site.describe(name)["rollout"]
            await asyncio.to_thread(site.becomes, name, lambda seen: seen["rollout"]["percent"] > 20, "moved on")
            during = versions(outcomes[begun : len(outcomes) - 8])
            assert deploying.wait(60) == 0
    none_failed(Tally.of(outcomes))
    assert rollout["state"] == "shifting"
    assert 0 < during["2"] < during["1"]
    assert json.loads(site.get(name).text)["version"] == "2"


async def test_a_revision_that_fails_its_callers_turns_back(site: Site, tmp_path: Path) -> None:
    name = "faulty"
    site.deploy(app(tmp_path, name, "1"))
    good = site.describe(name)["revision"]
    async with trickle(site.target(name), callers=2, pause=0.05) as outcomes:
        site.run("deploy", app(tmp_path, name, "2", env={"STATUS": "500"}))
        seen = await asyncio.to_thread(
            site.becomes, name, lambda seen: seen["rollout"]["state"] == "failed", "turned back"
        )
        # The control plane decides; the site's gateway hears of it a moment later, however long that takes there.
        await asyncio.to_thread(eventually, lambda: statuses(outcomes[-10:]) == {200}, lambda: "still the bad one")
        back = len(outcomes)
        await asyncio.to_thread(eventually, lambda: len(outcomes) >= back + 30, lambda: "nobody calls any more")
    assert "requests failed; before it, 0 of" in seen["rollout"]["reason"]
    assert seen["revision"] == good
    assert shares(site, name) == {good: 100}
    assert statuses(outcomes[back:]) == {200}
    assert Counter(one.status for one in outcomes)[500] >= 5
    told = site.ok("describe", name)
    assert "turned back" in told


def test_a_revision_that_dies_again_and_again_turns_back(site: Site, tmp_path: Path) -> None:
    name = "mortal"
    site.deploy(app(tmp_path, name, "1"))
    good = site.describe(name)["revision"]
    dies = "sh -c 'uvicorn app:app --host 127.0.0.1 --port $PORT & sleep 1.5; kill $!; exit 7'"
    site.run("deploy", app(tmp_path, name, "2", command=dies))
    seen = site.becomes(name, lambda seen: seen["rollout"]["state"] == "failed", "turned back")
    assert "exited with code 7" in seen["rollout"]["reason"]
    assert seen["revision"] == good
    assert site.get(name).json()["version"] == "1"


async def test_a_rollback_is_at_once_and_nobody_notices(site: Site, tmp_path: Path) -> None:
    name = "returning"
    site.deploy(app(tmp_path, name, "1", rollout={"watch": "0s"}))
    first = site.describe(name)["revision"]
    site.deploy(app(tmp_path, name, "2", rollout={"watch": "0s"}))
    second = site.describe(name)["revision"]
    site.reaches(name, "running")
    async with trickle(site.target(name), callers=4, pause=0.01) as outcomes:
        await asyncio.to_thread(site.ok, "rollback", name)
        none_failed(after := await burst(site.target(name), Request(), 20))
    none_failed(Tally.of(outcomes))
    assert json.loads(after.body)["version"] == "1"
    assert shares(site, name) == {first: 100, second: 0}
    refused = site.run("rollback", name, "--to", "rv-0000000000000000")
    assert refused.code != 0
    assert "there is no revision" in refused.err


async def test_each_revision_has_a_url_and_sleeps_by_itself(site: Site, tmp_path: Path) -> None:
    """Shares between revisions of which one sleeps: nobody who wakes it notices."""
    name = "halves"
    rules = {"rollout": {"strategy": "manual"}, "sleep": {"freeze_after": "300ms", "stop_after": "600ms"}}
    site.deploy(app(tmp_path, name, "1", **rules))
    site.deploy(app(tmp_path, name, "2", **rules))
    (old, _), (new, _) = sorted(shares(site, name).items(), key=lambda part: -part[1])
    hosts = {one["id"]: one["host"] for one in site.json("traffic", name)}
    for revision, version in ((old, "1"), (new, "2")):
        headers = {"host": hosts[revision]}
        assert (await asyncio.to_thread(_get, site, headers))["version"] == version
    wrong = site.run("traffic", name, f"{old}=60", f"{new}=30")
    assert "add up to 90" in wrong.err
    site.ok("traffic", name, f"{old}=50", f"{new}=50")
    site.reaches(name, "stopped")
    outcomes = [await burst(site.target(name), Request(), 100) for _ in range(2)]
    for tally in outcomes:
        none_failed(tally)
    async with trickle(site.target(name), callers=4, pause=0.01) as heard:
        await asyncio.to_thread(eventually, lambda: len(heard) > 60, lambda: "too few callers")
    none_failed(Tally.of(heard))
    assert set(versions(heard)) == {"1", "2"}


def _get(site: Site, headers: dict[str, str]) -> Any:
    import httpx

    return httpx.get(f"http://{site.gateway}/", headers=headers, timeout=60).json()
