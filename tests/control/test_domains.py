"""Domains of a service: who may have which, what a site is told, and where `ps` says it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_agent import FakeAgent
from installed import Installed, request

from kasbah.control.store.records import Project
from kasbah.domain.ids import ProjectId

SHOP = "shop.example.org"
OTHER = {"project": "other"}


async def refused(installed: Installed, name: str, *domains: str, status: int, **query: str) -> dict[str, str]:
    answer = await installed.api.post(
        f"/services/{name}/deploys", json=request(domains=list(domains)), params=query or None
    )
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert error["hint"]
    return error


def add_project(installed: Installed) -> None:
    with installed.control.office.store.write() as tx:
        tx.installations.add_project(Project(id=ProjectId("pr-other"), name="other"))


async def test_a_service_answers_at_its_domains(installed: Installed) -> None:
    await installed.serving(domains=["Shop.Example.ORG.", "www.example.org"])
    found = await installed.get("/services/web")
    assert found["domains"] == [SHOP, "www.example.org"]
    assert found["url"] == "http://web.localhost:8080/"
    desired = await installed.agent.desired()
    assert desired is not None
    assert desired.services[0].hosts == ("web.localhost", SHOP, "www.example.org")


async def test_domains_change_without_a_revision(installed: Installed) -> None:
    made = await installed.serving(domains=[SHOP])
    plan = await installed.post("/services/web/plan", request(domains=["new.example.org"]))
    assert plan["changes"] == [f"domains: {SHOP} -> new.example.org"]
    changed = await installed.deploy(domains=["new.example.org"])
    assert (changed["revision"], changed["created"]) == (made["revision"], False)
    assert (await installed.get("/services/web"))["domains"] == ["new.example.org"]
    await installed.deploy("second", domains=[SHOP])


async def test_a_domain_belongs_to_one_service(installed: Installed) -> None:
    await installed.deploy("web", domains=[SHOP])
    await installed.deploy("web", domains=[SHOP])
    error = await refused(installed, "second", "free.example.org", SHOP, status=409)
    assert (error["code"], error["param"]) == ("domain_taken", "config.domains")
    assert error["message"] == f"the domain {SHOP} is taken by the service web"
    answer = await installed.api.delete("/services/web")
    assert answer.status_code < 300
    await installed.deploy("second", domains=[SHOP])


async def test_whose_domain_it_is_stays_in_the_project(installed: Installed) -> None:
    add_project(installed)
    await installed.deploy("secret-plan", domains=[SHOP])
    error = await refused(installed, "web", SHOP, status=409, **OTHER)
    assert error["code"] == "domain_taken"
    assert error["message"] == f"the domain {SHOP} is taken"
    assert "secret-plan" not in str(error)
    assert "default" not in str(error)
    same_name = await refused(installed, "secret-plan", SHOP, status=409, **OTHER)
    assert same_name["code"] == "domain_taken"


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ("web.localhost", "domain_below_base"),
        ("a.kasbah.localhost", "domain_below_base"),
        ("rv-0123456789abcdef.shop.example.org", "domain_reserved"),
        ("*.example.org", "invalid"),
        ("example", "invalid"),
        ("192.168.0.1", "invalid"),
        ("exa_mple.org", "invalid"),
        ("-a.example.org", "invalid"),
        ("a..example.org", "invalid"),
        ("münchen.example", "invalid"),
        ("a.example.org:8080", "invalid"),
        ("https://a.example.org/", "invalid"),
        ("a" * 64 + ".example.org", "invalid"),
        ("a.b\n.org", "invalid"),
        ("a.example.org\n", "invalid"),
    ],
)
async def test_what_is_no_domain_of_one_s_own(installed: Installed, domain: str, code: str) -> None:
    assert (await refused(installed, "web", domain, status=400))["code"] == code


async def test_as_many_as_there_may_be(installed: Installed) -> None:
    many = [f"s{number}.example.org" for number in range(21)]
    await refused(installed, "web", *many, status=400)
    await refused(installed, "web", SHOP, SHOP, status=400)
    await installed.deploy("web", domains=many[:20])


async def test_a_base_domain_that_came_later_takes_its_hosts_back(installed: Installed) -> None:
    await installed.serving(domains=[SHOP, "example.org"])
    office = installed.control.office
    moved = replace(office, rules=replace(office.rules, base_domain="example.org"))
    with moved.write():
        pass
    desired = await installed.agent.desired()
    assert desired is not None
    assert desired.services[0].hosts == ("web.example.org", "example.org")


async def test_the_url_speaks_tls_where_there_is_a_certificate(installed: Installed) -> None:
    await installed.serving(domains=["www.example.org", SHOP])
    await reports_tls(installed.agent, "127.0.0.1:8443", (SHOP,))
    found = await installed.get("/services/web")
    assert found["url"] == f"https://{SHOP}:8443/"
    assert (found["host"], found["address"]) == ("web.localhost", "127.0.0.1:8080")
    await reports_tls(installed.agent, "0.0.0.0:443", ("*.example.org",))
    assert (await installed.get("/services/web"))["url"] == "https://www.example.org/"
    await reports_tls(installed.agent, "0.0.0.0:443", ("*.elsewhere.org",))
    assert (await installed.get("/services/web"))["url"] == "http://web.localhost:8080/"
    site = (await installed.get("/sites"))["items"][0]
    assert (site["tls"], site["tls_names"]) == ("0.0.0.0:443", ["*.elsewhere.org"])
    assert site["notes"] == ["shop.crt is refused"]


async def reports_tls(agent: FakeAgent, address: str, names: tuple[str, ...]) -> Any:
    agent.more = {"tls_address": address, "tls_names": names, "notes": ("shop.crt is refused",)}
    assert (await agent.report()).status_code == 204
