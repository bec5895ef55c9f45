"""Ends what outlives an agent: its Envoy, its runner and every replica. Called after the agent has ended."""

from __future__ import annotations

from kasbah.agent.gateway import process
from kasbah.agent.paths import Paths
from kasbah.drivers.process import end_runner


def teardown(paths: Paths) -> None:
    """End the gateway first, so that nothing new arrives, then the replicas and their runner. Idempotent."""
    recorded = process.read_record(paths.envoy)
    if recorded is not None:
        process.end(recorded[0])
    (paths.envoy / "envoy.json").unlink(missing_ok=True)
    end_runner(paths)
    paths.endpoint.unlink(missing_ok=True)
