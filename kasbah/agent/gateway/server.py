"""The xDS server: delta ADS for the one Envoy of this site, over a Unix socket.

What always holds: versions are hashes of contents, so a reconnecting Envoy is sent only what changed; the whole state
is loaded before the socket opens, since to Envoy an empty server means "delete everything"; a configuration that Envoy
rejects is taken back whole and the last good one stays; a cluster goes only after the routes to it have gone, those of
an Envoy that comes back with what another agent told it included.

Endpoints are apart from the configuration: waking and falling asleep go on while a configuration is refused. So are
certificates, which come and are renewed while no service changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from kasbah.agent.gateway import protos
from kasbah.agent.gateway.translate import Kind, Resource, Resources

log = structlog.get_logger()

ORDER = (Kind.CLUSTER, Kind.ENDPOINTS, Kind.SECRET, Kind.LISTENER, Kind.ROUTES, Kind.FILTER)
"""What is sent first; removals of clusters come last, in a change of their own."""
CONFIGURATION = (Kind.CLUSTER, Kind.LISTENER, Kind.ROUTES, Kind.FILTER)
WILDCARD = (Kind.CLUSTER, Kind.LISTENER)
"""Types that Envoy subscribes to without naming resources."""
ANSWER_DEADLINE = 10.0
"""Seconds in which Envoy must have accepted a change; a busy machine needs milliseconds."""


class Rejected(Exception):
    """Envoy refused a configuration; the last good one is back in force."""


@dataclass(slots=True)
class _Subscription:
    """What one stream wants of one type, and what it has. `since` is the serial of the oldest change in `stale`."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    since: int = 0
    answer_due: bool = True

    def outdate(self, names: Iterable[str], serial: int) -> None:
        """These resources are not what was sent."""
        names = set(names)
        if names and not self.stale:
            self.since = serial
        self.stale |= names


@dataclass(frozen=True, slots=True)
class _Sent:
    """A response: the oldest and the newest change it may have brought."""

    kind: Kind
    oldest: int
    newest: int


