"""A site that nobody can dial serves others through the tunnels that it holds to them; each with a real Envoy."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import websockets
from real_gateway import Receive, Scope, Send, Site, answer, end, headers_of, paths_in, replica, saying
from several_sites import INSTALLATION, KEY, Installation, cluster, installation, joined, site_id
from site_runner import threads_of, until, until_async

from kasbah.domain.crossing import spiffe_id
from kasbah.domain.service import Access

pytestmark = pytest.mark.real

LARGE = 10 * 2**20


@pytest.fixture
async def three(tmp_path: Path, descriptors: Path) -> AsyncIterator[Installation]:
    """Of the sites a, b and c, nobody can dial c."""
    async with installation(tmp_path, descriptors, tunnels="c") as made:
        yield made


async def test_a_site_that_cannot_be_dialled_serves_others(three: Installation) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            await send({"type": "websocket.send", "text": (await receive())["text"].upper()})
            return
        seen = hashlib.sha256()
        while (part := await receive()).get("more_body"):
            seen.update(part["body"])
        seen.update(part.get("body", b""))
        await answer(send, seen.hexdigest().encode(), x_seen=headers_of(scope).get("x-kasbah-entry", "nobody"))

    body = bytes(range(256)) * (LARGE // 256)
    async with replica(app) as address:
        await three.place("notes", at="c")
        await three.replicas("c", "notes", address)
        for at in "ab":
            async with three.site(at).client() as client:
                found = await client.post("/", content=body)
            assert (found.text, found.headers["x-kasbah-site"]) == (hashlib.sha256(body).hexdigest(), "c")
            assert found.headers["x-seen"] == spiffe_id(INSTALLATION, site_id(at))
        url = f"ws://notes.localhost:{three.site('a').port}/room"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            await room.send("hello")
            assert await room.recv() == "HELLO"
        await three.place("other", at="a")
        await three.replicas("a", "other", address)
        assert (await three.site("c").get(name="other")).headers["x-kasbah-site"] == "a", "it dials others itself"


async def test_keys_and_sleep_are_the_same_through_a_tunnel(three: Installation) -> None:
    async with replica(saying("c")) as address:
        await three.place("notes", at="c", access=Access.KEY)
        await three.replicas("c", "notes")
        assert (await three.site("a").get()).status_code == 401
        asking = asyncio.create_task(three.site("a").get(authorization=f"Bearer {KEY}"))
        (await three.site("c").doorman.next()).release(address)
        assert (await asking).text == "c"


@pytest.mark.parametrize("how", ["lost", "hangs"])
async def test_what_a_tunnel_leads_to_fails_over_like_any_site(three: Installation, how: str) -> None:
    async with replica(saying("c")) as c, replica(saying("b")) as b:
        await three.place("notes", at="cb")
        await three.replicas("c", "notes", c)
        await three.replicas("b", "notes", b)
        async with three.site("a").client() as client:
            assert {(await client.get("/")).text for _ in range(20)} == {"c"}
            site = three.site("c")
            os.kill(site.envoy_pid, signal.SIGKILL if how == "lost" else signal.SIGSTOP)
            # Its threads stop one by one: an answer that one of them has begun would be cut, which no site can help.
            await until(lambda: all(one in "TZX" for one in threads_of(site.envoy_pid)))
            try:
                assert {(await client.get("/")).text for _ in range(20)} == {"b"}
                await three.seen("a", "c", healthy=False)
                assert (await client.post("/")).text == "b"
            finally:
                if how == "hangs":
                    os.kill(site.envoy_pid, signal.SIGCONT)
            if how == "lost":
                await site.controller.envoy.ended()
                await site.controller.envoy.start()
            await until_async(lambda: served_by(client, "c"))


async def test_a_tunnel_is_made_again_when_the_other_end_comes_back(three: Installation) -> None:
    async with replica(saying("c")) as c:
        await three.place("notes", at="c")
        await three.replicas("c", "notes", c)
        site = three.site("a")
        assert (await site.get()).text == "c"
        site.kill()
        await site.controller.envoy.ended()
        await site.controller.envoy.start()
        await site.controller.live()
        async with site.client() as client:
            await until_async(lambda: served_by(client, "c"))


async def test_a_tunnel_left_in_another_sites_name_carries_nothing(
    three: Installation, tmp_path: Path, descriptors: Path
) -> None:
    """A site of the installation may leave one, and then has to prove through it whose it is."""
    async with replica(saying("c")) as c, replica(saying("thief")) as stolen:
        await three.place("notes", at="c")
        await three.replicas("c", "notes", c)
        assert (await three.site("a").get()).text == "c"
        three.site("c").kill()
        await three.seen("a", "c", healthy=False)
        paths = paths_in(tmp_path / "thief", descriptors)
        thief = Site(paths, tunnel=True)
        try:
            await joined(thief, three.authority, spiffe_id(INSTALLATION, site_id("b")))
            thief.wanted = replace(three.wanted("c"), listen=thief.controller.listen)
            await thief.open()
            await thief.endpoints_of(cluster("notes"), stolen)
            await until(lambda: connections(thief.envoy_pid, three.peers_port("a")) >= 2)
            into_the_tunnel = httpx.AsyncHTTPTransport(uds=three.site("a").controller.wiring.hop_socket(site_id("c")))
            async with httpx.AsyncClient(transport=into_the_tunnel) as hop:
                for _ in range(20):
                    found = await hop.get("http://notes.localhost/")
                    assert found.status_code == 503, found.text
            found = await three.site("a").get()
            assert (found.status_code, found.json()["error"]["code"]) == (503, "no_lawful_site")
            assert not await three.healthy("a", "c")
        finally:
            await thief.leave()
            end(paths)


def connections(pid: int, port: int) -> int:
    """How many a process has to that port."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            own.add(descriptor.readlink().name.removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "01" and line[9] in own for line in lines)


async def served_by(client: httpx.AsyncClient, site: str) -> bool:
    return (await client.get("/")).text == site
