"""A service that asks for latency goes where its callers are: where they were counted, or where its file says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from charters import charter_of
from fake_agent import FakeAgent
from installed import START, Installed, request

from kasbah.api.secret_kinds import sha256_of
from kasbah.control.loops.law import LOOK_AGAIN, Law
from kasbah.control.loops.tidy import Tidy
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.callers import WINDOW
from kasbah.control.usecases.describe import installation_of
from kasbah.domain.crossing import Neighbour
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.observed import UsageBatch
from kasbah.domain.usage import EntryKey

RABAT = SiteId("st-rabat")
HERE = SiteId("")
PLACED = {"data": {"level": "internal"}, "placement": {"objective": "latency"}}


@pytest.fixture
async def rabat(installed: Installed) -> FakeAgent:
    """A second site, 20 ms from the first, as it measured."""
    await installed.agent.report()
    identity = installed.agent.identity
    assert identity is not None
    with installed.control.office.write() as work:
        charter = charter_of(installation_of(work).id, RABAT, "rabat", "MA")
        work.tx.sites.add(SiteRecord(id=RABAT, name="rabat", charter=charter, token_sha256=sha256_of("kst-rabat")))
    agent = FakeAgent(client=installed.agent.client, clock=installed.clock, token="kst-rabat")
    agent.more = {"peers_address": "192.0.2.2:9443", "near": ((identity.site, 20.0),)}
    assert (await agent.report()).status_code == 204
    return agent


async def verdicts(installed: Installed, **placement: Any) -> dict[str, tuple[str, str]]:
    """By site, what a plan says of a service with this placement."""
    config = {**PLACED, "placement": {**PLACED["placement"], **placement}}
    plan = await installed.post("/services/web/plan", request(**config))
    return {one["site"]: (one["verdict"], one["reason"]) for one in plan["sites"]}


def enters(service: ServiceId, site: SiteId, requests: int, *, sequence: int = 1) -> UsageBatch:
    hour = START.replace(minute=0)
    return UsageBatch(
        sequence=sequence, usage=(), entries=((EntryKey(service=service, site=site, hour=hour), requests),)
    )


async def test_callers_that_the_file_declares_decide(installed: Installed, rabat: FakeAgent) -> None:
    assert await verdicts(installed, callers=["rabat"]) == {
        "local": ("possible", "others are preferred, 20 ms from its callers"),
        "rabat": ("chosen", "the best that may and can run it, 0 ms from its callers"),
    }
    found = await verdicts(installed, callers=["rabat", "local"])
    assert found["local"] == ("chosen", "the best that may and can run it, 10 ms from its callers")


async def test_of_whom_nothing_was_counted_nothing_is_claimed(installed: Installed, rabat: FakeAgent) -> None:
    chosen, reason = (await verdicts(installed))["local"]
    assert (chosen, reason) == ("chosen", "the best that may and can run it, where its callers are is not known")


async def test_a_service_follows_its_callers_and_serves_all_the_while(installed: Installed, rabat: FakeAgent) -> None:
    await installed.serving(**PLACED)
    service = ServiceId((await installed.get("/services/web"))["id"])
    law = Law(installed.control.office)
    await law.uphold()
    assert (await installed.agent.send_usage(enters(service, HERE, 10))).status_code == 200
    assert (await installed.agent.send_usage(enters(service, RABAT, 290, sequence=2))).status_code == 200
    await law.uphold()
    assert await at(installed) == {"local"}, "it is not looked at with each request"
    installed.clock.advance(LOOK_AGAIN)
    await rabat.report()
    await installed.agent.report()
    await law.uphold()
    assert await at(installed) == {"local", "rabat"}, "it stays where it serves until the other does"
    told = await rabat.desired()
    assert told is not None
    assert told.neighbours == (), "nobody can dial the first one"
    told = await installed.agent.desired()
    assert told is not None
    assert told.neighbours == (Neighbour(site=RABAT, address="192.0.2.2:9443"),)
    rabat.statuses = dict(installed.agent.statuses)
    await rabat.report()
    await law.uphold()
    assert await at(installed) == {"rabat"}
    reasons = {one["site"]: one["reason"] for one in (await installed.get("/services/web/explain"))["sites"]}
    assert "1 ms from its callers" in reasons["rabat"]


async def at(installed: Installed) -> set[str]:
    """The sites that the service was placed at."""
    with installed.control.office.read() as work:
        names = {one.id: one.name for one in work.tx.sites.all()}
        (service,) = work.tx.services.all()
        assert service.placement is not None
        return {names[one] for one in service.placement.chosen}


async def test_entries_are_counted_once_and_forgotten_after_a_while(installed: Installed, rabat: FakeAgent) -> None:
    await installed.serving(**PLACED)
    service = ServiceId((await installed.get("/services/web"))["id"])
    for _ in range(2):
        await rabat.send_usage(enters(service, HERE, 7))
        await rabat.send_usage(enters(ServiceId("sv-gone"), HERE, 7, sequence=2))
    await rabat.send_usage(enters(service, SiteId("st-gone"), 7, sequence=3))
    assert entered(installed, service) == {RABAT: 7}
    installed.clock.advance(3 * WINDOW)
    await Tidy(installed.control.office).sweep()
    assert entered(installed, service) == {}


def entered(installed: Installed, service: ServiceId) -> dict[SiteId, int]:
    with installed.control.office.read() as work:
        return work.tx.usage.entered(service, since=START - timedelta(days=1))


@pytest.mark.parametrize("near", [((RABAT, -1.0),), tuple((SiteId(f"st-{number}"), 1.0) for number in range(101))])
async def test_distances_that_cannot_be_are_refused(
    installed: Installed, near: tuple[tuple[SiteId, float], ...]
) -> None:
    installed.agent.more = {"near": near}
    assert (await installed.agent.report()).status_code == 400
