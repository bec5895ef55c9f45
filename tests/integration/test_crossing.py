"""Requests between sites, with a real Envoy each: where they go, who is refused, what nobody forges."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import websockets
from certificate_files import Authority
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from real_gateway import Receive, Scope, Send, Slow, answer, headers_of, refusing, replica, saying
from several_sites import INSTALLATION, KEY, NOW, Installation, cluster, installation, joined, site_id
from site_runner import DEADLINE, until

from kasbah.decide.metering import meter
from kasbah.domain.crossing import spiffe_id
from kasbah.domain.ids import ProjectId
from kasbah.domain.revision import Protocol
from kasbah.domain.service import Access

pytestmark = pytest.mark.real

LARGE = 10 * 2**20


@pytest.fixture
async def three(tmp_path: Path, descriptors: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, descriptors) as made:
        yield made


async def mirror(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers with the request as the replica saw it, and pretends to be somewhere else."""
    seen = {"method": scope["method"], "path": scope["path"], "headers": headers_of(scope)}
    body = json.dumps(seen).encode()
    await answer(send, body, content_type="application/json", x_kasbah_site="moon", x_kasbah_decision="none")


def code(found: httpx.Response) -> tuple[int, str]:
    """An answer's status, and the code of the error in it."""
    assert found.headers["content-type"] == "application/json"
    error: dict[str, str] = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return found.status_code, error["code"]


# --- where requests go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_gateway_serves_every_service(three: Installation, method: str) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        for at in "abc":
            async with three.site(at).client() as client:
                found = await client.request(method, "/x?y=z", headers={"x-trace": "7", "x-request-id": f"id-{at}"})
            assert found.status_code == 200, found.text
            seen = found.json()
            assert (seen["method"], seen["path"]) == (method, "/x")
            assert seen["headers"]["host"] == "notes.localhost"
            assert (seen["headers"]["x-trace"], seen["headers"]["x-request-id"]) == ("7", f"id-{at}")
            assert seen["headers"]["x-forwarded-proto"] == "http"
            if at != "b":
                assert seen["headers"]["x-kasbah-entry"] == spiffe_id(INSTALLATION, site_id(at))
                assert len(seen["headers"]["x-forwarded-for"].split(",")) == 2


async def test_every_answer_says_where_it_was_given_and_by_which_decision(three: Installation) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b", access=Access.KEY)
        await three.replicas("b", "notes", address)
        (lane,) = three.desired("b").lanes
        good = {"authorization": f"Bearer {KEY}"}
        asked = [
            ("a", "notes", good, 200, "b", lane.id, ["b", "a"]),
            ("b", "notes", good, 200, "b", lane.id, ["b"]),
            ("a", "notes", {}, 401, "a", lane.id, ["a"]),
            ("a", "nobody", {}, 404, "a", None, ["a"]),
            ("b", "kasbah", {}, 503, "b", None, ["b"]),
        ]
        for at, name, headers, status, served, decision, passed in asked:
            async with three.site(at).client(name) as client:
                found = await client.get("/", headers=headers)
            assert found.status_code == status
            assert found.headers["x-kasbah-site"] == served
            assert found.headers.get("x-kasbah-decision") == decision
            assert len(found.headers["x-request-id"]) == 36
            timing = [one.split(";") for one in found.headers["server-timing"].split(", ")]
            assert [desc for _, desc, _ in timing] == [f'desc="{one}"' for one in passed]
            assert all(int(duration.removeprefix("dur=")) >= 0 for _, _, duration in timing)
            assert {one for one in found.headers if one.startswith(("x-kasbah-", "x-envoy-"))} <= {
                "x-kasbah-site",
                "x-kasbah-decision",
            }


