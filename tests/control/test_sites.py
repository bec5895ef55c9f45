"""What an owner declares of sites: taken only as signed, only as the next word, and only for as long as it holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from declaring import TODAY, charter, declare, said
from installed import Installed

from kasbah.api.owner import CHARTER, LAWBOOK
from kasbah.control.usecases.uphold import uphold
from kasbah.domain.charter import Fact, Facts
from kasbah.domain.ids import SiteId
from kasbah.domain.site import SiteKind

MOROCCAN = {"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]}


OLD = Fact(value="HDS", source="a contract", since=date(2020, 1, 1), until=date(2021, 1, 1))


async def test_what_the_owner_signed_is_taken_and_shown_with_its_source(installed: Installed) -> None:
    status, answer = await declare(installed, await charter(installed))
    assert (status, answer["outcome"]) == (200, "created")
    seen = await installed.get("/sites/paris")
    assert (seen["kind"], seen["country"], seen["state"], seen["signed"]) == ("sovereign", "FR", "active", True)
    assert [(one["name"], one["value"], one["source"], one["holds"]) for one in seen["facts"]] == [
        ("country", "FR", "a contract", True)
    ]
    assert [one["name"] for one in (await installed.get("/sites"))["items"]] == ["local", "paris"]


async def test_the_same_again_is_no_news(installed: Installed) -> None:
    await declare(installed, await charter(installed))
    status, answer = await declare(installed, await charter(installed))
    assert (status, answer["outcome"]) == (200, "unchanged")


@pytest.mark.parametrize("how", ["another key", "another kind of document"])
async def test_what_the_owner_did_not_sign_as_this_is_refused(installed: Installed, how: str) -> None:
    stranger = Ed25519PrivateKey.generate() if how == "another key" else None
    context = CHARTER if stranger else LAWBOOK
    status, answer = await declare(installed, await charter(installed), key=stranger, context=context)
    assert (status, answer["error"]["code"]) == (403, "not_signed")
    assert [one["name"] for one in (await installed.get("/sites"))["items"]] == ["local"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        pytest.param({"installation": "in-other"}, 403, "other_installation", id="of another installation"),
        pytest.param({"version": 1, "kind": SiteKind.PUBLIC}, 409, "version_conflict", id="not a later version"),
        pytest.param({"site": "st-another", "version": 9}, 409, "name_taken", id="another site of that name"),
        pytest.param(
            {"version": 2, "facts": Facts(country=said("FR"), exposure=said(frozenset({"US"})))},
            400,
            "contradictory_facts",
            id="it contradicts itself",
        ),
        pytest.param(
            {"version": 2, "facts": Facts(certificates=(OLD,))},
            400,
            "contradictory_facts",
            id="an expired certificate",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_and_loses_nothing(
    installed: Installed, change: dict[str, Any], status: int, code: str
) -> None:
    first = await charter(installed)
    await declare(installed, first)
    found, answer = await declare(installed, replace(first, **change))
    assert (found, answer["error"]["code"]) == (status, code)
    assert (await installed.get("/sites/paris"))["version"] == 1


async def test_a_removed_site_does_not_come_back(installed: Installed) -> None:
    first = await charter(installed)
    await declare(installed, first)
    assert (await installed.api.delete("/sites/paris")).status_code == 204
    assert (await installed.api.get("/sites/paris")).status_code == 404
    status, answer = await declare(installed, replace(first, version=2))
    assert (status, answer["error"]["code"]) == (409, "site_removed")
    status, _ = await declare(installed, replace(first, site=SiteId("st-paris-2")))
    assert status == 200, "its name is free"


async def test_the_site_of_the_control_plane_is_not_removed(installed: Installed) -> None:
    answer = await installed.api.delete("/sites/local")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "own_site")


async def test_a_site_that_runs_something_is_removed_only_by_force(installed: Installed) -> None:
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        work.tx.sites.save(replace(site, name="rabat"))
    await installed.serving()
    answer = await installed.api.delete("/sites/rabat")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "site_in_use")
    assert "web" in answer.json()["error"]["message"]
    assert (await installed.api.delete("/sites/rabat", params={"force": True})).status_code == 204
    answer = await installed.agent.client.get("/agent/v1/desired", headers=installed.agent.headers)
    assert answer.status_code == 401, "its token is worth nothing any more"


async def test_a_fact_that_runs_out_takes_what_needed_it(installed: Installed) -> None:
    """Nothing happens but that time passes."""
    with installed.control.office.read() as work:
        (here,) = work.tx.sites.all()
    ends = Facts(country=said("MA", until=TODAY + timedelta(days=1)))
    status, _ = await declare(installed, replace(here.charter, version=here.charter.version + 1, facts=ends))
    assert status == 200
    await installed.serving(data=MOROCCAN)
    assert (await installed.get("/services/web"))["site"] == "local"
    installed.clock.advance(timedelta(days=2))
    with installed.control.office.write() as work:
        uphold(work)
    taken = await installed.get("/services/web")
    assert (taken["state"], taken["site"]) == ("waiting", None)
    assert "nobody declared the site's country" in taken["reason"]
