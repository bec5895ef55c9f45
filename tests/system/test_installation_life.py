"""An installation's own life: what its commands print, what they leave behind, and what it counts."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import signal
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from support import Site, eventually, installation, probe

from demo.load import Request, burst
from kasbah import proc

pytestmark = pytest.mark.real

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/json-output.schema.json").read_text())
UNUSED = {"sleep": {"freeze_after": "never", "stop_after": "never"}}
NOT_FOUND = 5


def as_documented(command: str, printed: Any) -> Any:
    """What a command printed, once the documented schema has agreed to it."""
    jsonschema.validate(printed, {**SCHEMA["properties"][command], "$defs": SCHEMA["$defs"]})
    return printed


@pytest.fixture(scope="module")
def talkative(site: Site) -> str:
    """A service of this module's own."""
    site.deploy(probe(site.home / "talkative", {"talkative": UNUSED}))
    return "talkative"


def say(site: Site, name: str, text: str) -> None:
    assert site.get(name, f"/say?text={text}").json() == {"said": text}


SUPERVISOR = "kasbah.cli.supervisor"
"""In its command line: the name alone is in this file's folders too."""


class TestWhatCommandsPrint:
    def test_ps(self, site: Site, talkative: str) -> None:
        listed = as_documented("ps", site.json("ps"))
        one = next(each for each in listed if each["name"] == talkative)
        assert one["project"] == "default"
        assert (one["state"], one["replicas"], one["ready"], one["access"]) == ("running", 1, 1, "public")
        assert one["url"] == f"http://{talkative}.localhost:{site.gateway.rpartition(':')[2]}/"
        assert (one["address"], one["host"]) == (site.gateway, f"{talkative}.localhost")
        assert one["site"] == "local"
        assert [(each["site"], each["state"]) for each in one["placements"]] == [("local", "running")]
        assert site.get(talkative).status_code == 200

    def test_describe(self, site: Site, talkative: str) -> None:
        site.sleep(talkative, "stopped")
        site.get(talkative)
        site.becomes(
            talkative, lambda seen: bool(seen["wakes"] and seen["wakes"][0]["phases"]["first_byte"]), "shows its wake"
        )
        seen = as_documented("describe", site.json("describe", talkative))
        wake = seen["wakes"][0]
        assert (wake["rung"], wake["held"]) == ("stopped", 1)
        assert set(wake["phases"]) == {"queue", "start", "ready", "first_byte"}
        assert wake["total_ms"] == pytest.approx(sum(wake["phases"].values()), abs=1)
        (replica,) = [one for one in seen["replicas"] if one["state"] == "ready"]
        assert replica["id"] == site.get(talkative).json()["replica"]
        assert proc.runs(replica["pid"])
        assert [one["percent"] for one in seen["revisions"]] == [100]

    @pytest.mark.parametrize("command", ["doctor", "sites list", "keys list", "tokens list", "version"])
    def test_others(self, site: Site, command: str) -> None:
        assert as_documented(command, site.json(*command.split()))

    def test_an_error_as_json(self, site: Site) -> None:
        answer = site.run("describe", "nobody", "-o", "json")
        assert (answer.code, answer.out) == (NOT_FOUND, "")
        error = as_documented("any error, on standard error", json.loads(answer.err))["error"]
        assert "nobody" in error["message"]

    def test_keys(self, site: Site, talkative: str) -> None:
        made = as_documented("keys create", site.json("keys", "create", "once", "--service", talkative))
        assert set(made) == {"id", "key", "opens_up_to"}
        assert made["key"] not in site.ok("keys", "list", "-o", "json")


class TestLogs:
    def test_of_all_and_of_one_replica(self, site: Site, talkative: str) -> None:
        say(site, talkative, "first")
        eventually(lambda: "first to stderr" in site.ok("logs", talkative), lambda: site.ok("logs", talkative))
        lines = [json.loads(line) for line in site.ok("logs", talkative, "-o", "json").splitlines()]
        for line in lines:
            as_documented("logs", line)
        spoken = {(line["stream"], line["text"]) for line in lines}
        assert {("stdout", "first"), ("stderr", "first to stderr")} <= spoken
        assert site.ok("logs", talkative, "--tail", "1").count("\n") == 1
        replica = lines[-1]["replica"]
        assert "first" in site.ok("logs", talkative, "--replica", replica)

    def test_followed_across_a_wake(self, site: Site, talkative: str) -> None:
        with site.popen("logs", talkative, "-f", "--tail", "0") as following:
            assert following.stdout is not None
            try:
                for number in itertools.count():
                    say(site, talkative, f"ping{number}")
                    if _readable(following.stdout):
                        break
                assert "ping" in following.stdout.readline()
                site.sleep(talkative, "stopped")
                say(site, talkative, "after")
                assert any("after" in line for line in iter(following.stdout.readline, ""))
            finally:
                following.send_signal(signal.SIGINT)
                following.communicate(timeout=20)
        assert following.returncode == -signal.SIGINT  # which shells tell as 130


def _readable(stream: Any) -> bool:
    return bool(select.select([stream], [], [], 0.2)[0])


