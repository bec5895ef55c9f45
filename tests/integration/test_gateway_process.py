"""A real Envoy's life: what it refuses changes nothing, it outlives who started it, is adopted, and comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from real_gateway import FIRST, Site, Slow, replica, saying, virtual_host
from site_runner import DEADLINE, until

from kasbah import proc
from kasbah.agent.gateway import process
from kasbah.agent.gateway.server import Rejected
from kasbah.agent.gateway.translate import Kind, configuration, resource
from kasbah.agent.paths import Paths
from kasbah.domain.gateway import Cluster
from kasbah.domain.ids import RevisionId
from kasbah.domain.revision import Protocol
from kasbah.errors import Conflict

pytestmark = pytest.mark.real

NOTES = "sv-notes/rv-first"
SECOND = RevisionId("rv-second")
BOGUS = {"name": "bogus", "type": "STRICT_DNS", "connect_timeout": "1s", "lb_policy": "CLUSTER_PROVIDED"}

STARTS = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from real_gateway import Site
from kasbah.agent.paths import Paths

async def main():
    site = Site(Paths(Path(sys.argv[2])))
    await site.open()
    print(site.port, site.envoy_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def clusters_of(site: Site) -> set[str]:
    """The clusters that Envoy has, but for its own."""
    told = await site.controller.envoy.admin("GET", "/clusters?filter=^(sv-|bogus)")
    return {line.partition("::")[0].strip() for line in told.splitlines() if "::observability_name::" in line}


# --- what Envoy refuses -----------------------------------------------------------------------------------------------


async def test_a_refused_description_is_taken_back_whole(gateway: Site) -> None:
    """Our own checks let a host of `*` pass, of which Envoy allows one."""
    async with replica(saying("good")) as address, replica(saying("later")) as later:
        await gateway.route(address)
        good = gateway.wanted
        bad = virtual_host("bad", ((FIRST, 100),), hosts=("*",))
        await gateway.apply(
            replace(
                good,
                hosts=(replace(good.hosts[0], hosts=(*good.hosts[0].hosts, "moved.localhost")), bad),
                clusters=(*good.clusters, Cluster(name=bad.clusters[0].cluster, protocol=Protocol.HTTP1)),
            )
        )
        assert "refused" in gateway.controller.error
        assert "wildcard" in gateway.controller.error
        assert (await gateway.get()).text == "good"
        assert (await gateway.get(name="moved")).status_code == 404
        await until_clusters(gateway, {NOTES})

        await gateway.endpoints_of(NOTES, later)
        assert (await gateway.get()).text == "later", "endpoints change all the same"

        gateway.wanted = good
        await gateway.route(later, name="other")
        assert gateway.controller.error == ""
        assert (await gateway.get(name="other")).text == "later"


async def test_a_refused_cluster_is_taken_back(gateway: Site) -> None:
    async with replica(saying("good")) as address:
        await gateway.route(address)
        found = configuration(gateway.wanted, gateway.controller.wiring)
        clusters = {**found[Kind.CLUSTER], "bogus": resource(Kind.CLUSTER, BOGUS)}
        with pytest.raises(Rejected, match="bogus"):
            await gateway.controller._xds.apply({**found, Kind.CLUSTER: clusters})
        assert (await gateway.get()).text == "good"
        await until_clusters(gateway, {NOTES})
        await gateway.route(address, name="other")
        assert gateway.controller.error == ""
        assert (await gateway.get(name="other")).text == "good"


async def test_what_is_not_sound_never_reaches_envoy(gateway: Site) -> None:
    async with replica(saying("good")) as address:
        await gateway.route(address)
        await gateway.apply(replace(gateway.wanted, clusters=()))
        assert "routes to sv-notes/rv-first, which is not there" in gateway.controller.error
        assert (await gateway.get()).status_code == 404, "nothing says that what was there is wanted still"
        await gateway.route(address)
        assert (await gateway.get()).text == "good"


async def test_no_request_fails_while_a_revision_takes_over(gateway: Site) -> None:
    """The old cluster goes only once no route leads to it."""
    async with replica(saying("first")) as first, replica(saying("second")) as second, gateway.client() as client:
        await gateway.route(first)
        done = asyncio.Event()
        answers: list[tuple[int, str]] = []

        async def call() -> None:
            while not done.is_set():
                found = await client.get("/")
                answers.append((found.status_code, found.text))

        callers = [asyncio.create_task(call()) for _ in range(4)]
        for revision, address in ((SECOND, second), (FIRST, first)) * 5:
            await gateway.route(address, shares=((revision, 100),), replaces=True)
            served = len(answers)
            await until(lambda served=served: len(answers) > served + 4)  # type: ignore[misc]
        done.set()
        await asyncio.gather(*callers)
        await until_clusters(gateway, {NOTES})
    assert {status for status, _ in answers} == {200}
    assert {text for _, text in answers} == {"first", "second"}


async def until_clusters(site: Site, wanted: set[str]) -> None:
    async with asyncio.timeout(DEADLINE):
        while await clusters_of(site) != wanted:  # noqa: ASYNC110 another process tells no event
            await asyncio.sleep(0.01)


# --- its life ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def another_agent(paths: Paths) -> AsyncIterator[tuple[subprocess.Popen[str], int, int]]:
    """A process that starts the gateway, the port it listens on, and Envoy's pid."""
    argv = [sys.executable, "-c", STARTS, str(Path(__file__).parent), str(paths.data_dir)]
    starter = subprocess.Popen(  # noqa: ASYNC220 it starts at once
        argv, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert starter.stdout is not None
        port, pid = (await asyncio.to_thread(starter.stdout.readline)).split()
        yield starter, int(port), int(pid)
    finally:
        starter.kill()
        await asyncio.to_thread(starter.communicate)


async def test_envoy_outlives_who_started_it_and_is_adopted(site_paths: Paths) -> None:
    async with another_agent(site_paths) as (starter, port, pid), replica(saying("adopted")) as address:
        os.killpg(starter.pid, signal.SIGKILL)
        await asyncio.to_thread(starter.wait)
        assert proc.runs(pid)
        assert os.getsid(pid) == pid

        site = Site(site_paths)
        await site.open()
        assert (site.envoy_pid, site.port) == (pid, port)
        await until(lambda: site.controller.connected)
        await site.route(address)
        assert (await site.get()).text == "adopted"
        await site.leave()
    assert proc.runs(pid)


async def test_what_serves_goes_on_while_no_agent_is_there(site_paths: Paths) -> None:
    slow = Slow()
    async with replica(slow) as address:
        first = Site(site_paths)
        await first.open()
        await first.route(address)
        asking = asyncio.create_task(first.get())
        await until(lambda: slow.busy)
        await first.leave()
        again = asyncio.create_task(first.get())
        await until(lambda: slow.busy == 2)

        second = Site(site_paths)
        assert second.envoy_pid == first.envoy_pid
        second.wanted, second.endpoints = first.wanted, first.endpoints
        await second.open()
        await second.report(lambda report: report.busy(NOTES, address) == 2)
        slow.go.set()
        assert [(await one).text for one in (asking, again)] == ["begun done"] * 2
        await second.leave()


async def test_a_hold_is_carried_over_to_the_next_agent(site_paths: Paths) -> None:
    async with replica(saying("awake")) as address:
        first = Site(site_paths)
        await first.open()
        await first.route()
        asking = asyncio.create_task(first.get())
        await first.doorman.next()
        await first.leave()

        second = Site(site_paths)
        second.wanted = first.wanted
        await second.open()
        (await second.doorman.next()).release(address)
        assert (await asking).text == "awake"
        await second.leave()


async def test_an_agent_that_starts_with_the_same_state_changes_nothing(site_paths: Paths) -> None:
    async with replica(saying("here")) as address:
        first = Site(site_paths)
        await first.open()
        await first.route(address)
        await first.leave()
        changed = "/stats?filter=(cluster_modified|cluster_removed|listener_modified|listener_removed)$"
        before = await first.controller.envoy.admin("GET", changed)

        second = Site(site_paths)
        second.wanted, second.endpoints = first.wanted, first.endpoints
        await second.open()
        await until(lambda: second.controller.connected)
        await second.route(address, name="other")
        assert (await second.get(name="other")).text == "here"
        assert await second.controller.envoy.admin("GET", changed) == before
        await second.leave()


async def test_an_envoy_that_is_killed_comes_back(gateway: Site) -> None:
    keeping = asyncio.create_task(gateway.controller.keep_running())
    async with replica(saying("back")) as address:
        await gateway.route(address)
        await gateway.keys()
        for times in (1, 2):
            before = gateway.envoy_pid
            os.kill(before, signal.SIGKILL)
            await until(lambda times=times: gateway.controller.restarts == times)  # type: ignore[misc]
            await until(lambda before=before: gateway.envoy_pid != before)  # type: ignore[misc]
            await gateway.controller.live()
            assert (await gateway.get()).text == "back"
            assert gateway.controller.error == ""
    keeping.cancel()


def test_a_pid_that_became_somebody_elses_is_not_adopted(site_paths: Paths) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        started = process.start_time(stranger.pid)
        assert started is not None
        (site_paths.envoy / "envoy.json").write_text(
            json.dumps({"pid": stranger.pid, "started": started - 1, "mark": "m"})
        )
        assert process.read_record(site_paths.envoy) is None
        process.end(process.Running(pid=stranger.pid, started=started - 1))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"pid": "x", "started": 1}'])
