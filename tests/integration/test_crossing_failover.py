"""A site that is lost, or hangs, while it serves others: what is asked of it goes to the next, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import websockets
from real_gateway import Receive, Scope, Send, replica, saying
from several_sites import KEY, Installation, installation
from site_runner import DEADLINE, until, until_async

from kasbah.decide.metering import meter
from kasbah.domain.service import Access

pytestmark = pytest.mark.real

CALLERS = 20


@pytest.fixture
async def three(tmp_path: Path, descriptors: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, descriptors) as made:
        yield made


class Load:
    """Callers of one site's gateway, one request after the other, until they are told to stop."""

    def __init__(self, port: int, method: str) -> None:
        self.answers: Counter[str] = Counter()
        self.last: dict[str, float] = {}
        self.slowest = 0.0
        self._request = f"{method} / HTTP/1.1\r\nhost: notes.localhost\r\ncontent-length: 0\r\n\r\n".encode()
        self._port = port
        self._stop = False
        self._moved = asyncio.Event()
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not true():
                await self._moved.wait()

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._callers)

    async def _call(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        time = asyncio.get_running_loop().time
        while not self._stop:
            began = time()
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            said = f"{head[9:12].decode()} {(await reader.readexactly(length)).decode()[:80]}"
            self.answers[said] += 1
            self.last[said] = time()
            self.slowest = max(self.slowest, time() - began)
            self._moved.set()
            self._moved = asyncio.Event()
        writer.close()


@asynccontextmanager
async def naming(site: str) -> AsyncIterator[str]:
    """A replica that names its site, as applications do: the head of an answer, and then its body."""
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(site)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head)
                await asyncio.sleep(0)
                writer.write(site.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def beginning(
    head: str, body: str = "", rest: str = ""
) -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """A replica that begins each answer, with `head` and `body`, and sends the `rest` when it is told to. To `/whole`
    it gives one that is soon over: what was begun before that has been passed on."""
    begun, told = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while asked := await reader.readuntil(b"\r\n\r\n"):
                if asked.startswith(b"GET /whole "):
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                    continue
                writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}".encode())
                await writer.drain()
                begun.set()
                await told.wait()
                writer.write(rest.encode())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", begun, told


@pytest.mark.parametrize("how", ["lost", "hangs"])
async def test_no_request_that_may_be_repeated_fails_with_its_site(three: Installation, how: str) -> None:
    async with naming("b") as b, naming("c") as c:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", b)
        await three.replicas("c", "notes", c)
        load = Load(three.site("a").port, "GET")
        await load.until(lambda: load.answers["200 b"] > 200)
        assert set(load.answers) == {"200 b"}, "the first choice has everything"
        at = asyncio.get_running_loop().time()
        os.kill(three.site("b").envoy_pid, signal.SIGKILL if how == "lost" else signal.SIGSTOP)
        try:
            noticed = await three.seen("a", "b", healthy=False)
            served = load.answers["200 c"]
            await load.until(lambda: load.answers["200 c"] > served + 200)
            await load.stop()
        finally:
            if how == "hangs":
                os.kill(three.site("b").envoy_pid, signal.SIGCONT)
        assert set(load.answers) == {"200 b", "200 c"}, load.answers
        record = {
            "requests": sum(load.answers.values()),
            "noticed after": f"{noticed - at:.3f} s",
            "last answer of b after": f"{load.last['200 b'] - at:.3f} s",
            "slowest": f"{load.slowest:.3f} s",
        }
        print(f"\nsite b {how}: {record}")


@pytest.mark.parametrize("body", ["", "ab"])
async def test_an_answer_begun_by_a_site_that_is_lost_is_given_by_the_next(three: Installation, body: str) -> None:
    async with beginning("content-length: 4", body) as (b, begun, _), replica(saying("c")) as c:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", b)
        await three.replicas("c", "notes", c)
        async with three.site("a").client() as client:
            asking = asyncio.create_task(client.get("/"))
            await asyncio.wait_for(begun.wait(), DEADLINE)
            assert (await client.get("/whole")).status_code == 204
            three.site("b").kill()
            found = await asking
        assert (found.status_code, found.text, found.headers["x-kasbah-site"]) == (200, "c", "c")


