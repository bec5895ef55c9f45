"""What callers of a gateway with a real Envoy meet, while services are awake: answers, refusals, headers, limits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import httpx
import pytest
from real_gateway import (
    FIRST,
    PROJECT,
    Receive,
    Scope,
    Send,
    Site,
    Slow,
    answer,
    headers_of,
    refusing,
    replica,
    saying,
)
from site_runner import DEADLINE, until

from kasbah.agent.gateway import names, routes
from kasbah.domain.gateway import Credential
from kasbah.domain.ids import KeyId, ProjectId, RevisionId
from kasbah.domain.revision import Protocol

pytestmark = pytest.mark.real

NOTES = "sv-notes/rv-first"
SECOND = RevisionId("rv-second")


async def mirror(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers with the request as the replica saw it."""
    seen = {"method": scope["method"], "path": scope["path"], "headers": headers_of(scope)}
    await answer(send, json.dumps(seen).encode(), content_type="application/json", x_own="1")


def key(text: str, name: str, project: ProjectId | None = PROJECT) -> Credential:
    return Credential(key=KeyId(name), sha256=hashlib.sha256(text.encode()).hexdigest(), project=project)


def refusal(found: httpx.Response) -> dict[str, str]:
    """The error in an answer, which must have the shape that OpenAI's clients read."""
    assert found.headers["content-type"] == "application/json"
    error: dict[str, str] = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


# --- a request and its headers ----------------------------------------------------------------------------------------


