"""The xDS server as Envoy's protocol sees it, by a client that answers what the test says: order, acknowledgement,
refusal, reconnection. `test_gateway_process.py` has a real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from site_runner import DEADLINE

from kasbah.agent.gateway import protos
from kasbah.agent.gateway.server import Rejected, XdsServer
from kasbah.agent.gateway.translate import Kind, Resource, Resources

pytestmark = pytest.mark.real

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
EMPTY: dict[Kind, dict[str, Resource]] = {kind: {} for kind in Kind if kind is not Kind.ENDPOINTS}


def made(name: str, version: str = "1") -> Resource:
    return Resource(version=version, body=f"{name} {version}".encode())


def configuration(
    clusters: tuple[str, ...] = (), *, routes: str = "1", listener: str = "1", version: str = "1"
) -> Resources:
    return {
        Kind.CLUSTER: {name: made(name, version) for name in clusters},
        Kind.LISTENER: {"gateway": made("gateway", listener)},
        Kind.ROUTES: {"services": made("services", routes)},
        Kind.FILTER: {"keys": made("keys")},
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server sent, once: the resources of one type."""

    kind: Kind
    nonce: str
    sent: Mapping[str, str]
    removed: tuple[str, ...]


@dataclass(eq=False)
class Client:
    """One stream to the server."""

    call: Any
    nonces: list[str] = field(default_factory=list)

    async def subscribe(self, kind: Kind, *names: str, has: Mapping[str, str] | None = None) -> None:
        await self._write(kind, resource_names_subscribe=names, initial_resource_versions=has or {})

    async def unsubscribe(self, kind: Kind, *names: str) -> None:
        await self._write(kind, resource_names_unsubscribe=names)

    async def accept(self, answer: Answer) -> None:
        await self._write(answer.kind, response_nonce=answer.nonce)

    async def reject(self, answer: Answer, why: str) -> None:
        await self._write(answer.kind, response_nonce=answer.nonce, error_detail={"message": why})

    async def hear(self) -> Answer:
        """What the server says next."""
        async with asyncio.timeout(DEADLINE):
            said = await self.call.read()
        assert said is not grpc.aio.EOF
        return Answer(
            kind=Kind(said.type_url.removeprefix(protos.TYPE_PREFIX)),
            nonce=said.nonce,
            sent={one.name: one.version for one in said.resources},
            removed=tuple(said.removed_resources),
        )

    async def take(self) -> Answer:
        """Hear and accept."""
        answer = await self.hear()
        await self.accept(answer)
        return answer

    async def hears_nothing(self) -> None:
        """Nothing was on its way: what is asked for now is what comes next."""
        await self.subscribe(Kind.ENDPOINTS, "nobody")
        assert "nobody" in (await self.take()).removed

    async def _write(self, kind: Kind, **fields: Any) -> None:
        request = protos.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        await self.call.write(request(type_url=protos.TYPE_PREFIX + kind, **fields))


