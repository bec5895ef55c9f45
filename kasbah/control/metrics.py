"""The control plane's figures, for Prometheus: what was asked of it, and how far its sites and rollouts are."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from kasbah.control.usecases.describe import list_sites
from kasbah.control.usecases.work import Office


class Metrics:
    """Figures of one control plane. Those about sites and rollouts are read from the store when they are asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "kasbah_control_requests", "Requests answered", ("route", "method", "code"), registry=self.registry
        )
        self._desired = self._gauge("kasbah_site_desired_generation", "The newest desired state", "site")
        self._applied = self._gauge("kasbah_site_applied_generation", "The desired state the site acts on", "site")
        self._age = self._gauge("kasbah_site_seen_age_seconds", "Since the site last reported", "site")
        self._rollouts = self._gauge("kasbah_rollouts", "Rollouts kept, by state", "state")

    def render(self, office: Office) -> bytes:
        """Everything, as Prometheus reads it."""
        with office.read() as work:
            for sight in list_sites(work):
                site = sight.site
                report = site.report
                self._desired.labels(site.name).set(sight.desired.generation if sight.desired else 0)
                self._applied.labels(site.name).set(report.applied[1] if report else 0)
                if site.seen_at is not None:
                    self._age.labels(site.name).set((work.now - site.seen_at).total_seconds())
            for state, count in work.tx.rollouts.counts().items():
                self._rollouts.labels(state).set(count)
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(name, text, (label,), registry=self.registry)
