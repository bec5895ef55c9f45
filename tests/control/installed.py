"""A control plane with a caller and an agent, for tests: what they ask of it, in short."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from fake_agent import FakeAgent

from kasbah.clock import ManualClock
from kasbah.control.app import Control

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCE = "sha256:" + "a" * 64


@dataclass(kw_only=True)
class Installed:
    """A control plane with its loops running, a caller with every right, and a site's agent."""

    control: Control
    api: httpx.AsyncClient
    agent: FakeAgent
    clock: ManualClock

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.api.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        answer = await self.api.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def deploy(self, name: str = "web", *, source: str = SOURCE, **config: Any) -> Any:
        return await self.post(f"/services/{name}/deploys", request(source=source, **config), status=202)

    async def serving(self, name: str = "web", **config: Any) -> Any:
        """Deploy a service, and have the agent prove it."""
        await self.agent.report()
        made = await self.deploy(name, **config)
        await self.agent.prove(name)
        return await self.ended(made["rollout"])

    async def ended(self, rollout: Any) -> Any:
        """Follow a rollout to its end."""
        for _ in range(20):
            if rollout["state"] in ("done", "failed", "superseded"):
                return rollout
            rollout = await self.get(f"/rollouts/{rollout['id']}", after=rollout["version"], wait=10)
        raise AssertionError(f"the rollout does not end: {rollout}")


def request(*, source: str = SOURCE, expected_version: int | None = None, **config: Any) -> dict[str, Any]:
    whole = {"runtime": "python", "command": ["python", "app.py"], **config}
    return {"config": whole, "source": source, "source_size": 1_000, "expected_version": expected_version}