async def test_a_request_reaches_a_replica(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.route(address)
        found = await gateway.get("/a/b?c=d", x_trace="7")
    assert found.status_code == 200
    assert (found.json()["method"], found.json()["path"]) == ("GET", "/a/b")
    headers = found.json()["headers"]
    assert headers["host"] == "notes.localhost"
    assert headers["x-trace"] == "7"
    assert headers["x-forwarded-proto"] == "http"
    assert headers[names.SERVICE_HEADER] == "sv-notes"


@pytest.mark.parametrize("asleep", [False, True])
async def test_headers_in_our_name_are_taken_from_callers(gateway: Site, asleep: bool) -> None:
    sent = [
        names.KEY_HEADER, names.SERVICE_HEADER, names.REVISION_HEADER, names.UPSTREAM_HEADER, names.REPLICA_HEADER,
        "x-kasbah-anything", "x-envoy-upstream-rq-timeout-ms", "x-envoy-max-retries", "x-envoy-original-path",
        "X-Envoy-Retry-On", "X-KASBAH-Hops",
    ]  # fmt: skip
    async with replica(mirror) as address:
        gateway.doorman.lets_all_through_to = address
        await gateway.route(*[] if asleep else [address])
        async with gateway.client() as client:
            found = await client.get("/", headers=dict.fromkeys(sent, "forged"))
    assert found.status_code == 200
    assert "forged" not in found.text
    assert gateway.doorman.asked == int(asleep)


async def test_headers_in_our_name_are_not_shown_to_callers(gateway: Site) -> None:
    async with replica(mirror) as address:
        gateway.doorman.lets_all_through_to = address
        await gateway.route(address)
        warm = await gateway.get()
        await gateway.endpoints_of(NOTES)
        cold = await gateway.get()
    for found in (warm, cold):
        assert found.headers["x-own"] == "1"
        ours = {name for name in found.headers if name.startswith(("x-kasbah-", "x-envoy-"))}
        assert ours == {names.SITE_HEADER}, "no decision was told of"


@pytest.mark.parametrize("asleep", [False, True])
async def test_headers_of_60_kb_pass(gateway: Site, asleep: bool) -> None:
    async with replica(mirror) as address:
        gateway.doorman.lets_all_through_to = address
        await gateway.route(*[] if asleep else [address])
        found = await gateway.get(cookie="c" * 60_000)
    assert found.status_code == 200
    assert len(found.json()["headers"]["cookie"]) == 60_000


async def test_headers_over_the_limit_are_refused(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.route(address)
        found = await gateway.get(cookie="c" * 97 * 1_024)
    assert found.status_code == 431
    assert "96 KiB" in refusal(found)["message"]


async def test_headers_over_the_limit_end_one_stream_of_http2(gateway: Site) -> None:
    """Envoy answers them with a reset; the other streams of the connection go on."""
    slow = Slow()
    async with replica(slow) as address, gateway.client(http1=False, http2=True) as client:
        await gateway.route(address)
        other = asyncio.create_task(client.get("/"))
        await until(lambda: slow.busy)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/", headers={"cookie": "c" * 97 * 1_024})
        slow.go.set()
        assert (await other).text == "begun done"


async def test_what_is_no_http_is_refused_in_shape(gateway: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"HELLO\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        said = await reader.read(-1)
    writer.close()
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "bad_request"


async def test_http_1_0_is_spoken(gateway: Site) -> None:
    """As nginx does by default to what is behind it."""
    async with replica(mirror) as address:
        await gateway.route(address)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET / HTTP/1.0\r\nhost: notes.localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            said = await reader.read(-1)
        writer.close()
    assert said.split(b" ", 2)[1] == b"200"


# --- who may call -----------------------------------------------------------------------------------------------------


async def test_keys(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.keys(key("k-all", "ky-all"), key("k-named", "ky-named", None), key("k-else", "ky-else", None))
        await gateway.route(address, public=False, allowed_keys=(KeyId("ky-named"),))

        without = await gateway.get()
        assert without.status_code == 401
        assert without.headers["www-authenticate"] == "Bearer"
        assert refusal(without)["code"] == "missing_api_key"

        for scheme in ("Basic k-all", "Bearer", "k-all", "Bearer k-all k-all"):
            refused = await gateway.get(authorization=scheme)
            assert (refused.status_code, refusal(refused)["code"]) == (401, "missing_api_key"), scheme

        for unknown in ("k", "K-ALL", "x" * 5_000, hashlib.sha256(b"k-all").hexdigest()):
            refused = await gateway.get(authorization=f"Bearer {unknown}")
            assert (refused.status_code, refusal(refused)["code"]) == (401, "invalid_api_key"), unknown

        other = await gateway.get(authorization="Bearer k-else")
        assert (other.status_code, refusal(other)["code"]) == (403, "key_not_allowed")

        for text, name in (("k-all", "ky-all"), ("k-named", "ky-named")):
            for scheme in ("Bearer", "bearer"):
                found = await gateway.get(authorization=f"{scheme} {text}")
                assert found.status_code == 200
                assert found.json()["headers"][names.KEY_HEADER] == name
                assert "authorization" not in found.json()["headers"]


async def test_a_key_of_another_project_opens_nothing(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.keys(key("k-other", "ky-other", ProjectId("pr-other")))
        await gateway.route(address, public=False)
        found = await gateway.get(authorization="Bearer k-other")
    assert (found.status_code, refusal(found)["code"]) == (403, "key_not_allowed")


async def test_keys_made_and_revoked_at_once(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.route(address, public=False)
        assert (await gateway.get(authorization="Bearer k-a")).status_code == 401
        await gateway.keys(key("k-a", "ky-a"))
        assert (await gateway.get(authorization="Bearer k-a")).status_code == 200
        await gateway.keys()
        assert (await gateway.get(authorization="Bearer k-a")).status_code == 401


async def test_without_a_key_nobody_wakes_anything(gateway: Site) -> None:
    await gateway.route(public=False)
    assert (await gateway.get()).status_code == 401
    assert gateway.doorman.asked == 0


async def test_a_public_service_gets_the_callers_own_credentials(gateway: Site) -> None:
    async with replica(mirror) as address:
        await gateway.route(address)
        found = await gateway.get(authorization="Bearer the-app-knows-it")
    assert found.json()["headers"]["authorization"] == "Bearer the-app-knows-it"


# --- what the gateway answers itself ----------------------------------------------------------------------------------


async def test_hosts(gateway: Site) -> None:
    async with replica(saying("notes")) as address:
        await gateway.route(address, hosts=("notes.localhost", "notes--default.localhost"))
        async with gateway.client() as client:
            for host in ("notes.localhost", "notes.localhost:8080", "NOTES.localhost", "notes--default.localhost"):
                assert (await client.get("/", headers={"host": host})).text == "notes", host
            for host in ("other.localhost", "notes.localhost.evil.example", "127.0.0.1", "sv-notes"):
                unknown = await client.get("/", headers={"host": host})
                assert (unknown.status_code, refusal(unknown)["code"]) == (404, "service_not_found"), host


async def test_paths_to_ignore_wake_nothing(gateway: Site) -> None:
    await gateway.route(ignored_paths=("/robots.txt", "/.well-known/"))
    for path in ("/robots.txt", "/.well-known/x"):
        found = await gateway.get(path)
        assert (found.status_code, refusal(found)["code"]) == (404, "ignored")
    assert gateway.doorman.asked == 0


async def test_a_service_without_a_revision_is_not_ready(gateway: Site) -> None:
    await gateway.route(shares=())
    found = await gateway.get()
    assert (found.status_code, refusal(found)["code"]) == (503, "not_ready")
    assert found.headers["retry-after"] == "2"


async def test_a_request_that_takes_too_long(gateway: Site) -> None:
    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    soon = timedelta(milliseconds=50)
    async with replica(never) as address:
        await gateway.route(address, request_deadline=soon, startup_deadline=soon)
        found = await gateway.get()
        assert (found.status_code, refusal(found)["code"]) == (504, "deadline_exceeded")
        await gateway.route(address, idle_deadline=soon, startup_deadline=soon)
        found = await gateway.get()
        assert (found.status_code, refusal(found)["code"]) == (504, "idle")


@asynccontextmanager
async def hanging_up() -> AsyncIterator[tuple[str, list[bytes]]]:
    """The address of a replica that ends as soon as it has a request, and the requests it had."""
    asked: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("through_the_gate", [False, True])
async def test_what_may_not_be_repeated_is_sent_once(gateway: Site, method: str, through_the_gate: bool) -> None:
    """The replica had it: sending it again might do it twice."""
    async with hanging_up() as (address, asked), gateway.client() as client:
        await gateway.route(*([] if through_the_gate else [address]))
        gateway.doorman.lets_all_through_to = address
        found = await client.request(method, "/")
    assert (found.status_code, refusal(found)["code"]) == (503, "unavailable")
    assert len(asked) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("through_the_gate", [False, True])
async def test_what_may_be_repeated_is_sent_to_another(gateway: Site, method: str, through_the_gate: bool) -> None:
    async with hanging_up() as (address, asked), replica(saying("well")) as other, gateway.client() as client:
        await gateway.route(*([] if through_the_gate else [address]))
        asking = asyncio.create_task(client.request(method, "/", content=b"x" * 1_000))
        if through_the_gate:
            (await gateway.doorman.next()).release(address)
        arrival = await gateway.doorman.next()
        await gateway.endpoints_of(NOTES, other)
        arrival.release(other)
        found = await asking
    assert (found.status_code, found.text) == (200, "well")
    assert "x-kasbah-retry" not in found.headers
    assert len(asked) == 1


async def test_what_ends_every_replica_is_not_repeated_for_ever(gateway: Site) -> None:
    async with hanging_up() as (address, asked):
        await gateway.route(address)
        gateway.doorman.lets_all_through_to = address
        found = await gateway.get()
    assert found.status_code == 503
    assert len(asked) == 1 + routes.REPEATED


async def test_errors_of_a_service_are_its_own(gateway: Site) -> None:
    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"<h1>mine</h1>", 503, content_type="text/html")

    async with replica(broken) as address:
        await gateway.route(address)
        found = await gateway.get()
    assert (found.status_code, found.text, found.headers["content-type"]) == (503, "<h1>mine</h1>", "text/html")
    assert "retry-after" not in found.headers


# --- where requests go ------------------------------------------------------------------------------------------------


async def test_a_replica_that_refuses_is_passed_over_for_the_gate(gateway: Site) -> None:
    async with refusing() as dead, replica(saying("alive")) as alive:
        await gateway.route(dead)
        asking = asyncio.create_task(gateway.get())
        (await gateway.doorman.next()).release(alive)
        found = await asking
    assert (found.status_code, found.text) == (200, "alive")


async def test_a_replica_that_died_after_the_gate_named_it(gateway: Site) -> None:
    async with refusing() as dead, replica(saying("alive")) as alive:
        await gateway.route()
        asking = asyncio.create_task(gateway.get())
        (await gateway.doorman.next()).release(dead)
        (await gateway.doorman.next()).release(alive)
        found = await asking
    assert (found.status_code, found.text) == (200, "alive")


async def test_replicas_share_requests(gateway: Site) -> None:
    async with replica(saying("a")) as a, replica(saying("b")) as b:
        await gateway.route(a, b)
        async with gateway.client() as client:
            answered = {(await client.get("/")).text for _ in range(50)}
    assert answered == {"a", "b"}


async def test_shares_between_revisions(gateway: Site) -> None:
    async with replica(saying("first")) as first, replica(mirror) as second:
        await gateway.route(first, shares=((FIRST, 50), (SECOND, 50)))
        await gateway.endpoints_of("sv-notes/rv-second", second)
        async with gateway.client() as client:
            answers = [await client.get("/") for _ in range(60)]
    seconds = [one.json() for one in answers if one.text != "first"]
    assert 0 < len(seconds) < 60
    assert {one["headers"][names.REVISION_HEADER] for one in seconds} == {SECOND}


async def test_grpc_to_a_replica_that_speaks_http2(gateway: Site) -> None:
    async def shout(request: bytes, _context: object) -> bytes:
        return request.upper()

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(shout)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"Shout": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.default_authority", "notes.localhost")]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel:
        call = channel.unary_unary("/Echo/Shout")
        await gateway.route(f"127.0.0.1:{port}", protocol=Protocol.H2C)
        assert await call(b"warm", timeout=DEADLINE) == b"WARM"
        await gateway.endpoints_of(NOTES)
        calling = asyncio.ensure_future(call(b"cold", timeout=DEADLINE))
        (await gateway.doorman.next()).release(f"127.0.0.1:{port}", names.WOKEN_H2C)
        assert await calling == b"COLD"
    await server.stop(None)


# --- what is in flight ------------------------------------------------------------------------------------------------


async def test_load_is_reported_while_it_is_there(gateway: Site) -> None:
    slow = Slow()
    async with replica(slow) as address:
        await gateway.route(address)
        asking = [asyncio.create_task(gateway.get()) for _ in range(3)]
        await gateway.report(lambda report: report.busy(NOTES, address) == 3)
        slow.go.set()
        await asyncio.gather(*asking)
        await gateway.report(lambda report: report.busy(NOTES, address) == 0)
    begun = [report.began(NOTES, address) for report in gateway.reports]
    assert sum(begun) == 3, "each request is told once"


async def test_short_requests_are_reported_though_they_are_gone(gateway: Site) -> None:
    async with replica(saying("quick")) as address:
        await gateway.route(address)
        async with gateway.client() as client:
            for _ in range(20):
                await client.get("/")
        await gateway.report(lambda _: sum(one.began(NOTES, address) for one in gateway.reports) == 20)


async def test_what_drains_is_reported_and_given_nothing(gateway: Site) -> None:
    slow = Slow()
    async with replica(slow) as old, replica(saying("new")) as new:
        await gateway.route(old)
        asking = asyncio.create_task(gateway.get())
        await gateway.report(lambda report: report.busy(NOTES, old) == 1)
        await gateway.endpoints_of(NOTES, new, draining=(old,))
        async with gateway.client() as client:
            assert {(await client.get("/")).text for _ in range(20)} == {"new"}
        after = await gateway.report(lambda report: report.number > gateway.controller.last_report.number - 1)
        assert after.busy(NOTES, old) == 1
        slow.go.set()
        assert (await asking).text == "begun done"
        await gateway.report(lambda report: report.busy(NOTES, old) == 0)


async def test_a_service_whose_replicas_all_drain_holds_at_the_gate(gateway: Site) -> None:
    async with replica(saying("here")) as address:
        await gateway.route(address)
        await gateway.endpoints_of(NOTES, draining=(address,))
        asking = asyncio.create_task(gateway.get())
        (await gateway.doorman.next()).release(address)
        assert (await asking).text == "here"


async def test_what_came_through_the_gate_is_reported(gateway: Site) -> None:
    """A stream that began while its service woke is in flight like any other."""
    slow = Slow()
    async with replica(slow) as address:
        await gateway.route()
        asking = asyncio.create_task(gateway.get())
        arrival = await gateway.doorman.next()
        await gateway.endpoints_of(NOTES, address)
        held = await gateway.report(lambda report: report.through_gate.get(NOTES, 0) == 1)
        assert held.direct(NOTES, address) == 0
        arrival.release(address)
        await until(lambda: slow.busy)
        await gateway.endpoints_of(NOTES, draining=(address,))
        for _ in range(3):
            assert (await gateway.report(lambda _: True)).busy(NOTES, address) == 1
        slow.go.set()
        assert (await asking).text == "begun done"
        await gateway.report(lambda report: report.busy(NOTES, address) == 0)


async def test_a_hard_limit_is_kept_and_its_load_reported(gateway: Site) -> None:
    """Its replicas are named as draining, so that all requests pass the gate; the first to a replica goes alone."""
    slow = Slow()
    async with replica(slow) as address:
        await gateway.route(max_per_replica=2)
        await gateway.endpoints_of(NOTES, draining=(address,))
        asking = [asyncio.create_task(gateway.get()) for _ in range(6)]
        first, *others = [await gateway.doorman.next() for _ in asking]
        first.release(address, names.LIMITED + NOTES)
        await until(lambda: slow.busy == 1)
        for arrival in others:
            arrival.release(address, names.LIMITED + NOTES)
        await until(lambda: slow.busy == 2)
        await gateway.report(lambda report: report.busy(NOTES, address) == 6)
        assert slow.busy == 2
        slow.go.set()
        assert {(await one).status_code for one in asking} == {200}
        await gateway.report(lambda report: report.busy(NOTES, address) == 0)
