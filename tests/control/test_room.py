"""Room at sites is given once, also where one decision places many services."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from charters import charter_of
from fake_agent import FakeAgent
from installed import Installed

from kasbah.api.secret_kinds import sha256_of
from kasbah.control.loops.rollout import Rollouts
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.uphold import uphold
from kasbah.domain.charter import Capacity, Fact
from kasbah.domain.ids import SiteId
from kasbah.domain.site import SiteState

RABAT = SiteId("st-rabat")
GIB = 2**30
AWAY = timedelta(seconds=15)
"""Longer than a site may be silent and be called connected."""


@pytest.fixture
async def rabat(installed: Installed) -> FakeAgent:
    """A second site, of whose four CPUs replicas may have three."""
    with installed.control.office.write() as work:
        charter = charter_of(installation_of(work).id, RABAT, "rabat", "MA")
        capacity = Fact(value=Capacity(cpus=3.0, memory=64 * GIB), source="a test", since=date(1970, 1, 1))
        charter = replace(charter, facts=replace(charter.facts, capacity=capacity))
        work.tx.sites.add(SiteRecord(id=RABAT, name="rabat", charter=charter, token_sha256=sha256_of("kst-rabat")))
    agent = FakeAgent(client=installed.agent.client, clock=installed.clock, token="kst-rabat")
    await agent.report()
    return agent


async def test_of_two_that_wait_for_a_place_one_is_given_the_room_of_a_site_that_comes(
    installed: Installed, rabat: FakeAgent
) -> None:
    await installed.agent.report()
    installed.clock.advance(AWAY)
    for name in ("one", "two"):
        config = {"data": {"level": "internal"}, "scaling": {"min": 1}, "placement": {"only": ["rabat"]}}
        made = await installed.deploy(name, resources={"cpu": 2.0}, **config)
        assert "no site can run it" in made["rollout"]["reason"]
    await rabat.report()
    Rollouts(installed.control.office)._pass()
    with installed.control.office.read() as work:
        at = {one.name: one.placement.chosen for one in work.tx.services.all() if one.placement is not None}
    assert list(at.values()) == [(RABAT,)], "it has room for one of them"


async def test_of_two_that_leave_a_site_the_one_that_finds_room_is_moved(
    installed: Installed, rabat: FakeAgent
) -> None:
    for name in ("one", "two"):
        config = {"data": {"level": "internal"}, "scaling": {"min": 1}, "placement": {"avoid": ["rabat"]}}
        await installed.serving(name, resources={"cpu": 2.0}, **config)
    with installed.control.office.write() as work:
        for service in work.tx.services.all():
            work.tx.services.save(replace(service, constraints=replace(service.constraints, avoid=())))
        local = next(one for one in work.tx.sites.all() if one.name == "local")
        work.tx.sites.save(replace(local, state=SiteState.DRAINING))
    with installed.control.office.write() as work:
        uphold(work)
        at = {one.name: one.placement.chosen for one in work.tx.services.all() if one.placement is not None}
    assert [RABAT in at[one] for one in ("one", "two")] in ([True, False], [False, True]), "it has room for one of them"
