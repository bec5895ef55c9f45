"""Nobody who calls notices that a service slept, woke, scaled or was deployed anew: not one failed request."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import websockets
from callers import none_failed, trickle
from support import Site, probe

from demo.load import Outcome, Request, Tally, Target, burst, call, digest

pytestmark = pytest.mark.real

RUNGS = ("stopped", "frozen")
UPLOAD = 20 * 2**20
AWAKE = {"sleep": {"freeze_after": "never", "stop_after": "never"}}
EVENTS = Request(path="/events?count=3&every=0.05", check=lambda body: body.count(b"data: ") == 3)


async def converse(target: Target, text: str, *, pause: float = 0.0) -> str:
    """Say something on a WebSocket of its own, after a pause; what came back."""
    host, port = target.endpoint
    async with websockets.connect(f"ws://{target.host}:{port}/ws", host=host, port=port, open_timeout=90) as socket:
        await asyncio.sleep(pause)
        await socket.send(text)
        return str(await asyncio.wait_for(socket.recv(), 60))


async def many(exchange: Callable[[], Awaitable[Outcome]], count: int) -> Tally:
    return Tally.of(await asyncio.gather(*(exchange() for _ in range(count))))


@pytest.mark.parametrize("rung", RUNGS)
async def test_five_hundred_first_calls_at_once(site: Site, probed: str, rung: str) -> None:
    site.sleep(probed, rung)
    none_failed(await burst(site.target(probed), Request(), 500))
    await asyncio.to_thread(
        site.becomes, probed, lambda seen: seen["wakes"][0]["rung"] == rung, f"shows that it was woken from {rung}"
    )


@pytest.mark.parametrize("rung", RUNGS)
async def test_large_uploads_arrive_whole(site: Site, probed: str, rung: str) -> None:
    site.sleep(probed, rung)
    target = site.target(probed)
    none_failed(await many(lambda: digest(target, "/digest", UPLOAD), 20))


@pytest.mark.parametrize("rung", RUNGS)
async def test_streams_of_every_kind(site: Site, probed: str, rung: str) -> None:
    site.sleep(probed, rung)
    target = site.target(probed)
    words = [f"word {number}" for number in range(100)]
    heard, events, plain, uploads = await asyncio.gather(
        asyncio.gather(*(converse(target, word) for word in words)),
        burst(target, EVENTS, 100),
        burst(target, Request(), 100),
        many(lambda: digest(target, "/digest", 2**20), 20),
    )
    assert heard == words
    for tally in (events, plain, uploads):
        none_failed(tally)


async def test_sleep_ordered_while_callers_come(site: Site, probed: str) -> None:
    """At least sixteen orders, and as many more as it takes until callers found it asleep four times: how often they do
    is up to how fast all of it is."""
    slept = 0
    woken = {one["id"] for one in site.describe(probed)["wakes"]}
    async with trickle(site.target(probed), callers=3, pause=1.2) as outcomes:
        for number in range(100):
            if number >= 16 and slept >= 4:
                break
            await asyncio.to_thread(site.order_sleep, probed, RUNGS[number % 4 == 0])
            await asyncio.sleep(random.Random(number).uniform(0.1, 0.7))
            wakes = {one["id"] for one in (await asyncio.to_thread(site.describe, probed))["wakes"]}
            slept += len(wakes - woken)
            woken |= wakes
    none_failed(Tally.of(outcomes))
    assert slept >= 4, f"it was woken {slept} times only"


def test_a_connection_that_is_kept_survives_sleep(site: Site, probed: str) -> None:
    host, port = site.target(probed).endpoint
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.connect()
    connection.auto_open = False
    for rung in (None, "frozen", "stopped", "frozen"):
        if rung:
            site.sleep(probed, rung)
        connection.request("GET", "/", headers={"host": f"{probed}.localhost"})
        answer = connection.getresponse()
        assert (answer.status, bool(json.loads(answer.read()))) == (200, True)
    connection.close()


async def test_what_is_in_flight_is_never_cut_by_sleep(site: Site, tmp_path: Path) -> None:
    name = "drowsy"
    site.deploy(probe(tmp_path, {name: {"sleep": {"freeze_after": "200ms", "stop_after": "400ms"}}}))
    target = site.target(name)
    slow, stream, heard = await asyncio.gather(
        call(target, Request(path="/slow?seconds=3")),
        call(target, Request(path="/events?count=3&every=1", check=lambda body: body.count(b"data: ") == 3)),
        converse(target, "after a long silence", pause=3),
    )
    none_failed(Tally.of([slow, stream]))
    assert heard == "after a long silence"
    seen = await asyncio.to_thread(site.reaches, name, "stopped")
    assert seen["usage"]["failed"] == 0


async def test_a_rollout_under_load(site: Site, tmp_path: Path) -> None:
    name = "rolling"
    site.deploy(probe(tmp_path, {name: AWAKE}))
    source = tmp_path / "app.py"
    source.write_text(source.read_text().replace('"VERSION", "1"', '"VERSION", "2"'))
    target = site.target(name)
    async with trickle(target, callers=8, pause=0.01) as outcomes:
        await asyncio.to_thread(site.deploy, tmp_path)
        none_failed(after := await burst(target, Request(), 50))
    none_failed(Tally.of(outcomes))
    assert {json.loads(one.body)["version"] for one in outcomes} == {"1", "2"}
    assert json.loads(after.body)["version"] == "2"


async def test_replicas_follow_concurrency(site: Site, tmp_path: Path) -> None:
    name = "growing"
    site.deploy(probe(tmp_path, {name: {**AWAKE, "scaling": {"min": 1, "max": 3, "concurrency": 5}}}))
    target = site.target(name)
    slow = Request(path="/slow?seconds=0.5")
    outcomes: list[Outcome] = []
    for _ in range(60):
        outcomes += await asyncio.gather(*(call(target, slow) for _ in range(20)))
        if len(Counter(json.loads(one.body)["replica"] for one in outcomes[-20:])) == 3:
            break
    none_failed(Tally.of(outcomes))
    seen = await asyncio.to_thread(site.becomes, name, lambda told: told["ready"] == 3, "has three")
    assert {one["id"] for one in seen["replicas"]} == {json.loads(one.body)["replica"] for one in outcomes[-20:]}


async def test_what_a_peak_needed_is_frozen_after_it_and_serves_the_next(site: Site, tmp_path: Path) -> None:
    name, slow = "peaks", Request(path="/slow?seconds=0.5")
    scaling, sleep = {"min": 1, "max": 3, "concurrency": 5}, {"freeze_after": "10m"}
    site.deploy(probe(tmp_path, {name: {"scaling": scaling, "sleep": sleep}}))
    target = site.target(name)

    def states() -> Counter[str]:
        return Counter(one["state"] for one in site.describe(name)["replicas"])

    async def peak() -> None:
        for _ in range(60):
            none_failed(Tally.of(await asyncio.gather(*(call(target, slow) for _ in range(20)))))
            if states() == {"ready": 3}:
                return
        raise AssertionError(states())

    await peak()
    there = {one["pid"] for one in site.describe(name)["replicas"]}
    site.becomes(name, lambda _: states() == {"ready": 1, "frozen": 2}, "has frozen what it does not need")
    await peak()
    assert {one["pid"] for one in site.describe(name)["replicas"]} == there, "nothing was started"


def test_a_service_with_a_minimum_never_sleeps(site: Site, tmp_path: Path) -> None:
    names = {"steady": 1, "fleeting": 0}
    sleep = {"freeze_after": "100ms", "stop_after": "300ms"}
    site.deploy(probe(tmp_path, {name: {"scaling": {"min": least}, "sleep": sleep} for name, least in names.items()}))
    site.reaches("fleeting", "stopped")
    assert site.describe("steady")["state"] == "running"
    assert site.get("steady").json()["replica"] == site.describe("steady")["replicas"][0]["id"]


@pytest.fixture(scope="module")
def limited(site: Site) -> str:
    """A service with a hard limit of four requests at once."""
    site.deploy(probe(site.home / "limited", {"limited": {**AWAKE, "scaling": {"max_concurrency": 4}}}))
    return "limited"


@pytest.mark.parametrize("rung", [None, *RUNGS])
async def test_a_hard_limit_is_kept(site: Site, limited: str, rung: str | None) -> None:
    """No replica is ever given more, asleep or awake; who waits for it to wake is served in turn."""
    if rung:
        site.sleep(limited, rung)
    none_failed(await burst(site.target(limited), Request(path="/slow?seconds=0.2"), 40))
    assert site.get(limited, "/peak").json()["peak"] <= 4


async def test_more_than_can_stand_in_line_is_refused(site: Site, limited: str) -> None:
    tally = await burst(site.target(limited), Request(path="/slow?seconds=0.2"), 200)
    assert set(tally.statuses) == {200, 429}, tally
    assert "too_many_requests" in tally.example
