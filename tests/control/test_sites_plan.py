"""What is said of a site decides as much as the law does: what it would end is seen before, and bounded as a law is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from declaring import charter, declare, said
from installed import Installed

from kasbah.api.owner import CHARTER, load, sign_document, write_document
from kasbah.domain.charter import Charter, Facts
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.site import SiteKind

MOROCCAN = {"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]}
FRENCH = Facts(country=said("FR"))


async def here(installed: Installed, **changed: Any) -> Charter:
    """The next word of the site `local`."""
    with installed.control.office.read() as work:
        (site,) = work.tx.sites.all()
    return replace(site.charter, version=site.charter.version + 1, **changed)


async def planned(installed: Installed, *charters: Charter) -> Any:
    return await installed.post("/sites/plan", {"documents": [write_document(one) for one in charters]})


async def together(installed: Installed, *charters: Charter) -> Any:
    key, said = load(installed.control.folder.owner_key), []
    for one in charters:
        signed = sign_document(key, CHARTER, one)
        said.append({"name": one.name, "document": signed.document, "signature": signed.signature})
    return await installed.api.put("/sites", json={"charters": said})


async def even_so(installed: Installed, next_word: Charter) -> Any:
    signed = sign_document(load(installed.control.folder.owner_key), CHARTER, next_word)
    body = {"document": signed.document, "signature": signed.signature, "even_so": True}
    return await installed.api.put(f"/sites/{next_word.name}", json=body)


async def test_what_would_end_is_told_and_refused_beyond_the_limit(installed: Installed) -> None:
    await installed.serving(data=MOROCCAN)
    moved = await here(installed, facts=FRENCH)
    found = await planned(installed, moved)
    assert (found["losing"], found["stranded"], found["too_far"], found["allowed"]) == (1, ["web"], True, 0)
    (ending,) = found["ends"]
    assert (ending["service"], ending["site"], ending["others"]) == ("web", "local", [])
    assert ending["reason"]
    assert ending["reopens"]

    status, answer = await declare(installed, moved)
    assert (status, answer["error"]["code"]) == (409, "blast_radius")
    assert "what 1 of 1 services have or call, and leave 1 with nowhere to go; the limit is 0" in str(answer)
    assert "kasbah sites plan" in answer["error"]["hint"]
    assert (await installed.get("/sites/local"))["country"] == "MA", "what is refused changes nothing"

    assert (await even_so(installed, moved)).status_code == 200
    assert (await installed.get("/sites/local"))["country"] == "FR"
    entries = (await installed.get("/audit/entries", act="declare"))["items"]
    assert [one["details"] for one in entries] == [{"even_so": "yes"}]


async def test_what_has_another_place_to_go_is_named_with_it(installed: Installed) -> None:
    await installed.serving(data=MOROCCAN)
    other = await charter(installed, "rabat", kind=SiteKind.ON_PREM, facts=(await here(installed)).facts)
    found = await planned(installed, await here(installed, facts=FRENCH), other)
    assert found["stranded"] == []
    assert found["ends"][0]["others"] == ["rabat"]
    assert {"service": "web", "site": "rabat"} in found["opens"]


async def test_what_ends_nothing_is_taken_without_a_word(installed: Installed) -> None:
    await installed.serving(data=MOROCCAN)
    with_more = await here(installed)
    with_more = replace(with_more, facts=replace(with_more.facts, operator_home=said("MA")))
    assert (await planned(installed, with_more))["losing"] == 0
    assert (await declare(installed, with_more))[0] == 200
    assert (await declare(installed, await charter(installed)))[0] == 200, "a new site that runs services ends nothing"


async def test_several_are_taken_together_or_not_at_all(installed: Installed) -> None:
    """A host moves from one place to another: each word alone would end a call, both together none."""
    first = await charter(installed, "a-mail", kind=SiteKind.ON_PREM, hosts=("mail.example.com", "x.example.com"))
    other = await charter(installed, "b-mail", kind=SiteKind.ON_PREM, hosts=("y.example.com",))
    assert [one["outcome"] for one in (await together(installed, first, other)).json()["sites"]] == ["created"] * 2
    await installed.serving(data={"level": "sensitive"}, egress=["mail.example.com:443"])
    moved = (
        replace(first, version=2, hosts=("x.example.com",)),
        replace(other, version=2, hosts=("y.example.com", "mail.example.com")),
    )
    assert (await planned(installed, *moved))["losing"] == 0
    assert (await declare(installed, moved[0]))[1]["error"]["code"] == "blast_radius"
    gone = replace(moved[1], hosts=("y.example.com",), kind=SiteKind.PUBLIC)
    refused = await together(installed, moved[0], gone)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "blast_radius")
    assert (await installed.get("/sites/a-mail"))["version"] == 1, "none of them is taken"
    taken = (await together(installed, *moved)).json()["sites"]
    assert [(one["site"]["name"], one["outcome"]) for one in taken] == [("a-mail", "changed"), ("b-mail", "changed")]
    again = (await together(installed, *moved)).json()["sites"]
    assert [one["outcome"] for one in again] == ["unchanged"] * 2


async def test_a_new_place_can_cut_a_call_too(installed: Installed) -> None:
    vault = await charter(installed, "vault", kind=SiteKind.ON_PREM, hosts=("192.0.2.0/24",))
    assert (await declare(installed, vault))[0] == 200
    await installed.serving(data={"level": "sensitive"}, egress=["192.0.2.7:443"])
    abroad = await charter(installed, "abroad", kind=SiteKind.PUBLIC, hosts=("192.0.2.7",))
    assert (await planned(installed, abroad))["too_far"]
    assert (await declare(installed, abroad))[1]["error"]["code"] == "blast_radius"
    assert (await even_so(installed, abroad)).status_code == 200


async def test_a_call_that_would_be_cut_counts(installed: Installed) -> None:
    place = await charter(installed, "mailer", kind=SiteKind.ON_PREM, hosts=("mail.example.com",))
    assert (await declare(installed, place))[0] == 200
    await installed.serving(data={"level": "sensitive"}, egress=["mail.example.com:443"])
    found = await planned(installed, replace(place, version=2, kind=SiteKind.PUBLIC))
    assert [(one["service"], one["to"]) for one in found["cuts"]] == [("web", "mail.example.com:443")]
    assert found["too_far"]
    answer = await installed.api.delete("/sites/mailer")
    assert (answer.status_code, answer.json()["error"]["message"]) == (409, "services call 'mailer': web")
    assert (await installed.api.delete("/sites/mailer", params={"force": True})).status_code == 204


async def test_what_cannot_be_is_said_before_it_is_signed(installed: Installed) -> None:
    old = replace(await here(installed), version=1)
    body = {"documents": [write_document(replace(old, facts=FRENCH))]}
    answer = await installed.api.post("/sites/plan", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "version_conflict")
    answer = await installed.api.post("/sites/plan", json={"documents": ["{}"]})
    assert answer.status_code == 400, answer.text
    other = await charter(installed, installation=InstallationId("in-other"))
    answer = await installed.api.post("/sites/plan", json={"documents": [write_document(other)]})
    assert answer.json()["error"]["code"] == "other_installation"
    twice = [await charter(installed), await charter(installed, site=SiteId("st-another"))]
    answer = await installed.api.post("/sites/plan", json={"documents": [write_document(one) for one in twice]})
    assert (answer.status_code, "declared twice" in answer.text) == (409, True)
    answer = await together(installed, twice[0], twice[0])
    assert (answer.status_code, "named twice" in answer.text) == (400, True)
