"""What is in flight, as Envoy reports it: pushed, exact, per replica (LRS).

Only clusters that are awake are asked for, so that thousands of sleeping services cost nothing. A replica taken out of
its cluster vanishes from the reports, streams and all: to see it empty it must be marked draining and kept.

What reached a replica through the gate is reported at the cold listener, which is an endpoint of every cluster: Envoy
reports nothing of the clusters behind it, whose hosts (ORIGINAL_DST) are in no locality.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from kasbah.agent.gateway import protos


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """One report. `in_flight` and `issued` (since the report before) are what the gateway sent to replicas itself, by
    cluster and address. `through_gate`, by cluster, is what went to the cold listener and has not ended: requests that
    wait at the gate, and those on a replica that the gate named; on which one is not told."""

    number: int
    in_flight: dict[tuple[str, str], int]
    issued: dict[tuple[str, str], int]
    through_gate: dict[str, int]

    def direct(self, cluster: str, address: str) -> int:
        """Requests in flight on a replica that the gateway sent there itself."""
        return self.in_flight.get((cluster, address), 0)

    def busy(self, cluster: str, address: str) -> int:
        """The most that can be in flight on a replica: zero means that it has nothing."""
        return self.direct(cluster, address) + self.through_gate.get(cluster, 0)

    def began(self, cluster: str, address: str) -> int:
        """Requests that the gateway itself began on a replica since the report before."""
        return self.issued.get((cluster, address), 0)


EMPTY = LoadReport(number=0, in_flight={}, issued={}, through_gate={})


RESTING = timedelta(seconds=1)
"""The interval while nothing is awake."""


class LoadReports:
    """Receives the reports and calls `on_report` with each."""

    def __init__(self, interval: timedelta, on_report: Callable[[LoadReport], None]) -> None:
        self.last = EMPTY
        self._interval = interval
        self._on_report = on_report
        self._clusters: frozenset[str] = frozenset()
        self._changed: set[asyncio.Event] = set()
        self._arrived = asyncio.Event()

    def ask_for(self, clusters: frozenset[str]) -> None:
        """Ask for these clusters from now on."""
        if clusters != self._clusters:
            self._clusters = clusters
            for event in self._changed:
                event.set()

    async def after(self, number: int) -> LoadReport:
        """The first report with a greater number."""
        while self.last.number <= number:
            arrived = self._arrived
            await arrived.wait()
        return self.last

    def handler(self) -> grpc.GenericRpcHandler:
        """The gRPC service."""
        request = protos.message("envoy.service.load_stats.v3.LoadStatsRequest")
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=request.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        name = "envoy.service.load_stats.v3.LoadReportingService"
        return grpc.method_handlers_generic_handler(name, {"StreamLoadStats": method})

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        changed = asyncio.Event()
        changed.set()
        self._changed.add(changed)
        reader = asyncio.create_task(self._read(requests))
        try:
            while not reader.done():
                waiting = asyncio.create_task(changed.wait())
                await asyncio.wait((waiting, reader), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if changed.is_set():
                    changed.clear()
                    await context.write(self._order())
        finally:
            reader.cancel()
            self._changed.discard(changed)

    def _order(self) -> Any:
        return protos.message("envoy.service.load_stats.v3.LoadStatsResponse")(
            clusters=sorted(self._clusters),
            report_endpoint_granularity=True,
            load_reporting_interval=self._interval if self._clusters else RESTING,
        )

    async def _read(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            if not request.cluster_stats:
                continue
            self.last = _report(self.last.number + 1, request)
            self._on_report(self.last)
            arrived, self._arrived = self._arrived, asyncio.Event()
            arrived.set()


def _report(number: int, request: Any) -> LoadReport:
    in_flight: Counter[tuple[str, str]] = Counter()
    issued: Counter[tuple[str, str]] = Counter()
    through_gate: Counter[str] = Counter()
    for cluster in request.cluster_stats:
        name = cluster.cluster_name
        for endpoint in _endpoints(cluster):
            socket = endpoint.address.socket_address
            if not socket.address:  # the cold listener: a pipe
                through_gate[name] += endpoint.total_requests_in_progress
                continue
            address = f"{socket.address}:{socket.port_value}"
            in_flight[name, address] += endpoint.total_requests_in_progress
            issued[name, address] += endpoint.total_issued_requests
    return LoadReport(number=number, in_flight=in_flight, issued=issued, through_gate=through_gate)


def _endpoints(cluster: Any) -> Iterator[Any]:
    for locality in cluster.upstream_locality_stats:
        yield from locality.upstream_endpoint_stats
