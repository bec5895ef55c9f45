"""The law at work in the control plane: what may not be at a site is not placed, published or sent there. The site here
stands on own premises in Morocco."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from charters import standing_in
from installed import SOURCE, Installed, request

from kasbah.api.manifest import DataSection
from kasbah.control.loops.law import Law
from kasbah.control.usecases.uphold import uphold
from kasbah.domain.ids import ServiceId
from kasbah.domain.label import CATEGORIES
from kasbah.domain.observed import PinnedPack, ServiceStatus, TurnedAway
from kasbah.domain.placement import Verdict
from kasbah.domain.service import ServiceState

INTERNAL = {"level": "internal"}
EUROPEAN = {"level": "restricted", "categories": ["personal"], "regimes": ["gdpr"]}
MOROCCAN = {"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]}


async def published(installed: Installed) -> list[str]:
    """The services that the site is asked to run."""
    document = await installed.agent.desired()
    assert document is not None
    return [one.name for one in document.services]


async def planned(installed: Installed, **config: Any) -> Any:
    return await installed.post("/services/web/plan", request(**config))


async def test_a_plan_says_by_which_rule_a_site_is_refused(installed: Installed) -> None:
    await installed.agent.report()
    plan = await planned(installed, data=EUROPEAN)
    (site,) = plan["sites"]
    assert site["verdict"] == Verdict.REFUSED
    assert "[gdpr.transfer]" in site["reason"]
    assert site["rules"][0]["citation"] == "GDPR, articles 44 to 46"
    assert [rule["id"] for rule in site["rules"]] == ["gdpr.transfer"]
    assert site["rules"][0]["approval"] == "gdpr-safeguards"
    assert "Choose a site in the EEA" in site["hint"]
    assert (site["rank"], site["opens"]) == (None, ["the approval gdpr-safeguards"])


async def test_a_service_is_explained_as_it_is_now(installed: Installed) -> None:
    await installed.serving(data=INTERNAL)
    found = await installed.get("/services/web/explain")
    assert (found["service"], found["data"]["level"], found["data_declared"]) == ("web", "internal", True)
    (site,) = found["sites"]
    assert (site["site"], site["verdict"], site["rank"]) == ("local", Verdict.CHOSEN, 1)
    assert (site["rules"], site["unmet"], site["opens"]) == ([], [], [])
    await installed.deploy(data=EUROPEAN)
    (site,) = (await installed.get("/services/web/explain"))["sites"]
    assert (site["verdict"], [rule["id"] for rule in site["rules"]]) == (Verdict.REFUSED, ["gdpr.transfer"])
    answer = await installed.api.get("/services/nobody/explain")
    assert answer.status_code == 404


async def test_a_service_that_may_be_nowhere_waits_and_its_source_is_asked_for_by_nobody(installed: Installed) -> None:
    await installed.agent.report()
    made = await installed.deploy(data=EUROPEAN)
    assert made["rollout"]["state"] == "waiting"
    assert "gdpr.transfer" in made["rollout"]["reason"]
    assert made["uploads"] == []
    assert not await published(installed)
    refused = await installed.post("/services/web/upload-doors", {"digest": SOURCE, "size": 1_000}, status=503)
    assert "may have it" in refused["error"]["message"]


async def test_the_same_service_under_the_site_s_own_law_is_placed(installed: Installed) -> None:
    await installed.agent.report()
    made = await installed.deploy(data=MOROCCAN)
    assert made["uploads"]
    assert await published(installed) == ["web"]


async def test_what_is_not_labelled_counts_as_sensitive_and_runs_on_own_premises(installed: Installed) -> None:
    await installed.agent.report()
    (site,) = (await planned(installed))["sites"]
    assert site["verdict"] == Verdict.CHOSEN


async def test_a_service_whose_label_rises_past_its_site_ends_there_at_once(installed: Installed) -> None:
    await installed.serving(data=INTERNAL)
    plan = await planned(installed, data=EUROPEAN)
    assert any(change.startswith("it ends at site local: ") for change in plan["changes"])
    await installed.deploy(data=EUROPEAN)
    assert not await published(installed)
    seen = await installed.get("/services/web")
    assert (seen["state"], seen["site"]) == ("waiting", None)
    assert "it may be at no site. local: " in seen["reason"]
    await installed.declassify(**MOROCCAN)
    back = await planned(installed, data=MOROCCAN)
    assert "site local runs it again" in back["changes"]
    await installed.deploy(data=MOROCCAN)
    assert await published(installed) == ["web"]


async def test_a_site_that_is_given_a_service_back_is_sent_its_source_again(installed: Installed) -> None:
    """What the law took was erased there, whatever the site said of it before."""
    await installed.serving(data=INTERNAL)
    await installed.deploy(data=EUROPEAN)
    await installed.declassify(**MOROCCAN)
    back = await installed.deploy(data=MOROCCAN)
    assert (back["rollout"], [one["path"] for one in back["uploads"]]) == (None, [f"/v1/blobs/{SOURCE}"])


async def test_a_source_that_a_site_lacks_is_sent_again_with_the_next_deploy(installed: Installed) -> None:
    """As after a change of the law and back: the site has its place again, and says that it has no source."""
    await installed.serving(data=INTERNAL)
    service = (await installed.agent.desired()).services[0]
    waits = ServiceStatus(service=service.id, state=ServiceState.WAITING, reason="its source is not here")
    installed.agent.statuses[service.id] = waits
    await installed.agent.report()
    seen = await installed.get("/services/web")
    assert (seen["state"], seen["reason"]) == ("waiting", "its source is not here")
    body, once = request(data=INTERNAL) | {"attested": None}, {"idempotency-key": "once"}
    for _ in range(2):
        again = await installed.post("/services/web/deploys", body, status=202, **once)
        assert (again["rollout"], [one["standby"] for one in again["uploads"]]) == (None, [False])


async def test_a_service_that_was_placed_is_not_published_where_the_law_forbids_it(installed: Installed) -> None:
    """Whatever is written in the store: what reaches a site is asked about again."""
    await installed.serving(data=MOROCCAN)
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        work.tx.sites.save(standing_in(site, "US"))
    assert not await published(installed)


async def test_a_country_that_is_declared_later_opens_the_site(installed: Installed) -> None:
    await installed.agent.report()
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        work.tx.sites.save(standing_in(site, None))
    made = await installed.deploy(data=MOROCCAN)
    assert "kasbah up --country" in made["rollout"]["reason"]
    with installed.control.office.write() as work:
        work.tx.sites.save(site)
    rollout = await installed.get(f"/rollouts/{made['rollout']['id']}", after=made["rollout"]["version"], wait=10)
    assert "waiting for the source" in rollout["reason"]


async def test_a_category_that_no_policy_knows_is_refused_with_the_nearest(installed: Installed) -> None:
    answer = await installed.post(
        "/services/web/plan", request(data={"level": "internal", "categories": ["heath"]}), status=400
    )
    assert "did you mean health?" in answer["error"]["message"]


async def test_what_the_law_took_is_given_back_once_the_site_may_have_it_and_reports(installed: Installed) -> None:
    await installed.serving(data=MOROCCAN)
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        work.tx.sites.save(standing_in(site, "US"))
        assert uphold(work), "it may be nowhere, so nothing waits"
    taken = await installed.get("/services/web")
    assert (taken["state"], taken["site"]) == ("waiting", None)
    assert "[ma-0908.transfer]" in taken["reason"]
    installed.clock.advance(timedelta(minutes=1))
    with installed.control.office.write() as work:
        work.tx.sites.save(standing_in(site, "MA"))
        assert not uphold(work), "it waits until its site reports"
    await installed.agent.report()
    with installed.control.office.write() as work:
        assert uphold(work)
    assert (await installed.get("/services/web"))["site"] == "local"
    assert await published(installed) == ["web"]


async def test_every_category_that_policies_know_can_be_written_in_a_file(installed: Installed) -> None:
    await installed.agent.report()
    plan = await planned(installed, data={"level": "internal", "categories": sorted(CATEGORIES)})
    assert plan["sites"][0]["verdict"] == Verdict.CHOSEN


async def test_a_site_that_refuses_a_service_itself_loses_it_and_gets_it_back_when_it_does_not(
    installed: Installed,
) -> None:
    """Its own owner pinned a stricter pack: the control plane hears of it by what the site turns away."""
    await installed.serving(data=MOROCCAN)
    service = (await installed.get("/services/web"))["id"]
    label = DataSection(**MOROCCAN).to_domain()  # type: ignore[arg-type]
    refusal = TurnedAway(service=ServiceId(service), label=label, reason="a pack refuses it: house.none")
    pack = PinnedPack(name="house", version=1, digest="sha256:" + "0" * 64)
    installed.agent.more = {"turned_away": (refusal,), "packs": (pack,)}
    await installed.agent.report()
    (site,) = (await installed.get("/services/web/explain"))["sites"]
    assert (site["verdict"], site["reason"]) == (
        Verdict.REFUSED,
        "the site itself refuses it: a pack refuses it: house.none",
    )
    assert (await installed.get("/sites/local"))["packs"] == [
        {"name": "house", "version": 1, "digest": "sha256:" + "0" * 64}
    ]
    await Law(installed.control.office).uphold()
    taken = await installed.get("/services/web")
    assert (taken["state"], taken["site"]) == ("waiting", None)
    assert "the site itself refuses it" in taken["reason"]
    assert not await published(installed)
    installed.agent.more = {}
    await installed.agent.report()
    await Law(installed.control.office).uphold()
    assert (await installed.get("/services/web"))["site"] == "local"
    assert await published(installed) == ["web"]


async def test_a_refusal_of_another_label_counts_no_more(installed: Installed) -> None:
    await installed.serving(data=MOROCCAN)
    service = (await installed.get("/services/web"))["id"]
    refusal = TurnedAway(service=ServiceId(service), label=DataSection(**INTERNAL).to_domain(), reason="x")  # type: ignore[arg-type]
    installed.agent.more = {"turned_away": (refusal,)}
    await installed.agent.report()
    (site,) = (await installed.get("/services/web/explain"))["sites"]
    assert site["verdict"] == Verdict.CHOSEN