@dataclass
class Served:
    """A server on its socket."""

    xds: XdsServer
    channel: grpc.aio.Channel

    async def connect(self) -> Client:
        request = protos.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        response = protos.message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        method = self.channel.stream_stream(
            METHOD, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return Client(method())

    async def live(self) -> Client:
        """A client that has everything."""
        client = await self.connect()
        for kind, names in (
            (Kind.CLUSTER, ()),
            (Kind.LISTENER, ()),
            (Kind.ROUTES, ("services",)),
            (Kind.FILTER, ("keys",)),
        ):
            await client.subscribe(kind, *names)
            await client.take()
        return client


@pytest.fixture
async def served(tmp_path_factory: pytest.TempPathFactory, descriptors: Path) -> AsyncIterator[Served]:
    xds = XdsServer()
    xds.load(configuration(("a", "b")), {"a": made("a"), "b": made("b")})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((xds.handler(),))
    socket = tmp_path_factory.mktemp("x") / "xds.sock"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        yield Served(xds, channel)
    await server.stop(None)


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_everything_to_a_new_envoy(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.CLUSTER)
    assert (await client.take()).sent == {"a": "1", "b": "1"}
    await client.subscribe(Kind.ENDPOINTS, "a", "b")
    assert (await client.take()).sent == {"a": "1", "b": "1"}
    await client.subscribe(Kind.ROUTES, "services")
    assert (await client.take()).sent == {"services": "1"}
    await client.hears_nothing()


async def test_the_first_wildcard_request_is_answered_though_there_is_nothing(served: Served) -> None:
    """Envoy waits for it before it opens its listeners."""
    served.xds.load(EMPTY, {})
    client = await served.connect()
    for kind in (Kind.CLUSTER, Kind.LISTENER):
        await client.subscribe(kind)
        answer = await client.take()
        assert (answer.kind, answer.sent, answer.removed) == (kind, {}, ())
    await client.hears_nothing()


async def test_a_reconnecting_envoy_is_sent_only_what_changed(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.CLUSTER, has={"a": "1", "b": "0", "gone": "1"})
    answer = await client.take()
    assert (answer.sent, answer.removed) == ({"b": "1"}, ())
    await client.subscribe(Kind.ENDPOINTS, "a", "b", "gone", has={"a": "1", "b": "1", "gone": "1"})
    answer = await client.take()
    assert (answer.sent, answer.removed) == ({}, ("gone",))
    await client.subscribe(Kind.LISTENER, has={"gateway": "1"})
    assert (await client.take()).sent == {}, "the first wildcard request is answered"
    await client.subscribe(Kind.ROUTES, "services", has={"services": "1"})
    answer = await client.take()
    assert (answer.kind, answer.sent, answer.removed) == (Kind.CLUSTER, {}, ("gone",))
    await client.hears_nothing()


async def test_only_what_is_subscribed_to(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a")
    await client.take()
    served.xds.set_endpoints("b", made("b", "2"))
    served.xds.set_endpoints("a", made("a", "2"))
    assert (await client.take()).sent == {"a": "2"}
    await client.unsubscribe(Kind.ENDPOINTS, "a")
    await client.subscribe(Kind.ENDPOINTS, "b")
    assert (await client.take()).sent == {"b": "2"}
    served.xds.set_endpoints("a", made("a", "3"))
    await client.hears_nothing()


async def test_what_is_asked_for_again_is_sent_again(served: Served) -> None:
    client = await served.connect()
    for _ in range(2):
        await client.subscribe(Kind.ENDPOINTS, "a")
        assert (await client.take()).sent == {"a": "1"}


async def test_changes_that_come_together_are_sent_together(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.ENDPOINTS, "a", "b")
    await client.take()
    for version in ("2", "3", "4"):
        served.xds.set_endpoints("a", made("a", version))
    served.xds.set_endpoints("b", made("b", "2"))
    assert (await client.take()).sent == {"a": "4", "b": "2"}
    await client.hears_nothing()


async def test_what_did_not_change_is_not_sent(served: Served) -> None:
    client = await served.live()
    await served.xds.apply(configuration(("a", "b")))
    served.xds.set_endpoints("a", made("a"))
    await client.hears_nothing()


async def test_a_type_nobody_serves_is_passed_over(served: Served) -> None:
    client = await served.connect()
    request = protos.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
    await client.call.write(request(type_url="type.googleapis.com/envoy.config.core.v3.Node"))
    await client.subscribe(Kind.CLUSTER)
    assert (await client.take()).kind is Kind.CLUSTER


# --- in which order ---------------------------------------------------------------------------------------------------


async def test_a_cluster_comes_before_its_route_and_goes_after_it(served: Served) -> None:
    client = await served.live()
    applying = asyncio.create_task(served.xds.apply(configuration(("b", "c"), routes="2")))
    added = await client.hear()
    assert (added.kind, added.sent, added.removed) == (Kind.CLUSTER, {"c": "1"}, ())
    await client.hears_nothing()
    await client.accept(added)
    moved = await client.hear()
    assert (moved.kind, moved.sent) == (Kind.ROUTES, {"services": "2"})
    assert not applying.done()
    await client.accept(moved)
    removed = await client.take()
    assert (removed.kind, removed.sent, removed.removed) == (Kind.CLUSTER, {}, ("a",))
    await applying


async def test_a_cluster_of_before_goes_after_the_routes_of_before(served: Served) -> None:
    """A reconnecting Envoy still sends requests to what another agent told it of."""
    client = await served.connect()
    await client.subscribe(Kind.CLUSTER, has={"gone": "1"})
    await client.subscribe(Kind.LISTENER, has={"gateway": "1"})
    await client.subscribe(Kind.ROUTES, "services", has={"services": "0"})
    found = [await client.hear() for _ in range(3)]
    assert [(one.kind, one.removed) for one in found] == [
        (kind, ()) for kind in (Kind.CLUSTER, Kind.LISTENER, Kind.ROUTES)
    ]
    for one in found:
        await client.hears_nothing()
        await client.accept(one)
    answer = await client.take()
    assert (answer.kind, answer.sent, answer.removed) == (Kind.CLUSTER, {}, ("gone",))
    await client.hears_nothing()


async def test_nor_does_it_go_while_the_new_routes_are_refused(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.CLUSTER, has={"gone": "1"})
    await client.take()
    await client.subscribe(Kind.LISTENER, has={"gateway": "1"})
    await client.take()
    await client.subscribe(Kind.ROUTES, "services", has={"services": "0"})
    await client.reject(await client.hear(), "no")
    await client.hears_nothing()
    applying = asyncio.create_task(served.xds.apply(configuration(("a", "b"), routes="2")))
    assert (await client.take()).sent == {"services": "2"}
    assert (await client.take()).removed == ("gone",)
    await applying


async def test_an_envoy_that_has_asked_for_nothing_yet_gets_clusters_before_routes_too(served: Served) -> None:
    served.xds.load(configuration(), {})
    client = await served.connect()
    await client.subscribe(Kind.ENDPOINTS, "a")
    assert (await client.take()).kind is Kind.ENDPOINTS
    applying = asyncio.create_task(served.xds.apply(configuration(("a",), routes="2")))
    await client.subscribe(Kind.ROUTES, "services")
    assert (await client.take()).sent == {"services": "1"}
    await client.subscribe(Kind.CLUSTER)
    assert (await client.take()).sent == {"a": "1"}
    assert (await client.take()).sent == {"services": "2"}
    await applying


async def test_endpoints_go_with_their_cluster(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a", "b")
    await client.take()
    applying = asyncio.create_task(served.xds.apply(configuration(("b",))))
    gone = [await client.take(), await client.take()]
    assert {(one.kind, one.removed) for one in gone} == {(Kind.CLUSTER, ("a",)), (Kind.ENDPOINTS, ("a",))}
    await applying
    assert not served.xds.knows("a")


async def test_a_cluster_that_changed_is_sent_its_endpoints_again(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a", "b")
    await client.take()
    changed = configuration(("a", "b"))
    applying = asyncio.create_task(
        served.xds.apply({**changed, Kind.CLUSTER: {**changed[Kind.CLUSTER], "a": made("a", "2")}})
    )
    assert (await client.take()).sent == {"a": "2"}
    again = await client.take()
    assert (again.kind, again.sent) == (Kind.ENDPOINTS, {"a": "1"})
    await applying


# --- acknowledged or refused ------------------------------------------------------------------------------------------


async def test_settled_waits_for_the_acknowledgement(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.ENDPOINTS, "a")
    await client.take()
    settling = asyncio.create_task(served.xds.settled(served.xds.set_endpoints("a", made("a", "2"))))
    answer = await client.hear()
    await client.hears_nothing()
    assert not settling.done()
    await client.accept(answer)
    await settling


async def test_settled_has_a_deadline(served: Served) -> None:
    client = await served.connect()
    await client.subscribe(Kind.ENDPOINTS, "a")
    await client.take()
    with pytest.raises(TimeoutError):
        await served.xds.settled(served.xds.set_endpoints("a", made("a", "2")), deadline=0.01)


async def test_without_an_envoy_configurations_apply_and_endpoints_do_not_settle(served: Served) -> None:
    serial = served.xds.set_endpoints("a", made("a", "2"))
    with pytest.raises(TimeoutError):
        await served.xds.settled(serial, deadline=0.01)
    await served.xds.apply(configuration(("a",)))
    assert not served.xds.connected
    settling = asyncio.create_task(served.xds.settled(serial))
    client = await served.live()
    assert not settling.done()
    await client.subscribe(Kind.ENDPOINTS, "a")
    assert (await client.take()).sent == {"a": "2"}
    await settling


async def test_an_envoy_that_leaves_is_waited_for_no_longer(served: Served) -> None:
    client = await served.live()
    applying = asyncio.create_task(served.xds.apply(configuration(("a", "b", "c"))))
    await client.hear()
    assert served.xds.connected
    client.call.cancel()
    await applying


async def test_a_refused_configuration_is_taken_back_whole(served: Served) -> None:
    client = await served.live()
    applying = asyncio.create_task(served.xds.apply(configuration(("a", "b", "c"), routes="2", listener="2")))
    assert (await client.take()).sent == {"c": "1"}
    listener = await client.hear()
    routes = await client.hear()
    assert (listener.kind, routes.kind) == (Kind.LISTENER, Kind.ROUTES)
    await client.accept(listener)
    await client.reject(routes, "no such thing")
    with pytest.raises(Rejected, match="no such thing"):
        await applying
    back = [await client.take() for _ in range(3)]
    assert [(one.kind, one.sent, one.removed) for one in back] == [
        (Kind.CLUSTER, {}, ("c",)),
        (Kind.LISTENER, {"gateway": "1"}, ()),
        (Kind.ROUTES, {"services": "1"}, ()),
    ]
    assert served.xds.last_rejection == "no such thing"

    later = asyncio.create_task(served.xds.apply(configuration(("a", "b"), routes="3")))
    assert (await client.take()).sent == {"services": "3"}
    await later
    assert served.xds.last_rejection == ""


async def test_endpoints_settle_while_a_configuration_is_refused(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a")
    await client.take()
    applying = asyncio.create_task(served.xds.apply(configuration(("a", "b", "c"), routes="2")))
    added = await client.hear()
    serial = served.xds.set_endpoints("a", made("a", "2"))
    settling = asyncio.create_task(served.xds.settled(serial))
    moved = await client.hear()
    await client.accept(added)
    await client.reject(await client.hear(), "no such thing")
    with pytest.raises(Rejected):
        await applying
    assert not settling.done()
    await client.accept(moved)
    await settling
    await served.xds.settled(serial)
    assert [(await client.take()).kind for _ in range(2)] == [Kind.CLUSTER, Kind.ROUTES]

    after = asyncio.create_task(served.xds.settled(served.xds.set_endpoints("a", made("a", "3"))))
    assert (await client.take()).sent == {"a": "3"}
    await after


async def test_a_configuration_does_not_wait_for_endpoints(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a")
    await client.take()
    served.xds.set_endpoints("a", made("a", "2"))
    assert (await client.hear()).kind is Kind.ENDPOINTS
    applying = asyncio.create_task(served.xds.apply(configuration(("a", "b"), routes="2")))
    assert (await client.take()).kind is Kind.ROUTES
    await applying


async def test_refused_endpoints_are_told_to_who_waits_for_them(served: Served) -> None:
    client = await served.live()
    await client.subscribe(Kind.ENDPOINTS, "a", "b")
    await client.take()
    good = served.xds.set_endpoints("a", made("a", "2"))
    await client.take()
    bad = served.xds.set_endpoints("b", made("b", "2"))
    await client.reject(await client.hear(), "no address")
    with pytest.raises(Rejected, match="no address"):
        await served.xds.settled(bad)
    await served.xds.settled(good)


async def test_one_configuration_at_a_time(served: Served) -> None:
    client = await served.live()
    first = asyncio.create_task(served.xds.apply(configuration(("a", "b"), routes="2")))
    answer = await client.hear()
    second = asyncio.create_task(served.xds.apply(configuration(("a", "b"), routes="3")))
    await client.hears_nothing()
    await client.accept(answer)
    assert (await client.take()).sent == {"services": "3"}
    await asyncio.gather(first, second)
