"""Places that are only called: declared as sites are, running nothing, and deciding what a service may call."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from declaring import TODAY, charter, declare, said
from installed import Installed, request

from kasbah.control.usecases.uphold import uphold
from kasbah.domain.charter import Facts
from kasbah.domain.site import CLOSABLE, OPEN, SiteKind

API = "api.example.com:443"
SENSITIVE, RESTRICTED = {"level": "sensitive"}, {"level": "restricted"}


async def vault(installed: Installed, **more: Any) -> None:
    plain: dict[str, Any] = {"kind": SiteKind.ON_PREM, "hosts": ("api.example.com",)}
    status, answer = await declare(installed, await charter(installed, "vault", **(plain | more)))
    assert status == 200, answer


async def refused(installed: Installed, **config: Any) -> Any:
    answer = await installed.api.post("/services/web/deploys", json=request(**config))
    assert answer.status_code == 403, answer.text
    return answer.json()["error"]


async def test_it_is_shown_and_runs_nothing(installed: Installed) -> None:
    await vault(installed)
    await installed.serving(data=SENSITIVE)
    assert [one["name"] for one in (await installed.get("/sites"))["items"]] == ["local", "vault"]
    assert (await installed.get("/sites/vault"))["hosts"] == ["api.example.com"]
    explained = await installed.get("/services/web/explain")
    assert [one["site"] for one in explained["sites"]] == ["local"]


@pytest.mark.parametrize("path", ["tokens", "drain"])
async def test_nobody_joins_as_it_and_it_is_not_drained(installed: Installed, path: str) -> None:
    await vault(installed)
    answer = await installed.api.post(f"/sites/vault/{path}", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "only_called")


async def test_it_does_not_become_a_site_that_runs_services_nor_a_site_it(installed: Installed) -> None:
    await vault(installed)
    status, answer = await declare(installed, await charter(installed, "vault", version=2, kind=SiteKind.ON_PREM))
    assert (status, answer["error"]["code"]) == (409, "hosts_fixed")
    await declare(installed, await charter(installed))
    status, answer = await declare(installed, await charter(installed, version=2, hosts=("10.0.0.0/8",)))
    assert (status, answer["error"]["code"]) == (409, "hosts_fixed")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("service:web", "a service of ours"),
        ("10.0.0.1/8", "do you mean 10.0.0.0/8"),
        ("https://a.b", "address of a page"),
    ],
)
async def test_hosts_that_cannot_be_are_refused(installed: Installed, entry: str, words: str) -> None:
    status, answer = await declare(installed, await charter(installed, "vault", hosts=(entry,)))
    assert (status, answer["error"]["code"]) == (400, "contradictory_facts")
    assert words in answer["error"]["message"]


async def test_what_nobody_declared_is_refused_at_the_deploy(installed: Installed) -> None:
    await installed.agent.report()
    error = await refused(installed, data=SENSITIVE, egress=[API])
    assert (error["code"], error["param"]) == ("policy_denied", "config.egress")
    assert f"hosts: [{API}]" in error["hint"]
    planned = await installed.post("/services/web/plan", request(data=SENSITIVE, egress=[API]))
    (call,) = planned["egress"]["calls"]
    assert (call["to"], call["allowed"], planned["egress"]["anywhere"]) == (API, False, False)
    assert [one["id"] for one in call["unmet"]] == ["base.sensitive", "base.vital"]
    await vault(installed)
    await installed.deploy(data=SENSITIVE, egress=[API])


async def test_the_site_is_told_of_the_places_that_its_services_name_and_of_no_others(installed: Installed) -> None:
    await vault(installed)
    await declare(installed, await charter(installed, "other", kind=SiteKind.ON_PREM, hosts=("10.0.0.0/8",)))
    await installed.serving(data=SENSITIVE, egress=[API])
    told = await installed.agent.desired()
    assert told is not None
    assert [("vault" in one.document, "10.0.0.0/8" in one.document) for one in told.charters] == [
        (False, False),
        (True, False),
    ]


async def test_a_site_is_told_of_all_places_where_a_service_could_call_any(installed: Installed) -> None:
    """It asks about each of them before it opens everything."""
    await vault(installed)
    await installed.serving(data={"level": "internal"})
    told = await installed.agent.desired()
    assert told is not None
    assert any("vault" in one.document for one in told.charters)


async def test_what_a_place_was_said_to_be_closes_when_it_ends(installed: Installed) -> None:
    ends = Facts(country=said("FR", until=TODAY + timedelta(days=1)))
    french = {"level": "restricted", "categories": ["personal"], "regimes": ["gdpr"]}
    with installed.control.office.read() as work:
        (here,) = work.tx.sites.all()
    at_home = replace(here.charter, version=here.charter.version + 1, facts=Facts(country=said("FR")))
    assert (await declare(installed, at_home))[0] == 200
    await vault(installed, kind=SiteKind.PUBLIC, facts=ends)
    await installed.serving(data=french, egress=[API])
    installed.clock.advance(timedelta(days=2))
    with installed.control.office.write() as work:
        uphold(work)
    (call,) = (await installed.get("/services/web/explain"))["egress"]["calls"]
    assert not call["allowed"]
    assert "api.example.com:443 is at vault" in call["reason"]
    assert "gdpr.transfer" in [one["id"] for one in call["rules"]]


async def test_a_service_of_a_lower_label_is_not_called(installed: Installed) -> None:
    await installed.agent.report()
    await installed.deploy("low", data={"level": "internal"})
    error = await refused(installed, data=SENSITIVE, calls=["low"])
    assert (error["code"], error["param"]) == ("policy_denied", "config.calls")
    assert "would get data labelled 3 sensitive" in error["message"]


@pytest.mark.parametrize(
    ("keeps", "config", "runs"),
    [
        (OPEN, {"data": SENSITIVE}, False),
        (OPEN, {}, False),
        (OPEN, {"data": RESTRICTED}, True),
        (OPEN, {"data": RESTRICTED, "egress": []}, False),
        (CLOSABLE, {}, True),
        (CLOSABLE, {"data": SENSITIVE, "calls": ["other"]}, False),
        (CLOSABLE, {"data": {"level": "internal"}, "egress": ["10.0.0.0/8"]}, False),
    ],
)
async def test_a_site_that_cannot_keep_to_it_is_refused_from_level_3_and_where_the_file_asks(
    installed: Installed, keeps: str, config: dict[str, Any], runs: bool
) -> None:
    installed.agent.keeps = keeps
    await installed.agent.report()
    (site,) = (await installed.post("/services/web/plan", request(**config)))["sites"]
    assert (site["verdict"] == "chosen") is runs
    assert runs or f"cannot be limited there (egress: {keeps})" in site["reason"]
