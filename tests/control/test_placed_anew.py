"""A service that asked for two sites gets the second once that is there, and one that waited for a place is given all
the time that its source may take."""

from __future__ import annotations

from datetime import timedelta

import pytest
from charters import charter_of
from fake_agent import FakeAgent
from installed import Installed

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.changes import MOVES
from kasbah.control.loops.law import Law
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.domain.ids import SiteId

RABAT = SiteId("st-rabat")
INTERNAL = {"level": "internal"}
AWAY = timedelta(seconds=15)
"""Longer than a site may be silent and be called connected, and shorter than it may be and not be lost."""


@pytest.fixture
async def rabat(installed: Installed) -> FakeAgent:
    with installed.control.office.write() as work:
        charter = charter_of(installation_of(work).id, RABAT, "rabat", "MA")
        work.tx.sites.add(SiteRecord(id=RABAT, name="rabat", charter=charter, token_sha256=sha256_of("kst-rabat")))
    agent = FakeAgent(client=installed.agent.client, clock=installed.clock, token="kst-rabat")
    await agent.report()
    return agent


def chosen(installed: Installed) -> int:
    with installed.control.office.read() as work:
        (service,) = work.tx.services.all()
        return len(service.placement.chosen) if service.placement else 0


async def test_a_site_that_was_silent_for_a_moment_gets_what_it_missed(installed: Installed, rabat: FakeAgent) -> None:
    installed.clock.advance(AWAY)
    await installed.serving(data=INTERNAL, placement={"sites": 2})
    law = Law(installed.control.office)
    law._pass()
    assert chosen(installed) == 1
    await rabat.report()
    law._pass()
    assert chosen(installed) == 2


async def test_a_site_that_came_back_during_a_rollout_is_not_forgotten(installed: Installed, rabat: FakeAgent) -> None:
    installed.clock.advance(AWAY)
    await installed.agent.report()
    law = Law(installed.control.office)
    installed.control.office.changes.listen(MOVES, law.unsettle)
    made = await installed.deploy(data=INTERNAL, placement={"sites": 2})
    await rabat.report()
    law._pass()
    law._pass()
    assert chosen(installed) == 1, "the rollout has its place"
    await installed.agent.prove("web")
    await installed.ended(made["rollout"])
    law._pass()
    assert chosen(installed) == 2


async def test_what_waited_for_a_place_has_the_time_that_its_source_may_take(installed: Installed) -> None:
    made = await installed.deploy(data=INTERNAL)
    assert "no site can run it" in made["rollout"]["reason"]
    installed.clock.advance(timedelta(hours=1))
    await installed.agent.report()
    rollout = await installed.get(f"/rollouts/{made['rollout']['id']}", after=made["rollout"]["version"], wait=10)
    assert (rollout["state"], "waiting for the source" in rollout["reason"]) == ("waiting", True), rollout["reason"]


async def test_a_site_that_comes_later_keeps_the_source_of_what_it_could_take_over(
    installed: Installed, rabat: FakeAgent
) -> None:
    installed.clock.advance(AWAY)
    await installed.serving(data=INTERNAL)
    law = Law(installed.control.office)
    law._pass()
    await rabat.report()
    law._pass()
    with installed.control.office.read() as work:
        (service,) = work.tx.services.all()
        (revision,) = work.tx.revisions.all()
        document = work.tx.sites.desired(RABAT)
    assert document is not None
    waiting = [(one.id, one.source) for one in DESIRED_STATE.validate_json(document.body).standby]
    assert waiting == [(service.id, revision.contents.source)]
    assert chosen(installed) == 1
