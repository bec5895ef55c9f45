from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fake_agent import FakeAgent
from installed import START, Installed

from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.settings import ControlSettings


@pytest.fixture
async def installed(tmp_path: Path) -> AsyncIterator[Installed]:
    clock = ManualClock(START)
    control = build(ControlSettings(data_dir=tmp_path / "data", country="MA"), clock)
    transport = httpx.ASGITransport(app=control.asgi)
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
