"""Ends what outlives an agent: its Envoy, its runner and every replica. Called after the agent has ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kasbah.agent.gateway import process
from kasbah.agent.paths import Paths
from kasbah.agent.runner.launch import ensure_runner, layout_of, process_driver

DRAIN = timedelta(seconds=10)


def teardown(paths: Paths) -> None:
    """End the gateway first, so that nothing new arrives, then the replicas and their runner. Idempotent."""
    recorded = process.read_record(paths.envoy)
    if recorded is not None:
        process.end(recorded[0])
    (paths.envoy / "envoy.json").unlink(missing_ok=True)
    asyncio.run(_end_replicas(paths))
    paths.endpoint.unlink(missing_ok=True)


async def _end_replicas(paths: Paths) -> None:
    driver = process_driver(paths)
    if layout_of(paths).process.exists():  # a runner that was killed could not clear up: the next one does
        await ensure_runner(paths)
    await driver.shutdown(drain=DRAIN)
    await driver.close()
