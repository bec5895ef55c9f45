"""What the agent tells of itself: to the control plane, to Prometheus, to whoever asks whether it lives."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kasbah.agent.certificates import Certificates
from kasbah.agent.gateway.controller import GatewayController
from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import Link
from kasbah.agent.meter import Meter
from kasbah.agent.nearness import Nearness
from kasbah.agent.proof import SiteIdentity
from kasbah.agent.reconciler import Reconciler
from kasbah.agent.site_clock import SiteClock
from kasbah.agent.sources import SourceExchange
from kasbah.domain.observed import PinnedPack, SiteStatus
from kasbah.domain.site import Isolation
from kasbah.packs.own import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Looks at everything the agent is made of."""

    clock: SiteClock
    ledger: Ledger
    gateway: GatewayController
    reconciler: Reconciler
    link: Link
    meter: Meter
    certificates: Certificates
    identity: SiteIdentity
    word: LastWord
    nearness: Nearness
    exchange: SourceExchange
    peers_address: str | None
    isolation: Isolation
    driver: str

    def status(self) -> SiteStatus:
        """What the control plane is told."""
        assert self.ledger.identity is not None
        tls, crossing = self.gateway.tls, self.gateway.crossing
        return SiteStatus(
            site=self.ledger.identity.site,
            observed_at=self.clock.now(),
            applied=self.reconciler.acted_on,
            gateway_address=self.gateway.listen,
            gateway_error=self.gateway.error,
            tls_address=tls.listen if tls else "",
            tls_names=tls.names if tls else (),
            peers_address=(self.peers_address or crossing.listen) if crossing and crossing.listen else "",
            tunnel=bool(crossing and crossing.tunnel),
            notes=self._notes(),
            law=self.word.law_version,
            packs=tuple(
                PinnedPack(name=one.name, version=one.version, digest=digest_of(one)) for one in self.word.pinned
            ),
            turned_away=self.word.turned_away,
            own_keys=() if self.word.own_keys is None else self.word.own_keys.stated,
            isolation=self.isolation,
            cpus=float(len(os.sched_getaffinity(0))),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            drivers=(self.driver,),
            runtimes=available_runtimes(),
            near=self.nearness.told,
            services=tuple(self.word.may_hear(one) for one in self.reconciler.statuses()),
        )

    def _notes(self) -> tuple[str, ...]:
        own = filter(None, [self.identity.problem])
        refused = self.word.notes(self.ledger.identity)
        return (
            *self.certificates.notes,
            *self.gateway.notes,
            *own,
            *self.clock.notes(),
            *refused,
            *self.exchange.notes,
        )

    def problems(self) -> list[str]:
        """Why this site is not ready, empty where it is."""
        found = []
        if self.ledger.desired is None:
            found.append("no desired state has arrived yet")
        if not self.gateway.connected:
            found.append("the gateway is not connected")
        if self.gateway.error:
            found.append(self.gateway.error)
        return found

    def app(self) -> Starlette:
        """/livez, /readyz and /metrics."""
        registry = CollectorRegistry()
        registry.register(AgentMetrics(self))

        async def livez(_: Request) -> Response:
            return JSONResponse({"status": "ok"})

        async def readyz(_: Request) -> Response:
            problems = self.problems()
            return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

        return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])


class AgentMetrics(Collector):
    """The agent's metrics, read when they are asked for."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        reporter = self._reporter
        yield from _service_metrics(reporter.reconciler)
        yield from _wake_metrics(reporter.reconciler)
        yield from _agent_metrics(reporter)


def _agent_metrics(reporter: Reporter) -> Iterator[Metric]:
    gauges = (
        ("kasbah_control_connected", "Whether the control plane answers", reporter.link.connected),
        ("kasbah_gateway_connected", "Whether Envoy listens to the agent", reporter.gateway.connected),
        ("kasbah_desired_generation", "The generation acted on", reporter.reconciler.acted_on[1]),
    )
    counters = (
        ("kasbah_gateway_restarts", "Envoy's restarts since the agent started", reporter.gateway.restarts),
        ("kasbah_meter_unreadable_lines", "Log lines that could not be read", reporter.meter.unreadable),
    )
    yield from (GaugeMetricFamily(name, help, value=value) for name, help, value in gauges)
    yield from (CounterMetricFamily(name, help, value=value) for name, help, value in counters)


def _service_metrics(reconciler: Reconciler) -> Iterator[Metric]:
    replicas = GaugeMetricFamily("kasbah_replicas", "Replicas by state", labels=("service", "state"))
    waiting = GaugeMetricFamily("kasbah_waiting_requests", "Callers held at the gate", labels=("service",))
    in_flight = GaugeMetricFamily("kasbah_in_flight_requests", "Requests on replicas", labels=("service",))
    names = {unit.service.id: unit.service.name for unit in reconciler.units}
    for status in reconciler.statuses():
        name = names.get(status.service, status.service)
        for state, count in Counter(one.state for one in status.replicas if one.exit is None).items():
            replicas.add_metric((name, state), count)
        waiting.add_metric((name,), status.waiting_requests)
        in_flight.add_metric((name,), status.in_flight)
    yield from (replicas, waiting, in_flight)


def _wake_metrics(reconciler: Reconciler) -> Iterator[Metric]:
    wakes = CounterMetricFamily("kasbah_wakes", "Wakings since the agent started", labels=("service", "rung"))
    phases = CounterMetricFamily(
        "kasbah_wake_phase_seconds", "Time spent in each phase of waking", labels=("service", "rung", "phase")
    )
    for unit in reconciler.units:
        for (rung, phase), seconds in unit.wakes.seconds.items():
            phases.add_metric((unit.service.name, rung, phase), seconds)
        for rung, count in unit.wakes.counts.items():
            wakes.add_metric((unit.service.name, rung), count)
    yield from (wakes, phases)


def available_runtimes() -> tuple[str, ...]:
    """What this site can build."""
    node = ("node",) if shutil.which("node") and shutil.which("npm") else ()
    return ("command", *node, "python")