async def test_a_key_is_asked_for_at_both_gateways_and_shown_to_no_replica(three: Installation) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b", access=Access.KEY)
        await three.replicas("b", "notes", address)
        assert code(await three.site("a").get(authorization="Bearer wrong")) == (401, "invalid_api_key")
        found = await three.site("a").get(authorization=f"Bearer {KEY}")
        assert found.status_code == 200
        assert KEY not in found.text
        assert found.json()["headers"]["x-kasbah-key"] == "ky-1"
        assert "x-kasbah-authorization" not in found.json()["headers"]
        other = replace(three.wanted("b").credentials[0], project=ProjectId("pr-other"))
        await three.site("b").keys(other)
        refused = await three.site("a").get(authorization=f"Bearer {KEY}")
        assert code(refused) == (403, "key_not_allowed"), "it is not the site that is refused"
        await three.site("b").keys()
        refused = await three.site("a").get(authorization=f"Bearer {KEY}")
        assert code(refused) == (401, "invalid_api_key")
        assert refused.headers["x-kasbah-site"] == "b"


async def test_a_public_service_gets_its_callers_own_credentials(three: Installation) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        found = await three.site("a").get(authorization="Bearer the-app-knows-it")
    assert found.json()["headers"]["authorization"] == "Bearer the-app-knows-it"


async def test_a_sleeping_service_is_woken_from_another_site(three: Installation) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes")
        asking = asyncio.create_task(three.site("a").get())
        arrival = await three.site("b").doorman.next()
        assert (arrival.service, arrival.revision) == ("sv-notes", "rv-first")
        arrival.release(address)
        found = await asking
    assert (found.status_code, found.headers["x-kasbah-site"]) == (200, "b")
    assert three.site("a").doorman.asked == 0


async def test_a_revision_answers_alone_at_every_site(three: Installation) -> None:
    async with replica(saying("first")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        found = await three.site("a").get(name="rv-first.notes")
    assert (found.status_code, found.text) == (200, "first")


# --- what is not a short answer ---------------------------------------------------------------------------------------


async def test_a_stream_crosses_as_it_is_written(three: Installation) -> None:
    slow = Slow()
    async with replica(slow) as address, three.site("a").client() as client:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        async with client.stream("GET", "/") as stream:
            parts = stream.aiter_bytes()
            assert await anext(parts) == b"begun "
            assert slow.busy == 1
            slow.go.set()
            assert b"".join([part async for part in parts]) == b"done"


@pytest.mark.parametrize("asleep", [False, True])
async def test_an_upload_crosses_whole(three: Installation, asleep: bool) -> None:
    async def digests(_scope: Scope, receive: Receive, send: Send) -> None:
        seen = hashlib.sha256()
        while (part := await receive()).get("more_body"):
            seen.update(part["body"])
        seen.update(part.get("body", b""))
        await answer(send, seen.hexdigest().encode())

    body = bytes(range(256)) * (LARGE // 256)
    async with replica(digests) as address, three.site("a").client() as client:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", *[] if asleep else [address])
        three.site("b").doorman.lets_all_through_to = address
        found = await client.post("/", content=body)
    assert found.text == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("asleep", [False, True])
async def test_a_websocket_crosses(three: Installation, asleep: bool) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})

    async with replica(echo) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", *[] if asleep else [address])
        three.site("b").doorman.lets_all_through_to = address
        url = f"ws://notes.localhost:{three.site('a').port}/room"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            for text in ("a", "b" * 100_000):
                await room.send(text)
                assert await room.recv() == text.upper()


async def test_grpc_crosses(three: Installation) -> None:
    async def shout(request: bytes, context: Any) -> bytes:
        if request == b"fail":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this")
        return request.upper()

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(shout)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"Shout": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    three.protocol = Protocol.H2C
    await three.place("notes", at="b")
    await three.replicas("b", "notes", f"127.0.0.1:{port}")
    options = [("grpc.default_authority", "notes.localhost")]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{three.site('a').port}", options=options) as channel:
        call = channel.unary_unary("/Echo/Shout")
        assert await call(b"hello", timeout=DEADLINE) == b"HELLO"
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"fail", timeout=DEADLINE)
        assert failed.value.details() == "not like this", "what comes after the answer crosses too"
    await server.stop(grace=None)


# --- the law ----------------------------------------------------------------------------------------------------------


