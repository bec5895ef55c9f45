from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from deployers import Signing
from fake_agent import FakeAgent
from holder import Holder
from installed import START, Installed, request

from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.settings import ControlSettings


@pytest.fixture
async def installed(tmp_path: Path) -> AsyncIterator[Installed]:
    clock = ManualClock(START)
    control = build(ControlSettings(data_dir=tmp_path / "data", country="MA"), clock)
    transport = Signing(httpx.ASGITransport(app=control.asgi), control)
    headers = {"authorization": f"Bearer {control.folder.admin_token.read_text().strip()}"}
    async with (
        control.started(),
        httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", headers=headers) as api,
        httpx.AsyncClient(transport=transport, base_url="http://api") as plain,
    ):
        token = control.folder.site_token.read_text().strip()
        agent = FakeAgent(client=plain, clock=clock, token=token)
        yield Installed(control=control, api=api, agent=agent, clock=clock)
    control.close()


@pytest.fixture
def admin(installed: Installed) -> Holder:
    token = installed.api.headers["authorization"].removeprefix("Bearer ")
    return Holder(client=installed.agent.client, token=token, id="admin")


@pytest.fixture
async def projects(installed: Installed) -> dict[str, str]:
    """Two projects with a service each; by project, its rollout."""
    await installed.agent.report()
    found = {}
    for name in ("own", "other"):
        await installed.post("/projects", {"name": name}, status=201)
        body = request(data={"level": "restricted"})
        made = await installed.post(f"/services/web/deploys?project={name}", body, status=202)
        found[name] = made["rollout"]["id"]
    return found
