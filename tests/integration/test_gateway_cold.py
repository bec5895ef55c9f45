"""Requests that wait at the gate while a service wakes: every kind goes on as if nothing had been, and may give up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import grpc
import pytest
import websockets
from real_gateway import (
    Receive,
    Scope,
    Send,
    Site,
    Slow,
    answer,
    memory_of,
    refusing,
    replica,
    saying,
)
from site_runner import DEADLINE, until, until_async

from kasbah.domain.ids import RevisionId, ServiceId
from kasbah.domain.revision import Protocol

pytestmark = pytest.mark.real

NOTES = "sv-notes/rv-first"
CHUNK = bytes(range(256)) * 256
LARGE = 20 * 2**20


async def digests(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what was sent: its method, length and digest."""
    body, length = hashlib.sha256(), 0
    while True:
        message = await receive()
        body.update(message.get("body", b""))
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    found = {"method": scope["method"], "length": length, "digest": body.hexdigest()}
    await answer(send, json.dumps(found).encode(), content_type="application/json")


async def test_the_gate_is_told_who_is_called_and_nothing_else(gateway: Site) -> None:
    async with replica(saying("awake")) as address:
        await gateway.route()
        asking = asyncio.create_task(gateway.get("/secret?token=1", authorization="Bearer 2", cookie="3"))
        arrival = await gateway.doorman.next()
        assert (arrival.service, arrival.revision) == (ServiceId("sv-notes"), RevisionId("rv-first"))
        arrival.release(address)
        found = await asking
    assert (found.status_code, found.text) == (200, "awake")


async def test_warm_requests_never_meet_the_gate(gateway: Site) -> None:
    async with replica(saying("awake")) as address:
        await gateway.route(address)
        async with gateway.client() as client:
            for _ in range(20):
                assert (await client.get("/")).status_code == 200
    assert gateway.doorman.asked == 0


async def test_a_burst_goes_on_together(gateway: Site) -> None:
    async with replica(saying("awake")) as address, gateway.client() as client:
        await gateway.route()
        asking = [asyncio.create_task(client.get("/")) for _ in range(60)]
        arrivals = [await gateway.doorman.next() for _ in asking]
        await gateway.endpoints_of(NOTES, address)
        for arrival in arrivals:
            arrival.release(address)
        found = [(one.status_code, one.text) for one in await asyncio.gather(*asking)]
    assert found == [(200, "awake")] * 60


