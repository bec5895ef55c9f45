"""The law changes as its owner signs it: seen before, limited, by two persons where it says so, and undone."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installed import START, Installed
from law_changes import ALL, HOUSE, NOTHING, apply, drawn, house, in_force, plan, settled, signed
from sqlalchemy import text

from kasbah.api.owner import LAWBOOK, sign_document
from kasbah.api.signing import public_text
from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.control.store.lawbooks import LawbookState
from kasbah.control.store.records import ServiceRecord
from kasbah.control.store.sql import SqlStore
from kasbah.control.usecases.lawful import places
from kasbah.control.usecases.roll_law import carry_on, under_way
from kasbah.control.usecases.uphold import uphold
from kasbah.decide.law_rollout import PATIENCE
from kasbah.domain.charter import Lawbook, Limit
from kasbah.domain.ids import InstallationId, ServiceId, SiteId
from kasbah.domain.law import Data, Purpose
from kasbah.domain.observed import ServiceStatus
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.service import ServiceState
from kasbah.errors import Invalid, Unavailable
from kasbah.packs import shipped
from kasbah.settings import ControlSettings


async def published(installed: Installed) -> list[str]:
    document = await installed.agent.desired()
    assert document is not None
    return [one.name for one in document.services]


async def serving_under_house(installed: Installed) -> None:
    """A service whose law is `house`, which forbids nothing yet."""
    await apply(installed, await drawn(installed, house(NOTHING)))
    await settled(installed)
    await installed.serving(data=HOUSE)


# --- the first law ----------------------------------------------------------------------------------------------------


async def test_the_first_start_signs_what_comes_with_kasbah(installed: Installed) -> None:
    status = await installed.get("/policy")
    assert (status["newest"]["version"], status["newest"]["state"]) == (1, "in-force")
    assert status["owner_key"] == public_text(installed.owner)
    assert [one["name"] for one in status["packs"]] == [one.name for one in shipped() if not one.draft]


def test_a_later_start_keeps_the_law_and_the_key_may_be_away(tmp_path: Path) -> None:
    def start() -> tuple[str, int]:
        control = build(ControlSettings(data_dir=tmp_path), ManualClock(START))
        with control.office.read() as work:
            installation = work.tx.installations.get()
            found = (installation.owner_key, work.law.newest.lawbook.version) if installation else ("", 0)
        control.close()
        return found  # type: ignore[return-value]

    first = start()
    assert first == start()
    (tmp_path / "owner.key").unlink()
    assert first == start()
    assert not (tmp_path / "owner.key").exists(), "another key would not be the owner's"


def test_a_database_that_names_another_owner_is_refused_at_the_start(tmp_path: Path) -> None:
    control = build(ControlSettings(data_dir=tmp_path), ManualClock(START))
    with control.office.write() as work:
        installation = work.tx.installations.get()
        assert installation is not None
        other = public_text(Ed25519PrivateKey.generate())
        work.tx.installations.save(replace(installation, owner_key=other))
    control.close()
    with pytest.raises(Invalid, match="another owner"):
        build(ControlSettings(data_dir=tmp_path), ManualClock(START))


# --- plan and apply ---------------------------------------------------------------------------------------------------


async def test_a_law_is_later_than_what_sites_hold_and_has_arrived_once_they_hold_it(installed: Installed) -> None:
    """A backup that was restored may know less of the law than the sites do, which take nothing older."""
    installed.agent.more = {"law": 7}
    await installed.agent.report()
    assert (await installed.get("/policy"))["next_version"] == 8
    await apply(installed, await drawn(installed, house(NOTHING)), even_so=True)
    desired = await installed.agent.desired()
    assert desired is not None
    installed.agent.applied = desired.version
    for held, state in ((7, "rolling"), (8, "in-force")):
        installed.agent.more = {"law": held}
        for _ in range(2):
            installed.clock.advance(timedelta(seconds=11))
            await installed.agent.report()
            with installed.control.office.write() as work:
                carry_on(work)
        assert (await installed.get("/policy"))["newest"]["state"] == state
    installed.agent.more = {"law": 2**31 - 1}
    await installed.agent.report()
    assert (await installed.get("/policy"))["next_version"] == 9, "no site uses up the numbers"


async def test_a_plan_says_what_ends_and_what_would_reopen_it_and_apply_ends_that(installed: Installed) -> None:
    await serving_under_house(installed)
    tighter = await drawn(installed, house(ALL, version=2))
    found = await plan(installed, tighter)
    assert (found["losing"], found["services"], found["allowed"], found["too_far"]) == (1, 1, 0, True)
    (ending,) = found["ends"]
    assert (ending["service"], ending["site"], ending["others"]) == ("web", "local", [])
    assert ending["rules"][0]["id"] == "house.r0"
    assert ending["reopens"] == ["the approval board-r0"]
    assert found["stranded"] == ["web"]
    (group,) = found["classes"]
    assert (group["kind"], group["country"], group["sites"]) == ("on-prem", "MA", ["local"])
    assert (group["ends"], group["closes"], group["opens"]) == (1, 0, 0)
    assert (group["data"]["level"], group["data"]["regimes"]) == ("internal", ["house"])
    assert await published(installed) == ["web"], "a plan changes nothing"
    refused = await apply(installed, tighter, status=409)
    assert refused["error"]["code"] == "blast_radius"
    assert "--even-so" in refused["error"]["hint"]
    assert await published(installed) == ["web"]
    made = await apply(installed, tighter, even_so=True)
    assert (made["state"], made["loosens"], [one["site"] for one in made["arrived"]]) == ("rolling", False, ["local"])
    assert await published(installed) == []
    status = await settled(installed)
    assert (status["in_force"]["version"], status["in_force"]["even_so"]) == (3, True)
    with installed.control.office.write() as work:
        uphold(work)
    assert "[house.r0]" in (await installed.get("/services/web"))["reason"]


@pytest.mark.parametrize(
    ("limit", "code"),
    [(Limit(services=1), 202), (Limit(percent=100), 202), (Limit(percent=99), 409), (Limit(services=0), 409)],
    ids=["one", "all", "nearly", "none"],
)
async def test_the_limit_is_the_one_of_the_law_in_force(installed: Installed, limit: Limit, code: int) -> None:
    await serving_under_house(installed)
    await apply(installed, await drawn(installed, limit=limit))
    await settled(installed)
    freer = replace(await drawn(installed, house(ALL, version=2)), limit=Limit(services=99))
    await apply(installed, freer, status=code)


async def test_a_law_that_changed_since_it_was_planned_is_planned_again(installed: Installed) -> None:
    first, second = await drawn(installed, house(NOTHING)), await drawn(installed, house(NOTHING, version=7))
    await apply(installed, first)
    await settled(installed)
    refused = await apply(installed, second, based_on=1, status=409)
    assert refused["error"]["code"] == "law_changed"
    refused = await apply(installed, second, status=409)
    assert "the next is 3" in refused["error"]["message"]
    same = await drawn(installed)
    assert (await apply(installed, same, status=409))["error"]["code"] == "law_unchanged"


@pytest.mark.parametrize("fault", ["another key", "another installation", "another context", "changed"])
async def test_what_the_owner_did_not_sign_for_this_installation_is_no_law(installed: Installed, fault: str) -> None:
    book = await drawn(installed, house(NOTHING))
    made = signed(installed, book)
    match fault:
        case "another key":
            made = sign_document(Ed25519PrivateKey.generate(), LAWBOOK, book)
        case "another installation":
            made = signed(installed, replace(book, installation=InstallationId("in-9")))
        case "another context":
            made = sign_document(installed.owner, b"kasbah approval v1\n", book)
        case "changed":
            made = replace(made, document=made.document.replace("house", "horse"))
    refused = await installed.post("/policy/lawbooks", {**asdict(made), "based_on": 1}, status=403)
    assert refused["error"]["code"] == "not_signed"
    assert (await installed.get("/policy"))["next_version"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"packs": (house("resource.county == 1"),)}, "county"),
        ({"packs": (house("principal.label.level ="),)}, "not Cedar"),
        ({"packs": (house(NOTHING),)}, "`base` is not in it"),
        ({"home": "Morocco"}, "no country"),
        ({"two_person": ("gdrp",)}, "'gdrp', which is not in it"),
        ({"stale_after": {7: timedelta(hours=1)}}, "7 is no level"),
    ],
    ids=["attribute", "syntax", "base", "home", "two", "level"],
)
async def test_what_is_not_sound_is_refused_with_the_place(
    installed: Installed, change: dict[str, object], words: str
) -> None:
    book = replace(await drawn(installed), **change)  # type: ignore[arg-type]
    refused = await apply(installed, book, status=400)
    assert refused["error"]["code"] == "policy_unsound"
    assert words in refused["error"]["message"]
    assert refused["error"]["hint"]


async def test_a_token_that_only_deploys_changes_no_law(installed: Installed) -> None:
    made = await installed.post("/tokens", {"name": "ci", "grants": [{"role": "deployer"}]}, status=201)
    body = {**asdict(signed(installed, await drawn(installed, house(NOTHING)))), "based_on": 1}
    installed.api.headers["authorization"] = f"Bearer {made['token']}"
    for path in ("/policy/lawbooks", "/policy/lawbooks/1/approve", "/policy/grants"):
        await installed.post(path, body, status=403)


# --- history and rollback ---------------------------------------------------------------------------------------------


async def test_every_law_is_kept_and_an_older_one_can_hold_again(installed: Installed) -> None:
    await serving_under_house(installed)
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    await settled(installed)
    assert await published(installed) == []
    older = await installed.get("/policy/lawbooks/2")
    assert older["lawbook"]["state"] == "replaced"
    await apply(installed, await drawn(installed, house(NOTHING)))
    status = await settled(installed)
    assert status["in_force"]["version"] == 4
    assert status["in_force"]["loosens"]
    with installed.control.office.write() as work:
        uphold(work)
    assert await published(installed) == ["web"]
    page = await installed.get("/policy/lawbooks", limit=3)
    assert [(one["version"], one["state"]) for one in page["items"]] == [
        (4, "in-force"),
        (3, "replaced"),
        (2, "replaced"),
    ]
    rest = await installed.get("/policy/lawbooks", limit=3, cursor=page["next"])
    assert ([one["version"] for one in rest["items"]], rest["next"]) == ([1], None)


# --- site by site -----------------------------------------------------------------------------------------------------


async def failing(installed: Installed, name: str) -> None:
    """The agent takes what it was told, and says that the service does not start."""
    desired = await installed.agent.desired()
    assert desired is not None
    service = next(one for one in desired.services if one.name == name)
    installed.agent.applied = desired.version
    installed.agent.statuses[service.id] = ServiceStatus(service=service.id, state=ServiceState.FAILED)
    await installed.agent.report()


async def test_a_tightening_that_goes_wrong_halts_and_stays_until_a_person_decides(installed: Installed) -> None:
    await serving_under_house(installed)
    await installed.serving("other", data={"level": "internal"})
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    await failing(installed, "other")
    status = await settled(installed)
    assert (status["newest"]["state"], status["in_force"]["version"]) == ("halted", 2)
    assert "1 service failed there" in status["newest"]["note"]
    assert "web" not in await published(installed)
    resumed = await installed.post("/policy/lawbooks/3/resume", status=202)
    assert resumed["state"] == "rolling"
    assert (await settled(installed))["in_force"]["version"] == 3
    refused = await installed.post("/policy/lawbooks/3/resume", status=409)
    assert refused["error"]["code"] == "not_halted"


async def test_on_its_way_the_stricter_law_holds_for_what_is_new_and_each_site_s_own_for_what_runs(
    installed: Installed,
) -> None:
    await serving_under_house(installed)
    with installed.control.office.write() as work:
        (local,) = work.tx.sites.all()
        work.tx.sites.add(replace(local, id=SiteId("st-9"), name="other", token_sha256="9" * 64))
        (web,) = work.tx.services.all()
    there = replace(web, placement=_at(web.id, "st-9"))
    here, other = local.id, SiteId("st-9")

    def may(service: ServiceRecord, site: SiteId) -> bool:
        with installed.control.office.read() as work:
            place = places(work.tx.sites.all(), work.now)[site]
            return work.law.of(service).admit(site, Data(label=web.label), place, Purpose.PLACE).allowed

    new = replace(web, placement=None)
    made = await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    assert [one["site"] for one in made["arrived"]] == ["local"], "one site first"
    assert (may(web, here), may(there, other)) == (False, True), "what runs is under its site's own law"
    assert (may(new, here), may(new, other)) == (False, False), "nothing new comes to either"
    await settled(installed)
    assert not may(there, other)
    await apply(installed, await drawn(installed, house(NOTHING, version=3)))
    assert (may(new, here), may(new, other)) == (True, False), "what opens is open where it has arrived"
    await settled(installed)
    assert may(new, other)


async def test_a_site_that_is_lost_once_it_was_told_has_its_time_when_it_is_back(installed: Installed) -> None:
    await serving_under_house(installed)
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    with installed.control.office.write() as work:
        (local,) = work.tx.sites.all()
        lost = replace(local, id=SiteId("st-9"), name="other", token_sha256="9" * 64, seen_at=None)
        work.tx.sites.add(lost)
        record = under_way(work)
        assert record is not None
        (told,) = record.arrivals
        long_ago = replace(told, site=lost.id, at=work.now - PATIENCE, generation=10**6)
        work.tx.lawbooks.save(replace(record, arrivals=(told, long_ago)))
    with installed.control.office.write() as work:
        record = carry_on(work)
        assert record is not None
        assert {one.site: one.at for one in record.arrivals} == {local.id: told.at, lost.id: work.now}
        assert len(record.arrivals) == 2
        work.tx.sites.save(replace(lost, seen_at=work.now))
        record = carry_on(work)
        assert record is not None
        assert record.state is LawbookState.ROLLING


def _at(service: ServiceId, site: str) -> Placement:
    verdict = SiteVerdict(site=SiteId(site), verdict=Verdict.CHOSEN, reason="a test")
    return Placement(service=service, verdicts=(verdict,))


async def test_what_the_law_ends_does_not_hold_it_up_while_it_ends(installed: Installed) -> None:
    await serving_under_house(installed)
    desired = await installed.agent.desired()
    assert desired is not None
    (web,) = desired.services
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    installed.agent.statuses[web.id] = ServiceStatus(service=web.id, state=ServiceState.FAILED)
    assert (await settled(installed))["in_force"]["version"] == 3


async def test_a_loosening_that_goes_wrong_turns_back_by_itself(installed: Installed) -> None:
    await serving_under_house(installed)
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    await settled(installed)
    with installed.control.office.write() as work:
        uphold(work)
    await installed.agent.report()
    made = await apply(installed, await drawn(installed, house(NOTHING, version=3)))
    assert made["loosens"]
    with installed.control.office.write() as work:
        uphold(work)
    assert await published(installed) == ["web"]
    await failing(installed, "web")
    status = await settled(installed)
    assert (status["newest"]["version"], status["in_force"]["version"]) == (3, 3)
    assert (await installed.get("/policy/lawbooks/4"))["lawbook"]["state"] == "turned-back"
    assert await published(installed) == []


async def test_another_law_overtakes_one_that_is_on_its_way(installed: Installed) -> None:
    await serving_under_house(installed)
    await apply(installed, await drawn(installed, house(ALL, version=2)), even_so=True)
    await apply(installed, await drawn(installed, house(NOTHING, version=3)))
    assert (await installed.get("/policy/lawbooks/3"))["lawbook"]["note"] == "overtaken by version 4"
    with installed.control.office.write() as work:
        uphold(work)  # the loop may have taken its site from it meanwhile
    assert await published(installed) == ["web"]
    assert (await settled(installed))["in_force"]["version"] == 4
    assert (await installed.get("/policy/lawbooks/3"))["lawbook"]["state"] == "replaced"


# --- the second person ------------------------------------------------------------------------------------------------


async def test_a_pack_that_nobody_changes_alone_waits_for_a_second_person(installed: Installed) -> None:
    owner = [{"role": "owner"}]
    author, second = [
        (await installed.post("/tokens", {"name": name, "grants": owner}, status=201))["token"]
        for name in ("author", "second")
    ]
    installed.api.headers["authorization"] = f"Bearer {author}"
    own = (await installed.post("/tokens", {"name": "own", "grants": owner}, status=201))["token"]
    installed.clock.advance(timedelta(seconds=1))
    await apply(installed, await drawn(installed, house(NOTHING), two_person=("house",)), status=202)
    assert (await installed.get("/policy"))["proposed"]["note"] == "needs a second person: house"
    assert (await in_force(installed)).version == 1
    refused = await installed.post("/policy/lawbooks/2/approve", status=403)
    assert (refused["error"]["code"], "yourself" in refused["error"]["message"]) == ("second_person", True)
    installed.api.headers["authorization"] = f"Bearer {own}"
    made = await installed.post("/policy/lawbooks/2/approve", status=403)
    assert "whoever proposed it made your token" in made["error"]["message"]
    installed.api.headers["authorization"] = f"Bearer {author}"
    late = (await installed.post("/tokens", {"name": "late", "grants": owner}, status=201))["token"]
    first = installed.api.headers["authorization"]
    installed.api.headers["authorization"] = f"Bearer {late}"
    assert "younger" in (await installed.post("/policy/lawbooks/2/approve", status=403))["error"]["message"]
    installed.api.headers["authorization"] = f"Bearer {second}"
    made = await installed.post("/policy/lawbooks/2/approve", status=202)
    assert (made["state"], made["author"], made["approved_by"]) == ("rolling", "author", "second")
    await settled(installed)
    installed.api.headers["authorization"] = first
    unmarked = await apply(installed, await drawn(installed, two_person=()))
    assert unmarked["state"] == "proposed", "the mark is not taken away by one person either"
    plain = await apply(installed, await drawn(installed, *(one for one in shipped() if one.name == "ma-bank")))
    assert plain["state"] == "rolling", "what is not marked needs one person"
    assert (await installed.get("/policy/lawbooks/3"))["lawbook"]["state"] == "withdrawn"


# --- a captured database ----------------------------------------------------------------------------------------------


async def test_a_law_that_was_written_into_the_database_is_not_used(installed: Installed) -> None:
    """Whoever writes to the store can stop decisions; he cannot make law."""
    await serving_under_house(installed)
    office = installed.control.office
    with office.store.write() as tx:
        (held,) = tx.lawbooks.live()
        tx.lawbooks.save(replace(held, document=held.document.replace("forbid", "permit")))
    with pytest.raises(Unavailable, match="not signed"), office.read() as work:
        _ = work.law
    with pytest.raises(Unavailable), office.write():
        pass
    assert await published(installed) == ["web"], "what runs goes on as it was last decided"
    refused = await installed.post("/services/web/plan", _body(), status=503)
    assert refused["error"]["code"] == "law_unsigned"


async def test_no_law_at_all_is_no_leave(installed: Installed) -> None:
    store = installed.control.office.store
    assert isinstance(store, SqlStore)
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM lawbook"))
    refused = await installed.post("/services/web/plan", _body(), status=503)
    assert refused["error"]["code"] == "law_missing"


def _body() -> dict[str, object]:
    from installed import request

    return request(data=HOUSE)


async def test_a_change_by_another_process_is_seen(installed: Installed) -> None:
    """Another control plane on the same database: its law is this one's with the next question."""
    other = build(ControlSettings(data_dir=installed.control.folder.data_dir), installed.clock)
    book: Lawbook = await drawn(installed, house(NOTHING))
    with other.office.write() as work:
        held = work.tx.lawbooks.live()[0]
        made = signed(installed, book)
        work.tx.lawbooks.save(replace(held, state=LawbookState.REPLACED))
        work.tx.lawbooks.add(replace(held, version=2, document=made.document, signature=made.signature))
    other.close()
    assert (await installed.get("/policy"))["in_force"]["version"] == 2
    with installed.control.office.read() as work:
        assert "house" in work.law.newest.admissions.law.regimes