@dataclass(slots=True, eq=False)
class _Stream:
    """One connection of Envoy's. `unanswered` holds responses by their nonce; `leaving` are clusters of before, which
    it is to lose once it has no routes there."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    subscriptions: dict[Kind, _Subscription] = field(default_factory=dict)
    unanswered: dict[str, _Sent] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    nonce: int = 0

    def touch(self, kind: Kind, names: Iterable[str], serial: int) -> None:
        """Some resources changed."""
        wanted = self.subscriptions.get(kind)
        if wanted is not None:
            wanted.outdate((name for name in names if wanted.wildcard or name in wanted.names), serial)
            self.wake.set()

    def send_again(self, kind: Kind, names: Iterable[str], serial: int) -> None:
        """Send these though they did not change: a cluster that changed starts over, and waits for its endpoints."""
        wanted = self.subscriptions.get(kind)
        if wanted is not None:
            known = [name for name in names if wanted.sent.pop(name, None) is not None]
            wanted.outdate(known, serial)


class XdsServer:
    """Serves one state to every stream; see the module."""

    def __init__(self) -> None:
        self.last_rejection: str = ""
        self._state: dict[Kind, dict[str, Resource]] = {kind: {} for kind in Kind}
        self._streams: set[_Stream] = set()
        self._serial = 0
        self._refusals: dict[Kind, tuple[_Sent, str]] = {}
        self._moved = asyncio.Event()
        self._lock = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether an Envoy listens."""
        return bool(self._streams)

    # --- what the agent calls -------------------------------------------------------------------------------------

    def load(
        self,
        configuration: Resources,
        endpoints: Mapping[str, Resource],
        certificates: Mapping[str, Resource] | None = None,
    ) -> None:
        """Set the first state, before the socket opens."""
        for kind, found in configuration.items():
            self._state[kind] = dict(found)
        self._state[Kind.ENDPOINTS] = dict(endpoints)
        self._state[Kind.SECRET] = dict(certificates or {})

    def knows(self, cluster: str) -> bool:
        """Whether it is known where this cluster's requests go."""
        return cluster in self._state[Kind.ENDPOINTS]

    def set_endpoints(self, cluster: str, endpoints: Resource | None) -> int:
        """Change where one cluster's requests go; answers the serial number to wait for with `settled`."""
        if endpoints is None:
            return self._change(Kind.ENDPOINTS, {}, [cluster])
        return self._change(Kind.ENDPOINTS, {cluster: endpoints}, [])

    async def apply(self, configuration: Resources) -> None:
        """Bring a configuration into force, whole: new clusters, then routes, then what is no longer used goes.

        Raises Rejected, with the last good configuration back in force, when Envoy refuses any part of it.
        """
        async with self._lock:
            before = {kind: dict(self._state[kind]) for kind in configuration}
            try:
                await self._step(configuration, (Kind.CLUSTER,))
                await self._step(configuration, (Kind.LISTENER, Kind.ROUTES, Kind.FILTER))
                await self._remove_unused(configuration)
            except Rejected as rejection:
                self.last_rejection = str(rejection)
                for kind, found in before.items():
                    self._change(kind, found, self._state[kind].keys() - found.keys())
                raise
            self.last_rejection = ""

    async def settled(self, serial: int, deadline: float = ANSWER_DEADLINE) -> None:
        """Wait until an Envoy listens and has accepted the endpoints with this serial number, whatever becomes of the
        configuration meanwhile. Raises Rejected or TimeoutError."""
        async with asyncio.timeout(deadline):
            while not any(Kind.ENDPOINTS in stream.subscriptions for stream in self._streams):
                moved = self._moved
                await moved.wait()
            await self._answered(serial, (Kind.ENDPOINTS,))

    async def set_certificates(self, found: Mapping[str, Resource]) -> None:
        """Renew or add certificates, by host. Raises Rejected, with the old ones back in force, when Envoy refuses one
        that it uses; of one that no listener names yet it says nothing until then (`refused_certificate`)."""
        async with self._lock:
            before = {host: one for host in found if (one := self._state[Kind.SECRET].get(host)) is not None}
            self._refusals.pop(Kind.SECRET, None)
            try:
                await self._settled_if_listening(self._change(Kind.SECRET, found, []), (Kind.SECRET,))
            except Rejected:
                self._change(Kind.SECRET, before, found.keys() - before.keys())
                raise

    def drop_certificates(self, keep: Container[str]) -> None:
        """Forget the certificates that no listener names any more."""
        self._change(Kind.SECRET, {}, [host for host in self._state[Kind.SECRET] if host not in keep])

    @property
    def refused_certificate(self) -> str:
        """Why Envoy refused the last certificate it was sent, empty where it did not."""
        return self._refusals[Kind.SECRET][1] if Kind.SECRET in self._refusals else ""

    # --- how a change travels -------------------------------------------------------------------------------------

    async def _step(self, configuration: Resources, kinds: tuple[Kind, ...]) -> None:
        for kind in CONFIGURATION:
            self._refusals.pop(kind, None)
        serial = self._serial
        for kind in kinds:
            serial = self._change(kind, configuration[kind], [])
        await self._settled_if_listening(serial)

    async def _remove_unused(self, configuration: Resources) -> None:
        serial = self._serial
        for kind, wanted in configuration.items():
            gone = self._state[kind].keys() - wanted.keys()
            if gone:
                serial = self._change(kind, {}, gone)
                if kind is Kind.CLUSTER:
                    serial = self._change(Kind.ENDPOINTS, {}, gone)
        await self._settled_if_listening(serial)

    async def _settled_if_listening(self, serial: int, kinds: tuple[Kind, ...] = CONFIGURATION) -> None:
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                await self._answered(serial, kinds)
        except TimeoutError:
            log.warning("the gateway has not confirmed a change", serial=serial)

    def _change(self, kind: Kind, found: Mapping[str, Resource], gone: Iterable[str]) -> int:
        current = self._state[kind]
        changed = {name for name, one in found.items() if current.get(name) != one}
        gone = {name for name in gone if name in current}
        if changed or gone:
            current.update({name: found[name] for name in changed})
            for name in gone:
                del current[name]
            self._serial += 1
            for stream in self._streams:
                stream.touch(kind, changed | gone, self._serial)
                if kind is Kind.CLUSTER:
                    stream.send_again(Kind.ENDPOINTS, changed, self._serial)
        return self._serial

    async def _answered(self, serial: int, kinds: tuple[Kind, ...]) -> None:
        """Wait until no stream owes an answer for what the serial number stands for. Raises Rejected."""
        while True:
            for sent, why in self._refusals.values():
                if sent.kind in kinds and sent.oldest <= serial <= sent.newest:
                    raise Rejected(why)
            if not any(self._owes(stream, serial, kinds) for stream in self._streams):
                return
            moved = self._moved
            await moved.wait()

    def _owes(self, stream: _Stream, serial: int, kinds: tuple[Kind, ...]) -> bool:
        """Whether this stream has still to answer, or to be sent, what the serial number stands for. Clusters are what
        an Envoy asks for first: one that has not yet will be sent them, and routes may not overtake them meanwhile."""
        if Kind.CLUSTER in kinds and Kind.CLUSTER not in stream.subscriptions:
            return True
        wanted = (stream.subscriptions[kind] for kind in kinds if kind in stream.subscriptions)
        pending = any(one.stale and one.since <= serial for one in wanted)
        return pending or any(one.kind in kinds and one.oldest <= serial for one in stream.unanswered.values())

    def _notify(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # --- the protocol ---------------------------------------------------------------------------------------------

    def handler(self) -> grpc.GenericRpcHandler:
        """The gRPC service."""
        request = protos.message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        method = grpc.stream_stream_rpc_method_handler(
            self._serve, request_deserializer=request.FromString, response_serializer=None
        )
        name = "envoy.service.discovery.v3.AggregatedDiscoveryService"
        return grpc.method_handlers_generic_handler(name, {"DeltaAggregatedResources": method})

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        stream = _Stream()
        self._streams.add(stream)
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while not reader.done():
                waiting = asyncio.create_task(stream.wake.wait())
                await asyncio.wait((waiting, reader), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                stream.wake.clear()
                for answer in self._answers(stream):
                    await context.write(answer)
                self._let_go(stream)
        finally:
            reader.cancel()
            self._streams.discard(stream)
            self._notify()

    async def _read(self, stream: _Stream, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            try:
                kind = Kind(request.type_url.removeprefix(protos.TYPE_PREFIX))
            except ValueError:
                log.warning("the gateway asks for a type nobody serves", type=request.type_url)
                continue
            self._take_answer(stream, kind, request)
            self._take_subscription(stream, kind, request)

    def _take_answer(self, stream: _Stream, kind: Kind, request: Any) -> None:
        sent = stream.unanswered.pop(request.response_nonce, None)
        if sent is not None and request.HasField("error_detail"):
            log.error("the gateway rejected a configuration", kind=kind, reason=request.error_detail.message)
            self._refusals[kind] = (sent, request.error_detail.message)
        if stream.leaving:
            stream.wake.set()
        self._notify()

    def _take_subscription(self, stream: _Stream, kind: Kind, request: Any) -> None:
        wanted = stream.subscriptions.get(kind)
        subscribed = set(request.resource_names_subscribe)
        if wanted is None:
            wanted = stream.subscriptions[kind] = _Subscription(wildcard=kind in WILDCARD and not subscribed)
            wanted.sent.update(request.initial_resource_versions)
            known = self._state[kind]
            if wanted.wildcard:
                if kind is Kind.CLUSTER:
                    stream.leaving = wanted.sent.keys() - known.keys()
                wanted.outdate((known.keys() | wanted.sent.keys()) - stream.leaving, self._serial)
        else:
            for name in subscribed:
                wanted.sent.pop(name, None)
        wanted.names |= subscribed - {"*"}
        wanted.outdate(subscribed - {"*"}, self._serial)
        for name in request.resource_names_unsubscribe:
            wanted.names.discard(name)
            wanted.sent.pop(name, None)
            wanted.stale.discard(name)
        if wanted.stale or wanted.answer_due or stream.leaving:
            stream.wake.set()

    def _let_go(self, stream: _Stream) -> None:
        """Have an Envoy that came with clusters of before lose them, once it has taken today's routes: until then it
        still sends requests there."""
        taken = Kind.ROUTES in stream.subscriptions and not self._owes(stream, self._serial, CONFIGURATION)
        if stream.leaving and taken and not self._refusals.keys() & {*CONFIGURATION}:
            stream.subscriptions[Kind.CLUSTER].outdate(stream.leaving, self._serial)
            stream.leaving = set()
            stream.wake.set()

    def _answers(self, stream: _Stream) -> list[bytes]:
        """What this stream has still to be sent, one response per type, in the order that breaks nothing."""
        answers = []
        for kind in ORDER:
            wanted = stream.subscriptions.get(kind)
            if wanted is None or not (wanted.stale or wanted.answer_due):
                continue
            stream.nonce += 1
            oldest = wanted.since if wanted.stale else self._serial
            answer = self._answer(kind, wanted, str(stream.nonce))
            if answer is not None:
                stream.unanswered[str(stream.nonce)] = _Sent(kind, oldest, self._serial)
                answers.append(answer)
        self._notify()
        return answers

    def _answer(self, kind: Kind, wanted: _Subscription, nonce: str) -> bytes | None:
        """The response that brings `wanted` up to date, None where there is nothing to say. The first request for all
        resources of a type is answered even when there are none: Envoy waits for it before it goes live."""
        response: Any = protos.message("envoy.service.discovery.v3.DeltaDiscoveryResponse")(
            type_url=protos.TYPE_PREFIX + kind, nonce=nonce
        )
        for name in sorted(wanted.stale):
            found = self._state[kind].get(name)
            if found is None:
                response.removed_resources.append(name)
                wanted.sent.pop(name, None)
            elif wanted.sent.get(name) != found.version:
                added = response.resources.add(name=name, version=found.version)
                added.resource.type_url = protos.TYPE_PREFIX + kind
                added.resource.value = found.body
                wanted.sent[name] = found.version
        wanted.stale.clear()
        must, wanted.answer_due = wanted.answer_due and wanted.wildcard, False
        if not (must or response.resources or response.removed_resources):
            return None
        body: bytes = response.SerializeToString()
        return body
