"""A control plane with a caller and an agent, for tests: what they ask of it, in short."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_agent import FakeAgent

from kasbah.api.manifest import DataSection
from kasbah.api.owner import APPROVAL, DECLASSIFICATION, load, sign_document
from kasbah.clock import ManualClock
from kasbah.control.app import Control
from kasbah.domain.grant import Approval, Declassification, GrantKind
from kasbah.domain.ids import InstallationId, ServiceId

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

    @property
    def owner(self) -> Ed25519PrivateKey:
        """The owner's key, as the first start made it."""
        return load(self.control.folder.owner_key)

    async def grant(self, kind: GrantKind, document: Approval | Declassification, *, status: int = 201) -> Any:
        context = APPROVAL if kind is GrantKind.APPROVAL else DECLASSIFICATION
        signed = sign_document(self.owner, context, document)
        return await self.post("/policy/grants", {"kind": kind.value, **asdict(signed)}, status=status)

    async def declassify(self, name: str = "web", *, days: float = 30, status: int = 201, **to: Any) -> Any:
        """Let a service's label be as low as this."""
        document = Declassification(
            installation=InstallationId((await self.get("/installation"))["id"]),
            service=ServiceId((await self.get(f"/services/{name}"))["id"]),
            to=DataSection(**to).to_domain(),
            evidence="decision 12 of the board",
            issued_at=self.clock.now(),
            expires_at=self.clock.now() + timedelta(days=days),
        )
        return await self.grant(GrantKind.DECLASSIFICATION, document, status=status)

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