@pytest.mark.parametrize("http2", [False, True])
async def test_large_uploads_are_held_in_little_memory(gateway: Site, http2: bool) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(LARGE // len(CHUNK)):
            sent += len(CHUNK)
            yield CHUNK

    before = memory_of(gateway.envoy_pid)
    uploads = 5
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(replica(digests))
        options = {"http1": not http2, "http2": http2}
        clients = [await stack.enter_async_context(gateway.client(**options)) for _ in range(uploads)]
        await gateway.route()
        asking = [asyncio.create_task(client.post("/", content=body())) for client in clients]
        arrivals = [await gateway.doorman.next() for _ in asking]
        await until(lambda: sent > uploads * 2 * len(CHUNK))
        for arrival in arrivals:
            arrival.release(address)
        answers = [one.json() for one in await asyncio.gather(*asking)]
    whole = hashlib.sha256(CHUNK * (LARGE // len(CHUNK))).hexdigest()
    assert answers == [{"method": "POST", "length": LARGE, "digest": whole}] * uploads
    assert memory_of(gateway.envoy_pid) - before < 50 * 2**20


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "DELETE", "OPTIONS"])
async def test_every_method(gateway: Site, method: str) -> None:
    async with replica(digests) as address, gateway.client() as client:
        await gateway.route()
        asking = asyncio.create_task(client.request(method, "/"))
        (await gateway.doorman.next()).release(address)
        found = await asking
    assert found.status_code == 200
    assert found.text == "" if method == "HEAD" else found.json()["method"] == method


async def test_http2_with_prior_knowledge(gateway: Site) -> None:
    async with replica(saying("awake")) as address, gateway.client(http1=False, http2=True) as client:
        await gateway.route()
        asking = [asyncio.create_task(client.get("/")) for _ in range(10)]
        for _ in asking:
            (await gateway.doorman.next()).release(address)
        found = await asyncio.gather(*asking)
    assert {(one.http_version, one.text) for one in found} == {("HTTP/2", "awake")}


async def test_server_sent_events(gateway: Site) -> None:
    ticks: asyncio.Queue[bytes] = asyncio.Queue()

    async def events(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while tick := await ticks.get():
            await send({"type": "http.response.body", "body": b"data: " + tick + b"\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with replica(events) as address, gateway.client() as client:
        await gateway.route()

        async def listen() -> list[str]:
            heard = []
            async with client.stream("GET", "/") as stream:
                ticks.put_nowait(b"1")
                async for line in stream.aiter_lines():
                    if line:
                        heard.append(line)
                        ticks.put_nowait(str(len(heard) + 1).encode() if len(heard) < 3 else b"")
            return heard

        listening = asyncio.create_task(listen())
        (await gateway.doorman.next()).release(address)
        assert await listening == ["data: 1", "data: 2", "data: 3"]


@pytest.mark.parametrize("asleep", [False, True])
async def test_websocket(gateway: Site, asleep: bool) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async with replica(echo) as address:
        gateway.doorman.lets_all_through_to = address
        await gateway.route(*[] if asleep else [address])
        url = f"ws://notes.localhost:{gateway.port}/room"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            for text in ("a", "b" * 100_000):
                await room.send(text)
                assert await room.recv() == text.upper()
    assert gateway.doorman.asked == int(asleep)


async def test_expect_100_continue(gateway: Site) -> None:
    async with replica(digests) as address:
        await gateway.route()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"POST / HTTP/1.1\r\nhost: notes.localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n"
            b"connection: close\r\n\r\n"
        )
        async with asyncio.timeout(DEADLINE):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            (await gateway.doorman.next()).release(address)
            said = await reader.read(-1)
        writer.close()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b'"length": 5' in said


# --- those who do not get through -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")]
)
async def test_what_the_gate_refuses_reaches_the_caller(gateway: Site, status: int, kind: str) -> None:
    await gateway.route()
    asking = asyncio.create_task(gateway.get())
    (await gateway.doorman.next()).refuse(status, "the_code", "The \u2018message\u2019.", timedelta(seconds=7))
    found = await asking
    assert found.status_code == status
    assert found.headers["content-type"] == "application/json"
    assert found.headers["retry-after"] == "7"
    error = found.json()["error"]
    assert (error["code"], error["message"]) == ("the_code", "The \u2018message\u2019.")
    assert error["type"] == ("server_error" if status == 404 else kind)
    assert gateway.doorman.asked == 1


async def test_a_caller_who_leaves_frees_the_wait(gateway: Site) -> None:
    await gateway.route()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: notes.localhost\r\n\r\n")
    arrival = await gateway.doorman.next()
    writer.close()
    await arrival.abandoned()


async def test_an_upload_that_is_given_up_frees_the_wait(gateway: Site) -> None:
    await gateway.route()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST / HTTP/1.1\r\nhost: notes.localhost\r\ncontent-length: 2000000000\r\n\r\n" + CHUNK)
    arrival = await gateway.doorman.next()
    writer.transport.abort()
    await arrival.abandoned()


async def test_an_http2_stream_that_is_reset_frees_its_wait_alone(gateway: Site) -> None:
    await gateway.route(protocol=Protocol.H2C)
    options = [("grpc.default_authority", "notes.localhost")]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel:
        call = channel.unary_unary("/Echo/Shout")
        leaving = call(b"", timeout=DEADLINE)
        left = await gateway.doorman.next()
        staying = asyncio.ensure_future(call(b"", timeout=DEADLINE))
        stayed = await gateway.doorman.next()
        leaving.cancel()
        await left.abandoned()
        stayed.refuse(429, "waking", "Not now.")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await staying
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


# --- the gate itself goes and comes -----------------------------------------------------------------------------------


async def test_holds_survive_a_gate_that_closes_and_opens_again(gateway: Site) -> None:
    async with replica(digests) as address, gateway.client() as client:
        await gateway.route()
        asking = [asyncio.create_task(client.post("/", content=CHUNK)) for _ in range(20)]
        cut = [await gateway.doorman.next() for _ in asking]
        gateway.doorman.close()
        for arrival in cut:
            await arrival.abandoned()
        late = [asyncio.create_task(client.post("/", content=CHUNK)) for _ in range(5)]
        await asyncio.sleep(0.5)  # a gate that stays closed for a while is what is tried
        await gateway.doorman.open()
        for _ in asking + late:
            (await gateway.doorman.next()).release(address)
        answers = await asyncio.gather(*asking, *late)
    assert {one.status_code for one in answers} == {200}
    assert {one.json()["length"] for one in answers} == {len(CHUNK)}


async def test_a_hold_is_asked_once_however_long_it_lasts(gateway: Site) -> None:
    """Longer than the connect timeout, and than any back-off between tries."""
    async with replica(saying("awake")) as address:
        await gateway.route()
        asking = asyncio.create_task(gateway.get())
        arrival = await gateway.doorman.next()
        await asyncio.sleep(2)  # the subject
        assert not arrival.answer.cancelled()
        assert gateway.doorman.asked == 1
        arrival.release(address)
        assert (await asking).text == "awake"


async def test_without_any_gate_the_caller_waits_for_one(gateway: Site) -> None:
    gateway.doorman.close()
    async with replica(saying("awake")) as address:
        await gateway.route()
        asking = asyncio.create_task(gateway.get())
        await until_async(gateway.holds_any)
        await gateway.doorman.open()
        (await gateway.doorman.next()).release(address)
        assert (await asking).text == "awake"


async def test_a_replica_that_always_refuses_ends_in_an_error_in_shape(gateway: Site) -> None:
    async with refusing() as dead:
        await gateway.route()
        gateway.doorman.lets_all_through_to = dead
        found = await gateway.get()
    assert found.status_code == 503
    assert found.json()["error"]["code"] == "unavailable"
    assert gateway.doorman.asked > 1


# --- waking and falling asleep under load -----------------------------------------------------------------------------


async def test_endpoints_come_and_go_without_a_failure(gateway: Site) -> None:
    async with replica(saying("awake")) as address, gateway.client() as client:
        gateway.doorman.lets_all_through_to = address
        await gateway.route(address)
        done = asyncio.Event()
        statuses: list[int] = []

        async def call() -> None:
            while not done.is_set():
                statuses.append((await client.get("/")).status_code)

        callers = [asyncio.create_task(call()) for _ in range(4)]
        for _ in range(15):
            await gateway.endpoints_of(NOTES, draining=(address,))
            await gateway.endpoints_of(NOTES)
            await gateway.endpoints_of(NOTES, address)
            served = len(statuses)
            await until(lambda served=served: len(statuses) > served + 4)  # type: ignore[misc]
        done.set()
        await asyncio.gather(*callers)
    assert set(statuses) == {200}
    assert gateway.doorman.asked > 0


async def test_streams_outlive_the_endpoint_that_is_taken_away(gateway: Site) -> None:
    slow = Slow()
    async with replica(slow) as address:
        await gateway.route(address)
        asking = asyncio.create_task(gateway.get())
        await until(lambda: slow.busy)
        await gateway.endpoints_of(NOTES)
        slow.go.set()
        assert (await asking).text == "begun done"
