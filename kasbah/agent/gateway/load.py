"""What is in flight, as Envoy reports it: pushed, exact, per replica (LRS).

Only clusters that are awake are asked for, so that thousands of sleeping services cost nothing. A replica taken out of
its cluster vanishes from the reports, streams and all: to see it empty it must be marked draining and kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from kasbah.agent.gateway import names, protos


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """One report. `in_flight` and `issued` (since the report before) are by cluster and replica address; requests
    that came through the cold listener are apart, in `woken` and `woken_issued`, by address alone."""

    number: int
    in_flight: dict[tuple[str, str], int]
    issued: dict[tuple[str, str], int]
    woken: dict[str, int]
    woken_issued: dict[str, int]

    def busy(self, cluster: str, address: str) -> int:
        """Requests in flight on a replica, whichever way they came."""
        return self.in_flight.get((cluster, address), 0) + self.woken.get(address, 0)

    def began(self, cluster: str, address: str) -> int:
        """Requests begun on a replica since the report before, whichever way they came."""
        return self.issued.get((cluster, address), 0) + self.woken_issued.get(address, 0)


EMPTY = LoadReport(number=0, in_flight={}, issued={}, woken={}, woken_issued={})


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
        """Ask for these clusters from now on, and for the way to woken replicas."""
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
            clusters=sorted({*self._clusters, *names.WOKEN}),
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
    woken: Counter[str] = Counter()
    woken_issued: Counter[str] = Counter()
    for cluster in request.cluster_stats:
        name = cluster.cluster_name
        through_gate = name in names.WOKEN or name.startswith(names.LIMITED)
        for address, endpoint in _endpoints(cluster):
            if through_gate:
                woken[address] += endpoint.total_requests_in_progress
                woken_issued[address] += endpoint.total_issued_requests
            else:
                in_flight[name, address] += endpoint.total_requests_in_progress
                issued[name, address] += endpoint.total_issued_requests
    return LoadReport(number=number, in_flight=in_flight, issued=issued, woken=woken, woken_issued=woken_issued)


def _endpoints(cluster: Any) -> Iterator[tuple[str, Any]]:
    """The replicas in a report, by address; the cold listener, which has none, is not one."""
    for locality in cluster.upstream_locality_stats:
        for endpoint in locality.upstream_endpoint_stats:
            socket = endpoint.address.socket_address
            if socket.address:
                yield f"{socket.address}:{socket.port_value}", endpoint
