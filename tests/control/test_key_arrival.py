"""A key that was made, or switched off, means something once the sites act on it: that can be waited for."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from installed import Installed

from kasbah.control.usecases.key_arrival import key_due
from kasbah.control.usecases.sites import SILENCE
from kasbah.control.usecases.work import DEFAULT_PROJECT


async def made(installed: Installed) -> str:
    """A key that the site was told of, and has not acted on."""
    await installed.agent.report()
    return (await installed.post("/keys", {"name": "me"}, status=201))["id"]


async def act(installed: Installed) -> None:
    """The site acts on the newest it is told."""
    desired = await installed.agent.desired()
    assert desired is not None
    installed.agent.applied = desired.version
    await installed.agent.report()


async def test_a_site_is_behind_until_it_acts_on_the_key(installed: Installed) -> None:
    key = await made(installed)
    assert await installed.get(f"/keys/{key}/arrival") == {"behind": ["local"], "away": []}
    await act(installed)
    assert await installed.get("/keys/me/arrival") == {"behind": [], "away": []}


async def test_who_waits_is_told_once_it_has(installed: Installed) -> None:
    key = await made(installed)
    waiting = asyncio.create_task(installed.get(f"/keys/{key}/arrival", wait=20))
    await act(installed)
    async with asyncio.timeout(10):
        assert await waiting == {"behind": [], "away": []}


async def test_what_is_decided_meanwhile_is_not_waited_for(installed: Installed) -> None:
    key, office = await made(installed), installed.control.office
    with office.read() as work:
        due = key_due(work, DEFAULT_PROJECT, key)
    desired = await installed.agent.desired()
    assert desired is not None
    await installed.post("/keys", {"name": "another"}, status=201)
    installed.agent.applied = desired.version
    await installed.agent.report()
    with office.read() as work:
        assert due.arrival(work).behind == []
    assert (await installed.get("/keys/another/arrival"))["behind"] == ["local"]


async def test_a_revoked_key_is_known_until_the_site_has_heard(installed: Installed) -> None:
    key = await made(installed)
    await act(installed)
    await installed.api.delete(f"/keys/{key}")
    assert (await installed.get(f"/keys/{key}/arrival"))["behind"] == ["local"]


async def test_a_site_that_is_not_heard_is_not_waited_for(installed: Installed) -> None:
    key = await made(installed)
    installed.clock.advance(SILENCE + timedelta(seconds=1))
    async with asyncio.timeout(10):
        assert await installed.get(f"/keys/{key}/arrival", wait=20) == {"behind": ["local"], "away": ["local"]}


async def test_a_key_that_is_not_there(installed: Installed) -> None:
    answer = await installed.api.get("/keys/nobodys/arrival")
    assert answer.status_code == 404
    assert "kasbah keys list" in answer.text
