"""Between sites, with a real Envoy each: what has ended is not used on connections that are open already either."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import websockets
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived
from real_gateway import Receive, Scope, Send, replica, saying
from several_sites import INSTALLATION, Installation, installation, site_id
from site_runner import DEADLINE, until

from kasbah.domain.crossing import spiffe_id

pytestmark = pytest.mark.real

LIFE = timedelta(seconds=3)


@pytest.fixture
async def three(tmp_path: Path, descriptors: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, descriptors) as made:
        yield made


async def louder(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_stream_ends_where_it_may_not_pass_any_more(three: Installation, who: str) -> None:
    """At whichever of the two sites that is known first."""
    async with replica(louder) as address:
        await ends_by_law(three, address, who)


async def test_a_stream_that_may_go_on_is_touched_by_no_other_change(three: Installation) -> None:
    async with replica(louder) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        url = f"ws://notes.localhost:{three.site('a').port}/"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            await three.place("notes", at="bc")
            await three.place("other", at="c")
            await room.send("hello")
            assert await room.recv() == "HELLO"


def ask(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[str, ssl.SSLSession | None]:
    """The status of an answer over a connection that takes up this greeting, and what another may take up.
    Raises OSError where the connection is refused."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    with context.wrap_socket(plain, session=session) as secure:
        spoken = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        spoken.initiate_connection()
        asked = {":method": "GET", ":path": "/", ":scheme": "https", ":authority": "notes.localhost"}
        spoken.send_headers(1, list(asked.items()), end_stream=True)
        secure.sendall(spoken.data_to_send())
        while heard := secure.recv(65_536):
            for event in spoken.receive_data(heard):
                if isinstance(event, ResponseReceived):
                    return str(dict(event.headers)[":status"]), secure.session
    raise ConnectionResetError("the connection was closed without an answer")


async def test_a_certificate_that_ran_out_opens_nothing_by_an_earlier_greeting_either(
    three: Installation, tmp_path: Path
) -> None:
    async with replica(saying("hello")) as address:
        await three.place("notes", at="b")
        await three.replicas("b", "notes", address)
        ends = datetime.now(UTC) + LIFE  # noqa: TID251  TLS goes by the machine's clock
        three.authority.now = ends - timedelta(days=80)
        context = three.context(three.authority.issue_site(spiffe_id(INSTALLATION, site_id("a"))), tmp_path)
        port = three.peers_port("b")
        status, session = await asyncio.to_thread(ask, port, context, None)
        assert status == "200"
        await until(lambda: datetime.now(UTC) > ends)  # noqa: TID251
        for earlier in (None, session):
            with pytest.raises(OSError):  # noqa: PT011  however the line breaks
                print(await asyncio.to_thread(ask, port, context, earlier))


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_stream_through_a_tunnel_ends_too_and_the_tunnel_is_made_again(
    tmp_path: Path, descriptors: Path, who: str
) -> None:
    async with installation(tmp_path, descriptors, tunnels="b") as three, replica(louder) as address:
        await ends_by_law(three, address, who)
        await three.tell()
        await three.all_met()
        url = f"ws://notes.localhost:{three.site('c').port}/"
        async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
            await room.send("hello")
            assert await room.recv() == "HELLO"


async def ends_by_law(three: Installation, address: str, who: str) -> None:
    """A stream from a to b ends once `who` of them is told that it may not pass at a any more."""
    await three.place("notes", at="b")
    await three.replicas("b", "notes", address)
    url = f"ws://notes.localhost:{three.site('a').port}/"
    async with websockets.connect(url, host="127.0.0.1", proxy=None) as room:
        await room.send("hello")
        assert await room.recv() == "HELLO"
        three.placed["notes"] = replace(three.placed["notes"], through=frozenset("bc"))
        three.cut = "1.2"
        await three.site(who).apply(three.wanted(who))
        async with asyncio.timeout(DEADLINE):
            await room.wait_closed()
