"""What the owner grants, signed and for a time: approvals lift rules, declassifications lower labels, and both end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installed import Installed, request

from kasbah.api.owner import APPROVAL, sign_document
from kasbah.control.loops.law import Law
from kasbah.domain.grant import Approval, GrantKind
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId

EUROPEAN = {"level": "restricted", "categories": ["personal"], "regimes": ["gdpr"]}
INTERNAL = {"level": "internal", "categories": [], "regimes": []}


async def published(installed: Installed) -> list[str]:
    document = await installed.agent.desired()
    assert document is not None
    return [one.name for one in document.services]


async def approval(installed: Installed, name: str = "gdpr-safeguards", **more: Any) -> Approval:
    service = ServiceId((await installed.get("/services/web"))["id"])
    plain = Approval(
        installation=InstallationId((await installed.get("/installation"))["id"]),
        name=name,
        services=(service,),
        projects=(),
        evidence="standard clauses of 2026-01-12, file 7",
        issued_at=installed.clock.now(),
        expires_at=installed.clock.now() + timedelta(days=30),
    )
    return replace(plain, **more)


async def approve(installed: Installed, document: Approval, *, status: int = 201) -> Any:
    return await installed.grant(GrantKind.APPROVAL, document, status=status)


async def approvals(installed: Installed) -> list[Any]:
    """What was granted, but for the deployer whom the first start named."""
    return [one for one in (await installed.get("/policy/grants"))["items"] if one["kind"] != GrantKind.DEPLOYER]


async def later(installed: Installed, by: timedelta) -> None:
    """Time passes, and the loop looks."""
    installed.clock.advance(by)
    await installed.agent.report()
    await Law(installed.control.office).uphold()


async def refused_service(installed: Installed) -> None:
    await installed.agent.report()
    await installed.deploy(data=EUROPEAN)
    assert await published(installed) == []


async def opened(installed: Installed) -> bool:
    (site,) = (await installed.get("/services/web/explain"))["sites"]
    return bool(site["verdict"] != "refused")


# --- approvals --------------------------------------------------------------------------------------------------------


async def test_an_approval_lifts_its_rule_for_its_service_and_is_told_with_its_end(installed: Installed) -> None:
    await refused_service(installed)
    made = await approve(installed, await approval(installed))
    assert (made["services"], made["in_force"], made["author"]) == (["web"], True, "admin")
    assert await opened(installed)
    await installed.serving(data=EUROPEAN)
    assert await published(installed) == ["web"]
    document = await installed.agent.desired()
    assert document is not None
    assert document.valid_until == installed.clock.now() + timedelta(days=30)
    with installed.control.office.read() as work:
        (service,) = work.tx.services.all()
        assert service.placement is not None
        assert service.placement.valid_until == document.valid_until


async def test_when_an_approval_ends_what_rested_on_it_ends(installed: Installed) -> None:
    await refused_service(installed)
    await approve(installed, await approval(installed))
    await installed.serving(data=EUROPEAN)
    await later(installed, timedelta(days=29))
    assert await published(installed) == ["web"]
    await later(installed, timedelta(days=1))
    assert await published(installed) == []
    assert "[gdpr.transfer]" in (await installed.get("/services/web"))["reason"]
    (listed,) = await approvals(installed)
    assert not listed["in_force"]


async def test_an_approval_that_is_taken_back_ends_at_once(installed: Installed) -> None:
    await refused_service(installed)
    made = await approve(installed, await approval(installed))
    await installed.serving(data=EUROPEAN)
    answer = await installed.api.delete(f"/policy/grants/{made['id']}")
    assert answer.status_code == 200
    assert await published(installed) == []
    assert (await installed.api.delete("/policy/grants/gr-0")).status_code == 404


@pytest.mark.parametrize("fault", ["service", "project", "site", "name"])
async def test_an_approval_is_for_what_it_names_alone(installed: Installed, fault: str) -> None:
    await refused_service(installed)
    await installed.deploy("other", data=EUROPEAN)
    other = ServiceId((await installed.get("/services/other"))["id"])
    with installed.control.office.write() as work:
        (site,) = work.tx.sites.all()
        away = replace(site, id=SiteId("st-9"), name="away", token_sha256="9" * 64)
        work.tx.sites.add(away)
    await installed.post("/projects", {"name": "elsewhere"}, status=201)
    projects = {one["name"]: ProjectId(one["id"]) for one in (await installed.get("/projects"))["items"]}
    document = await approval(installed)
    match fault:
        case "service":
            document = replace(document, services=(other,))
        case "project":
            document = replace(document, services=(), projects=(projects["elsewhere"],))
        case "site":
            document = replace(document, sites=(away.id,))
        case "name":
            document = replace(document, name="cndp-f118")
    await approve(installed, document)
    sites = (await installed.get("/services/web/explain"))["sites"]
    assert {one["site"] for one in sites if one["verdict"] == "refused" and one["rules"]} == (
        {"local"} if fault == "site" else {"local", "away"}
    )
    await approve(installed, await approval(installed, services=(), projects=(projects["default"],)))
    assert not [one for one in (await installed.get("/services/web/explain"))["sites"] if one["rules"]]


@pytest.mark.parametrize(
    ("change", "words", "where"),
    [
        ({"evidence": "  "}, "evidence says where this is written down, in 3 to 2,000", "evidence"),
        ({"expires_at": "now"}, "expired already", "expires_at"),
        ({"services": ()}, "for nobody", "document"),
        ({"services": (ServiceId("sv-0"),)}, "nothing here is sv-0", "document"),
        ({"sites": (SiteId("st-0"),)}, "nothing here is st-0", "document"),
        ({"name": "cndp-f119"}, "no rule in force is lifted by 'cndp-f119'", "document"),
    ],
    ids=["evidence", "expired", "nobody", "service", "site", "name"],
)
async def test_an_approval_that_is_not_sound_is_refused(
    installed: Installed, change: dict[str, Any], words: str, where: str
) -> None:
    await refused_service(installed)
    now = {"expires_at": installed.clock.now()} if "expires_at" in change else change
    refused = await approve(installed, await approval(installed, **now), status=400)
    assert words in refused["error"]["message"]
    assert (refused["error"]["param"], refused["error"]["code"]) == (where, "grant_unsound")
    assert not await opened(installed)


async def test_what_another_signed_or_wrote_into_the_database_approves_nothing(installed: Installed) -> None:
    await refused_service(installed)
    document = await approval(installed)
    forged = sign_document(Ed25519PrivateKey.generate(), APPROVAL, document)
    body = {"kind": "approval", "document": forged.document, "signature": forged.signature}
    await installed.post("/policy/grants", body, status=403)
    short = replace(document, expires_at=installed.clock.now() + timedelta(seconds=5))
    await approve(installed, short)
    with installed.control.office.store.write() as tx:
        (record,) = (one for one in tx.grants.newest(9) if one.kind is GrantKind.APPROVAL)
        tx.grants.save(replace(record, expires_at=record.expires_at + timedelta(days=99)))
        longer = record.document.replace("2026-03-01T12:00:05", "2027-03-01T12:00:05")
        assert longer != record.document
        tx.grants.add(replace(record, id="gr-2", document=longer, expires_at=record.expires_at + timedelta(days=99)))
    assert await opened(installed)
    installed.clock.advance(timedelta(seconds=6))
    await installed.agent.report()
    assert not await opened(installed)


# --- declassifications ------------------------------------------------------------------------------------------------


async def lowering(installed: Installed, *, status: int = 202, **data: Any) -> Any:
    return await installed.post("/services/web/deploys", request(data=data), status=status)


async def test_a_deploy_that_lowers_a_label_is_refused_with_the_command_that_allows_it(installed: Installed) -> None:
    await installed.serving(data={"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]})
    refused = await lowering(installed, status=403, level="internal", regimes=["ma-0908"])
    assert refused["error"]["code"] == "label_lowered"
    assert "from restricted (personal) under ma-0908 to internal under ma-0908" in refused["error"]["message"]
    command = "kasbah declassify web --to internal --regime ma-0908 --evidence WHERE --expires DATE"
    assert command in refused["error"]["hint"]
    assert (await installed.get("/services/web"))["data"]["level"] == "restricted"
    assert (await installed.post("/services/web/plan", request(data=INTERNAL), status=403))["error"]["code"]


async def test_a_label_falls_with_a_declassification_as_far_as_it_says_and_comes_back(installed: Installed) -> None:
    await installed.serving(data=EUROPEAN | {"regimes": ["ma-0908"]})
    await installed.declassify(level="internal", regimes=["ma-0908"])
    await lowering(installed, status=403, level="public", regimes=["ma-0908"])
    await lowering(installed, status=403, level="internal")
    await lowering(installed, level="internal", regimes=["ma-0908"])
    seen = await installed.get("/services/web")
    assert (seen["data"]["level"], seen["data"]["categories"]) == ("internal", [])
    document = await installed.agent.desired()
    assert document is not None
    assert document.valid_until == installed.clock.now() + timedelta(days=30)
    await later(installed, timedelta(days=30))
    seen = await installed.get("/services/web")
    assert (seen["data"]["level"], seen["data"]["categories"]) == ("restricted", ["personal"])
    await lowering(installed, status=403, level="internal", regimes=["ma-0908"])


async def test_a_label_that_comes_back_ends_what_may_not_be_there_then(installed: Installed) -> None:
    await installed.agent.report()
    await installed.deploy(data=EUROPEAN)
    await installed.declassify(**INTERNAL)
    await installed.serving(data=INTERNAL)
    assert await published(installed) == ["web"]
    await later(installed, timedelta(days=30))
    assert await published(installed) == []
    seen = await installed.get("/services/web")
    assert (seen["state"], "[gdpr.transfer]" in seen["reason"]) == ("waiting", True)


async def test_what_was_never_labelled_may_be_labelled_and_a_higher_label_needs_nobody(installed: Installed) -> None:
    await installed.serving()
    await lowering(installed, **INTERNAL)
    await lowering(installed, level="sensitive")
    await lowering(installed, status=403, **INTERNAL)
    await installed.post("/services/web/deploys", request(), status=202)  # unlabelled: as sensitive as declared
    await lowering(installed, status=403, **INTERNAL)


@pytest.mark.parametrize("days", [0, -1])
async def test_a_declassification_that_has_ended_is_refused(installed: Installed, days: float) -> None:
    await installed.serving(data=EUROPEAN | {"regimes": ["ma-0908"]})
    refused = await installed.declassify(days=days, status=400, **INTERNAL)
    assert "expired already" in refused["error"]["message"]
    await lowering(installed, status=403, **INTERNAL)