async def test_where_requests_may_not_pass_the_host_is_not_known(three: Installation) -> None:
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b", through="bc")
        await three.replicas("b", "notes", address)
        assert code(await three.site("a").get()) == (404, "service_not_found")
        assert (await three.site("c").get()).text == "hello"


async def test_an_unlawful_site_is_never_chosen_though_it_alone_is_left(three: Installation) -> None:
    """It has the service still, and would serve whoever asks there: nobody sends anything."""
    async with replica(saying("b")) as b, replica(saying("c")) as c:
        await three.place("notes", at="bc", lawful="b")
        await three.replicas("b", "notes", b)
        assert (await three.site("a").get()).text == "b"
        await three.site("c").route(c)
        three.site("b").kill()
        await three.seen("a", "b", healthy=False)
        assert await three.healthy("a", "c")
        for method in ("GET", "POST"):
            async with three.site("a").client() as client:
                found = await client.request(method, "/")
            assert code(found) == (503, "no_lawful_site")
            assert (found.headers["retry-after"], found.headers["x-kasbah-site"]) == ("1", "a")


async def test_a_service_whose_sites_cannot_be_dialled_is_nowhere(three: Installation) -> None:
    await three.place("notes", at="b")
    three.undialled = frozenset("b")
    await three.tell()
    found = await three.site("a").get()
    assert code(found) == (503, "no_lawful_site")
    assert found.headers["retry-after"] == "1"


# --- another site refuses, or fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_site_cannot_start_goes_to_the_next(three: Installation, method: str) -> None:
    async with replica(saying("c")) as c, three.site("a").client() as client:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes")
        await three.replicas("c", "notes", c)
        asking = asyncio.create_task(client.request(method, "/", content=b"x" * 1_000))
        (await three.site("b").doorman.next()).refuse(503, "start_failed", "It does not start.")
        found = await asking
    assert (found.status_code, found.text) == (200, "c")
    assert "x-kasbah-refused" not in found.headers


async def test_what_no_site_can_start_is_told_in_the_words_of_the_last(three: Installation) -> None:
    await three.place("notes", at="b")
    asking = asyncio.create_task(three.site("a").get())
    (await three.site("b").doorman.next()).refuse(503, "start_failed", "It does not start.")
    found = await asking
    assert code(found) == (503, "start_failed")
    assert three.site("b").doorman.asked == 1, "where there is no other site, nobody asks again"
    assert "x-kasbah-refused" not in found.headers


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_site_that_has_it_no_more_is_passed_over(three: Installation, method: str) -> None:
    """The one that sends has not heard yet."""
    async with replica(saying("c")) as c, three.site("a").client() as client:
        await three.place("notes", at="bc")
        await three.replicas("c", "notes", c)
        await three.site("b").apply(three.bare("b"))
        found = await client.request(method, "/")
    assert (found.status_code, found.text) == (200, "c")


async def test_errors_of_a_service_are_its_own(three: Installation) -> None:
    asked = 0

    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await answer(send, b"<h1>mine</h1>", 503, content_type="text/html")

    async with replica(broken) as b, replica(saying("c")) as c:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", b)
        await three.replicas("c", "notes", c)
        for _ in range(10):
            found = await three.site("a").get()
            assert (found.status_code, found.text) == (503, "<h1>mine</h1>")
        assert await three.healthy("a", "b"), "what a service answers says nothing of its site"
    assert asked == 10


