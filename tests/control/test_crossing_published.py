"""What sites are told of each other: two sites of one installation, and services at one, at both and at none."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from charters import charter_of, standing_in
from fake_agent import FakeAgent
from installed import Installed

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.domain.crossing import Forwarded, spiffe_id
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.site import SiteKind

RABAT = SiteId("st-rabat")
INTERNAL = {"level": "internal"}
RESTRICTED = {"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]}


@pytest.fixture
async def rabat(installed: Installed) -> FakeAgent:
    """The agent of a second site, which takes what others send at an address of its own."""
    with installed.control.office.write() as work:
        work.tx.sites.add(
            SiteRecord(
                id=RABAT,
                name="rabat",
                charter=charter_of(installation_of(work).id, RABAT, "rabat", "MA"),
                token_sha256=sha256_of("kst-rabat"),
            )
        )
    agent = FakeAgent(client=installed.agent.client, clock=installed.clock, token="kst-rabat")
    agent.more = {"peers_address": "192.0.2.2:9443"}
    await agent.report()
    return agent


async def told(agent: FakeAgent) -> DesiredState:
    found = await agent.desired()
    assert found is not None
    return found


def place(installed: Installed, *sites: SiteId) -> None:
    """Have every service at these sites, as a placement that chose them."""
    verdicts = tuple(SiteVerdict(site=one, verdict=Verdict.CHOSEN, reason="a test says so") for one in sites)
    with installed.control.office.write() as work:
        for service in work.tx.services.all():
            work.tx.services.save(
                replace(service, placement=Placement(service=service.id, verdicts=verdicts), version=service.version)
            )


def local(installed: Installed) -> SiteId:
    with installed.control.office.read() as work:
        return next(one.id for one in work.tx.sites.all() if one.name == "local")


def become(installed: Installed, *, kind: SiteKind, country: str) -> None:
    """Change what is known of the second site."""
    with installed.control.office.write() as work:
        record = standing_in(next(one for one in work.tx.sites.all() if one.id == RABAT), country)
        work.tx.sites.save(replace(record, charter=replace(record.charter, kind=kind)))


async def test_traffic_that_moved_at_one_site_waits_for_no_change_that_is_another_s(
    installed: Installed, rabat: FakeAgent
) -> None:
    with installed.control.office.write() as work:
        held = work.tx.sites.desired(local(installed))
        assert held is not None
        work.tx.sites.save_desired(replace(held, generation=held.generation + 40))
    made = await installed.deploy("web")
    await rabat.prove("web")
    async with asyncio.timeout(30):
        assert (await installed.ended(made["rollout"]))["state"] == "done"
    generations = {(await told(agent)).generation for agent in (installed.agent, rabat)}
    assert len(generations) == 1, "what one change told both sites has one number"


async def test_a_site_alone_is_told_of_nobody(installed: Installed) -> None:
    await installed.serving(data=INTERNAL)
    found = await told(installed.agent)
    (lane,) = found.lanes
    assert (found.site_name, found.peers, found.forwarded) == ("local", (), ())
    assert (lane.to, lane.entries, found.services[0].lane) == ((), (), lane.id)


async def test_a_service_at_one_site_is_forwarded_by_the_other(installed: Installed, rabat: FakeAgent) -> None:
    await installed.serving(data=INTERNAL, access="public")
    home, away = local(installed), await told(rabat)
    here = await told(installed.agent)
    (service,) = here.services
    assert away.services == ()
    assert away.forwarded == (
        Forwarded(
            id=service.id,
            project=service.project,
            name="web",
            hosts=("web.localhost",),
            access=service.access,
            revisions=tuple(share.revision for share in service.shares),
            lane=service.lane,
            declared=Label(level=Level.INTERNAL),
        ),
    )
    assert [lane.entries for lane in here.lanes] == [(RABAT,)]
    assert [(peer.site, peer.name, peer.address) for peer in here.peers] == [(RABAT, "rabat", "192.0.2.2:9443")]
    assert here.peers[0].identity == spiffe_id(here.installation, RABAT)
    assert [lane.to for lane in away.lanes] == [()], "nobody can dial the site that runs it yet"

    installed.agent.more = {"peers_address": "gateway.example.org:9443"}
    await installed.agent.report()
    away = await told(rabat)
    assert [lane.to for lane in away.lanes] == [(home,)]
    assert [peer.address for peer in away.peers] == ["gateway.example.org:9443"]
    assert away.lanes[0].id == here.lanes[0].id, "one decision, with one name at both"


async def test_a_service_at_both_is_first_served_where_it_is_asked_for(installed: Installed, rabat: FakeAgent) -> None:
    installed.agent.more = {"peers_address": "192.0.2.1:9443"}
    await installed.serving(data=INTERNAL)
    home = local(installed)
    place(installed, home, RABAT)
    for agent, site, other in ((installed.agent, home, RABAT), (rabat, RABAT, home)):
        found = await told(agent)
        assert found.site == site
        assert [one.name for one in found.services] == ["web"]
        assert found.forwarded == ()
        (lane,) = found.lanes
        assert (lane.to, lane.entries) == ((other,), (other,))


async def test_a_site_where_requests_may_not_pass_does_not_know_the_service(
    installed: Installed, rabat: FakeAgent
) -> None:
    become(installed, kind=SiteKind.PUBLIC, country="US")
    await installed.serving(data=RESTRICTED)
    await installed.serving("open", data=INTERNAL)
    away = await told(rabat)
    assert [one.name for one in away.forwarded] == ["open"]
    here = await told(installed.agent)
    lanes = {one.id: one for one in here.lanes}
    assert {one.name: lanes[one.lane].entries for one in here.services} == {"web": (), "open": (RABAT,)}


async def test_a_site_that_became_unlawful_is_sent_nothing_though_it_was_chosen(
    installed: Installed, rabat: FakeAgent
) -> None:
    installed.agent.more = {"peers_address": "192.0.2.1:9443"}
    await installed.serving(data=RESTRICTED)
    place(installed, local(installed), RABAT)
    assert [lane.to for lane in (await told(installed.agent)).lanes] == [(RABAT,)]
    become(installed, kind=SiteKind.PUBLIC, country="US")
    assert [(lane.to, lane.entries) for lane in (await told(installed.agent)).lanes] == [((), ())]
    away = await told(rabat)
    assert (away.services, away.forwarded, away.lanes) == ((), (), ())


async def test_streams_end_where_the_law_takes_something_from_what_passes(
    installed: Installed, rabat: FakeAgent
) -> None:
    installed.agent.more = {"peers_address": "192.0.2.1:9443"}
    await installed.serving(data=INTERNAL)
    before = await told(rabat)
    assert [one.name for one in before.forwarded] == ["web"]
    await installed.deploy(data=RESTRICTED)
    assert [one.name for one in (await told(rabat)).forwarded] == ["web"]
    assert (await told(rabat)).cut == (await told(installed.agent)).cut == ""
    become(installed, kind=SiteKind.PUBLIC, country="US")
    away, here = await told(rabat), await told(installed.agent)
    assert (away.forwarded, [lane.entries for lane in here.lanes]) == ((), [()])
    assert away.cut == here.cut == f"{away.epoch}.{away.generation}", "at both ends"
    await installed.serving("other", data=INTERNAL)
    assert (await told(rabat)).cut == away.cut, "once"


async def test_what_the_law_took_is_marked_where_it_lay(installed: Installed, rabat: FakeAgent) -> None:
    await installed.serving(data=RESTRICTED)
    place(installed, RABAT)
    assert [one.name for one in (await told(rabat)).services] == ["web"]
    place(installed, local(installed))
    assert (await told(rabat)).withdrawn == "", "it may be there still"
    place(installed, RABAT)
    become(installed, kind=SiteKind.PUBLIC, country="US")
    away = await told(rabat)
    assert (away.services, away.withdrawn) == ((), f"{away.epoch}.{away.generation}")
    assert (await told(installed.agent)).withdrawn == ""


async def test_streams_end_by_themselves_where_a_service_goes(installed: Installed, rabat: FakeAgent) -> None:
    installed.agent.more = {"peers_address": "192.0.2.1:9443"}
    await installed.serving(data=INTERNAL)
    place(installed, RABAT)
    place(installed, local(installed))
    assert (await told(rabat)).cut == ""
    assert (await installed.api.delete("/services/web")).is_success
    assert (await told(rabat)).forwarded == ()
    assert (await told(rabat)).cut == (await told(installed.agent)).cut == ""


@pytest.mark.parametrize("address", ["0.0.0.0:9443", "nowhere", "a b:1", ""])
async def test_an_address_that_is_none_spoils_nothing(installed: Installed, rabat: FakeAgent, address: str) -> None:
    await installed.serving(data=INTERNAL)
    rabat.more = {"peers_address": address}
    assert (await rabat.report()).status_code == 204
    assert [(peer.name, peer.address) for peer in (await told(installed.agent)).peers] == [("rabat", "")]


async def test_a_report_that_says_nothing_new_of_addresses_makes_no_generation(
    installed: Installed, rabat: FakeAgent
) -> None:
    await installed.serving(data=INTERNAL)
    before = (await told(installed.agent)).version
    installed.clock.advance(timedelta(minutes=1))
    await rabat.report()
    assert await installed.agent.desired(known=before) is None


async def test_a_site_that_nobody_can_dial_is_reached_by_those_that_can_be(
    installed: Installed, rabat: FakeAgent
) -> None:
    """Its tunnels lead to sites that have an address; one that has none cannot send to it."""
    await installed.serving(data=INTERNAL)
    place(installed, RABAT)
    rabat.more = {"tunnel": True}
    await rabat.report()
    assert [lane.to for lane in (await told(installed.agent)).lanes] == [()]
    installed.agent.more = {"peers_address": "192.0.2.1:9443"}
    await installed.agent.report()
    here = await told(installed.agent)
    assert [lane.to for lane in here.lanes] == [(RABAT,)]
    assert [(peer.address, peer.tunnel) for peer in here.peers] == [("", True)]
    assert [peer.address for peer in (await told(rabat)).peers] == ["192.0.2.1:9443"], "where it is to dial"


async def test_agents_and_control_planes_a_version_apart_understand_each_other(installed: Installed) -> None:
    """What one does not know it leaves alone, and what it misses is nothing."""
    await installed.serving(data=INTERNAL)
    known = await told(installed.agent)
    said = json.loads(DESIRED_STATE.dump_json(known))
    assert DESIRED_STATE.validate_json(json.dumps({**said, "later": [1], "protocol": 1})) == known
    for name in ("site_name", "peers", "lanes", "forwarded"):
        del said[name]
    for service in said["services"]:
        del service["lane"]
    before = DESIRED_STATE.validate_json(json.dumps(said))
    assert (before.services[0].id, before.services[0].lane) == (known.services[0].id, "")
    assert (before.peers, before.lanes, before.forwarded) == ((), (), ())


async def test_what_changes_at_several_sites_has_one_number(installed: Installed, rabat: FakeAgent) -> None:
    """A rollout waits until every site acts on what it changed, by its number: it would wait in vain at a site whose
    numbers had not come as far as another's."""
    await installed.serving(data=INTERNAL, access="public")
    for number in range(3):  # what concerns the second site alone
        installed.agent.more = {"peers_address": f"192.0.2.1:{9443 + number}"}
        await installed.agent.report()
    before = {(await told(one)).version for one in (installed.agent, rabat)}
    assert len(before) == 2
    await installed.post("/keys", {"name": "everybody"}, status=201)
    ((epoch, after),) = {(await told(one)).version for one in (installed.agent, rabat)}
    assert (epoch, after) > max(before)