class TestCommandsThatAct:
    def test_scale_sleep_wake(self, site: Site, talkative: str) -> None:
        site.ok("scale", talkative, "2")
        site.becomes(talkative, lambda seen: seen["ready"] == 2, "has two replicas")
        site.ok("scale", talkative, "--min", "0", "--max", "1")
        site.becomes(talkative, lambda seen: seen["ready"] == 1, "has one replica again")
        for options, state in (((), "frozen"), (("--stop",), "stopped")):
            site.ok("sleep", talkative, *options)
            site.reaches(talkative, state)
            site.ok("wake", talkative)
            site.reaches(talkative, "running")

    def test_delete_leaves_nothing(self, site: Site, tmp_path: Path) -> None:
        site.deploy(probe(tmp_path, {"passing": {**UNUSED, "env": {"VERSION": "that nobody else has"}}}))
        known = site.describe("passing")
        pid = known["replicas"][0]["pid"]
        marks = [known["id"], known["revision"]]
        site.ok("delete", "passing", "--yes")
        eventually(lambda: not proc.runs(pid), lambda: f"process {pid} lives on")
        eventually(lambda: site.get("passing").status_code == 404, lambda: "it still answers")
        assert "passing" not in site.ok("ps")
        assert site.run("describe", "passing").code == NOT_FOUND
        os.kill(site.pid("agent"), signal.SIGKILL)  # the first thing the next one does is to clean up
        eventually(lambda: not _left(site, marks), lambda: f"left behind: {_left(site, marks)}")


def _left(site: Site, marks: list[str]) -> list[str]:
    """Files of a service that are still there. Folders that go while they are looked into are gone."""
    found = (
        f"{folder}/{name}" for folder, folders, files in os.walk(site.data_dir / "agent") for name in folders + files
    )
    return [path for path in found if any(mark in path.rpartition("/")[2] for mark in marks)]


def test_every_request_is_counted_once(site: Site, tmp_path: Path) -> None:
    """Across sleep and a killed agent."""
    name = "counted"
    site.deploy(probe(tmp_path, {name: UNUSED}))
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        tally = asyncio.run(burst(site.target(name), Request(), count))
        assert tally.failed == 0, tally
        sent += count
        site.becomes(name, lambda seen: seen["usage"]["requests"] >= sent, f"counts {sent} requests")
        assert site.describe(name)["usage"]["requests"] == sent

    send(100)
    site.sleep(name, "stopped")
    send(50)
    agent = site.pid("agent")
    os.kill(agent, signal.SIGKILL)
    send(50)
    eventually(lambda: site.pid("agent") != agent, lambda: "the agent was not started again")
    send(50)


class TestDownAndUp:
    """On an installation of its own."""

    def test_nothing_is_left_and_everything_comes_back(self, tmp_path: Path) -> None:
        entries = {"public": UNUSED, "guarded": {**UNUSED, "access": "key"}}
        with installation(tmp_path) as own:
            as_documented("up", own.said)
            own.deploy(probe(tmp_path / "app", entries))
            own.sleep("guarded", "frozen")
            frozen, running = (own.describe(name)["replicas"][0]["pid"] for name in ("guarded", "public"))
            parts = {own.pid(part) for part in ("agent", "control", "envoy")}
            assert {frozen, running, *parts} <= own.processes().keys()
            assert as_documented("down", json.loads(own.ok("down", "--data-dir", own.data_dir, "-o", "json")))[
                "stopped"
            ]
            assert own.processes() == {}
            assert not any(proc.runs(pid) for pid in (frozen, running, *parts))

            first = own.gateway, own.api
            own.up()
            assert {one["name"] for one in own.json("ps")} == {"public", "guarded"}
            assert own.get("public").json()["version"] == "1"
            assert own.get("guarded").status_code == 200, "the key still opens"
            assert httpx.get(f"http://{own.gateway}/", headers={"host": "guarded.localhost"}).status_code == 401
            assert own.describe("public")["wakes"][0]["rung"] == "stopped"
            assert (own.gateway, own.api) == first, "a port that was chosen is kept"
        assert own.processes() == {}
        assert own.down().code == 0, "down on what is down is no error"

    def test_a_killed_supervisor_leaves_nothing_that_down_does_not_end(self, tmp_path: Path) -> None:
        with installation(tmp_path) as own:
            own.deploy(probe(tmp_path / "app", {"public": UNUSED}))
            supervisor = next(pid for pid, line in own.processes().items() if SUPERVISOR in line)
            os.kill(supervisor, signal.SIGKILL)
            own.up()
            assert own.get("public").status_code == 200
            for pid, line in own.processes().items():
                if SUPERVISOR in line:
                    os.kill(pid, signal.SIGKILL)
            assert own.down().code == 0
            assert own.processes() == {}


async def test_the_agent_is_killed_under_load(site: Site, tmp_path: Path) -> None:
    """What is held and what is warm outlives the agent: its successor adopts gateway and replicas."""
    name = "outliving"
    await asyncio.to_thread(site.deploy, probe(tmp_path, {name: {**UNUSED, "env": {"START_SECONDS": "1"}}}))
    replica = site.describe(name)["replicas"][0]["id"]
    for rung in (None, "stopped"):
        if rung:
            await asyncio.to_thread(site.sleep, name, rung)
        agent = site.pid("agent")
        calls = asyncio.create_task(burst(site.target(name), Request(path="/slow?seconds=1"), 50))
        await asyncio.sleep(0.3)
        os.kill(agent, signal.SIGKILL)
        tally = await calls
        assert tally.failed == 0, tally
        await asyncio.to_thread(
            eventually, lambda agent=agent: site.pid("agent") != agent, lambda: "the agent was not started again"
        )
        if rung is None:
            assert json.loads(tally.body)["replica"] == replica