async def test_what_a_replica_may_have_had_is_not_sent_to_another_site(three: Installation) -> None:
    asked = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, replica(saying("c")) as c, three.site("a").client() as client:
        await three.place("notes", at="bc")
        await three.replicas("b", "notes", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await three.replicas("c", "notes", c)
        found = await client.post("/", content=b"x")
        assert code(found) == (503, "unavailable")
    assert asked == 1


async def test_a_replica_that_is_lost_becomes_a_hold_there(three: Installation) -> None:
    async with refusing() as dead, replica(saying("alive")) as alive:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", dead)
        asking = asyncio.create_task(three.site("a").get())
        (await three.site("b").doorman.next()).release(alive)
        assert (await asking).text == "alive"


# --- who may send -----------------------------------------------------------------------------------------------------


class Stranger:
    """Whoever dials a site's gateway where other sites do."""

    def __init__(self, three: Installation, folder: Path) -> None:
        self._three = three
        self._folder = folder

    async def ask(
        self, at: str, pair: tuple[bytes, bytes] | None, name: str = "notes", **headers: str
    ) -> httpx.Response:
        context = self._three.context(pair, self._folder)
        url = f"https://127.0.0.1:{self._three.peers_port(at)}/"
        sent = {"host": f"{name}.localhost", **{one.replace("_", "-"): value for one, value in headers.items()}}
        async with httpx.AsyncClient(
            http1=False, http2=True, verify=context, timeout=DEADLINE, trust_env=False
        ) as client:
            return await client.get(url, headers=sent)


@pytest.fixture
def stranger(three: Installation, tmp_path: Path) -> Stranger:
    return Stranger(three, tmp_path)


def pair_of(authority: Authority, site: str, installation: Any = INSTALLATION) -> tuple[bytes, bytes]:
    return authority.issue_site(spiffe_id(installation, site_id(site)))


async def test_who_is_no_site_of_this_installation_is_refused_as_it_greets(
    three: Installation, stranger: Stranger
) -> None:
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        assert (await stranger.ask("b", pair_of(three.authority, "a"))).text == "hello", "a site itself is served"
        refused = {
            "no certificate": None,
            "another authority": pair_of(Authority(NOW), "a"),
            "another installation": pair_of(three.authority, "a", "in-2"),
            "a site nobody was told of": pair_of(three.authority, "z"),
            "no site at all": three.authority.issue("a.example.org"),
            "this site itself": pair_of(three.authority, "b"),
        }
        for who, pair in refused.items():
            with pytest.raises((httpx.TransportError, OSError)):
                print(who, (await stranger.ask("b", pair)).text)


async def test_nothing_crosses_twice(three: Installation, stranger: Stranger) -> None:
    """A site serves to others what runs there, and knows no way on: not for its own callers' services either."""
    async with replica(saying("c")) as address:
        await three.place("notes", at="c")
        await three.replicas("c", "notes", address)
        assert (await three.site("b").get()).text == "c"
        for name in ("notes", "nobody", "kasbah", "peer:st-c"):
            found = await stranger.ask("b", pair_of(three.authority, "a"), name=name)
            assert code(found) == (503, "not_placed_here"), name
            assert found.headers["x-kasbah-retry"] == "unsent"


async def test_a_site_sends_only_what_may_pass_there(three: Installation, stranger: Stranger) -> None:
    async with replica(saying("hello")) as address:
        await three.place("open", at="b")
        await three.place("notes", at="b", through="bc")
        for name in ("open", "notes"):
            await three.replicas("b", name, address)
        a, c = pair_of(three.authority, "a"), pair_of(three.authority, "c")
        assert (await stranger.ask("b", a, name="open")).text == "hello"
        assert (await stranger.ask("b", c)).text == "hello"
        assert code(await stranger.ask("b", a)) == (403, "policy_denied")


async def test_a_site_that_is_known_no_more_is_refused_on_the_connection_that_it_has(three: Installation) -> None:
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        assert (await three.site("a").get()).text == "hello"
        three.unknown = frozenset("a")
        await three.site("b").apply(three.wanted("b"))
        assert (await three.site("a").get()).status_code in (403, 503)
        assert (await three.site("c").get()).text == "hello"


async def test_a_site_is_met_by_its_own_certificate_only(three: Installation) -> None:
    """One that stands where another should be is no such site, though the authority vouches for it."""
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        three.posing = {"b": "c"}
        await three.site("a").apply(three.wanted("a"))
        await three.seen("a", "b", healthy=False)
        assert code(await three.site("a").get()) == (503, "no_lawful_site")


async def test_a_site_whose_key_is_known_proves_itself_by_that_key(three: Installation) -> None:
    """Whatever the authority says of others: whoever has that is still no other site."""
    own = {at: fingerprint((three.site(at).paths.identity / "site.crt").read_bytes()) for at in "abc"}
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        three.pins = own
        await three.tell()
        assert (await three.site("a").get()).text == "hello"
        await joined(three.site("b"), three.authority, spiffe_id(INSTALLATION, site_id("b")))
        three.site("b").kill()
        await three.site("b").controller.envoy.ended()
        await three.site("b").controller.envoy.start()
        await three.site("b").controller.live()
        await three.seen("a", "b", healthy=False)
        assert code(await three.site("a").get()) == (503, "no_lawful_site")
        three.pins = {}
        await three.tell()
        await three.seen("a", "b", healthy=True)


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate's public key."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


FORGED = ("x-kasbah-key", "x-kasbah-entry", "x-kasbah-authorization", "x-kasbah-service", "x-kasbah-revision",
          "x-kasbah-upstream", "x-kasbah-replica", "x-kasbah-retry", "x-kasbah-hops", "x_kasbah_entry",
          "x-envoy-retry-on", "x-envoy-max-retries", "X-Kasbah-Entry")  # fmt: skip


async def test_what_callers_and_other_sites_say_in_our_name_is_dropped(three: Installation, stranger: Stranger) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b")
        await three.place("locked", at="b", access=Access.KEY)
        for name in ("notes", "locked"):
            await three.replicas("b", name, address)
        forged = dict.fromkeys(FORGED, "forged")
        async with three.site("a").client() as client:
            found = await client.get("/", headers=forged)
        assert found.status_code == 200
        assert "forged" not in found.text
        assert found.json()["headers"]["x-kasbah-entry"] == spiffe_id(INSTALLATION, site_id("a"))
        sent = await stranger.ask("b", pair_of(three.authority, "c"), **forged)
        assert "forged" not in sent.text
        assert sent.json()["headers"]["x-kasbah-entry"] == spiffe_id(INSTALLATION, site_id("c"))
        async with three.site("a").client("locked") as client:
            smuggled = await client.get("/", headers={"x-kasbah-authorization": f"Bearer {KEY}"})
        assert code(smuggled) == (401, "missing_api_key")


# --- what is counted, and renewed -------------------------------------------------------------------------------------


async def test_a_request_is_counted_once_where_it_is_served(three: Installation) -> None:
    async with replica(mirror) as address:
        await three.place("notes", at="b", access=Access.KEY)
        await three.replicas("b", "notes", address)
        for _ in range(3):
            assert (await three.site("a").get(authorization=f"Bearer {KEY}")).status_code == 200
        assert (await three.site("b").get(authorization=f"Bearer {KEY}")).status_code == 200
        logs = {at: three.site(at).paths.envoy / "access.log" for at in "ab"}
        await until(lambda: logs["a"].read_bytes().count(b"\n") >= 3 and logs["b"].read_bytes().count(b"\n") >= 4)
    there = meter(logs["b"].read_bytes().splitlines())
    assert {(key.service, key.revision, key.key): usage.requests for key, usage in there.usage.items()} == {
        ("sv-notes", "rv-first", "ky-1"): 4
    }
    assert sorted((key.site, count) for key, count in there.entries.items()) == [("", 1), ("st-a", 3)], (
        "and where it entered"
    )
    here = meter(logs["a"].read_bytes().splitlines())
    assert (here.usage, here.entries, here.unreadable) == ({}, {}, 0)
    assert there.unreadable == 0, "health checks are in no log"


async def test_identities_are_renewed_under_load(three: Installation) -> None:
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        stop = asyncio.Event()

        async def call() -> set[str]:
            answered = set()
            async with three.site("a").client() as client:
                while not stop.is_set():
                    answered.add((await client.get("/")).text)
            return answered

        callers = [asyncio.create_task(call()) for _ in range(5)]
        for _ in range(10):
            for at in "ab":
                await joined(three.site(at), three.authority, spiffe_id(INSTALLATION, site_id(at)))
        stop.set()
        assert [await one for one in callers] == [{"hello"}] * 5
        assert cluster("notes") == "sv-notes/rv-first"