def test_a_damaged_record_is_no_record(site_paths: Paths, record: str) -> None:
    (site_paths.envoy / "envoy.json").write_text(record)
    assert process.read_record(site_paths.envoy) is None


async def test_another_bootstrap_restarts_envoy(site_paths: Paths) -> None:
    first = Site(site_paths)
    await first.open()
    await first.leave()
    pid, port = first.envoy_pid, first.port
    second = Site(site_paths, workers=2)
    assert not proc.runs(pid)
    await second.open()
    assert second.envoy_pid != pid
    assert second.port == port, "a free port is kept"
    await second.leave()


async def test_a_port_that_is_taken_is_told(site_paths: Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = Site(site_paths, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Conflict, match="another process has that port"):
            await site.open()
        await site.leave()
    assert process.read_record(site_paths.envoy) is None


async def test_end_waits_until_envoy_is_gone(site_paths: Paths) -> None:
    site = Site(site_paths)
    await site.open()
    ended = asyncio.create_task(site.controller.envoy.ended())
    running = site.controller.envoy.running
    assert running is not None
    await asyncio.to_thread(process.end, running)
    assert not proc.runs(running.pid)
    await ended
    process.end(running)
    await site.leave()
    with suppress(FileNotFoundError):
        (site_paths.envoy / "envoy.json").unlink()