@pytest.mark.parametrize("head", ["transfer-encoding: chunked", "content-length: 65537"])
async def test_streams_and_large_answers_are_passed_on_as_they_come(three: Installation, head: str) -> None:
    body = "1\r\nb\r\n" if "chunked" in head else "b"
    async with beginning(head, body, "0\r\n\r\n" if "chunked" in head else "b" * 65_536) as (b, _, told):
        await three.place("notes", at="b")
        await three.replicas("b", "notes", b)
        async with three.site("a").client() as client, client.stream("GET", "/") as found:
            pieces = found.aiter_raw()
            assert await asyncio.wait_for(anext(pieces), DEADLINE) == b"b", "before the rest of it is there"
            told.set()
            rest = b"".join([piece async for piece in pieces])
    assert set(rest) <= {ord("b")}


async def test_an_answer_without_a_body_says_how_long_it_would_have_been(three: Installation) -> None:
    async with beginning("content-length: 4") as (b, _, _):
        await three.place("notes", at="b")
        await three.replicas("b", "notes", b)
        async with three.site("a").client() as client:
            found = await client.head("/")
    assert (found.status_code, found.headers["content-length"], found.content) == (200, "4", b"")


async def test_what_may_not_be_repeated_fails_once_and_goes_elsewhere_afterwards(three: Installation) -> None:
    async with naming("b") as b, naming("c") as c:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", b)
        await three.replicas("c", "notes", c)
        load = Load(three.site("a").port, "POST")
        await load.until(lambda: load.answers["200 b"] > 200)
        three.site("b").kill()
        await load.until(lambda: load.answers["200 c"] > 200)
        await load.stop()
        failed = {said: count for said, count in load.answers.items() if not said.startswith("200 ")}
        assert sum(failed.values()) <= CALLERS, "what was on its way, and nothing after it"
        assert all('"code":"unavailable"' in said for said in failed)


async def test_a_site_that_comes_back_is_first_choice_again(three: Installation) -> None:
    async with replica(saying("b")) as b, replica(saying("c")) as c:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", b)
        await three.replicas("c", "notes", c)
        site = three.site("b")
        site.kill()
        await three.seen("a", "b", healthy=False)
        assert (await three.site("a").get()).text == "c"
        await site.controller.envoy.ended()
        await site.controller.envoy.start()
        await three.seen("a", "b", healthy=True)

        async def first_choice() -> bool:
            return (await three.site("a").get()).text == "b"

        await until_async(first_choice)


# --- a service that runs at the site where it is asked for, too -------------------------------------------------------


async def test_a_service_is_served_where_it_is_asked_for_if_it_runs_there(three: Installation) -> None:
    async with replica(saying("a")) as a, replica(saying("b")) as b:
        await three.place("notes", at="ba", access=Access.KEY)
        await three.replicas("a", "notes", a)
        await three.replicas("b", "notes", b)
        for at in "ab":
            found = await three.site(at).get(authorization=f"Bearer {KEY}")
            assert (found.text, found.headers["x-kasbah-site"]) == (at, at)
            assert found.headers["server-timing"].count("gateway") == 2, "the gateway asked itself"
        await three.replicas("a", "notes")
        asking = asyncio.create_task(three.site("a").get(authorization=f"Bearer {KEY}"))
        (await three.site("a").doorman.next()).release(a)
        assert (await asking).text == "a", "asleep it is woken, and not asked for elsewhere"
        log = three.site("a").paths.envoy / "access.log"
        await until(lambda: log.read_bytes().count(b"\n") >= 4)
    (usage,) = meter(log.read_bytes().splitlines()).usage.values()
    assert usage.requests == 2, "counted where it is served, once"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_its_own_site_cannot_start_is_served_by_another(three: Installation, method: str) -> None:
    async with replica(saying("b")) as b, three.site("a").client() as client:
        await three.place("notes", at="ab")
        await three.replicas("a", "notes")
        await three.replicas("b", "notes", b)
        asking = asyncio.create_task(client.request(method, "/", content=b"x" * 1_000))
        (await three.site("a").doorman.next()).refuse(503, "start_failed", "It does not start.")
        found = await asking
    assert (found.status_code, found.text, found.headers["x-kasbah-site"]) == (200, "b", "b")


async def test_a_websocket_to_a_service_that_runs_here_and_elsewhere(three: Installation) -> None:
    async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async with replica(echo) as address:
        await three.place("notes", at="ab")
        await three.replicas("a", "notes", address)
        url = f"ws://notes.localhost:{three.site('a').port}/room"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            await room.send("hello")
            assert await room.recv() == "HELLO"
