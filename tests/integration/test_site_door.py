"""The site's own door behind a real gateway: a ticket opens it for one act on one object, for a while."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from no_sandbox import no_sandbox
from owner import NOW, SITE, Owner
from real_gateway import Site
from site_runner import DEADLINE, until

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import Builder
from kasbah.agent.door import Door
from kasbah.agent.ledger import Ledger
from kasbah.agent.paths import Paths
from kasbah.agent.revisions import Revisions
from kasbah.agent.serving import serve_unix
from kasbah.agent.shelf import Shelf
from kasbah.agent.space import Housekeeper
from kasbah.agent.visitors import Visitors
from kasbah.api.agent import Visitor
from kasbah.api.bundle import pack
from kasbah.clock import ManualClock
from kasbah.decide.keeping import AtWork
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.revision import Revision, Runtime, Volume
from kasbah.domain.service import Service, Share
from kasbah.settings import Limits

pytestmark = pytest.mark.real

SERVICE = "sv-0000000000000000"
REPLICA = "rp-0000000000000001"
REVISION = "rv-0000000000000002"


@dataclass
class Opened:
    """A door, its gateway and who signs for it."""

    owner: Owner
    paths: Paths
    blobs: BlobStore
    clock: ManualClock
    client: httpx.AsyncClient
    ledger: Ledger
    digest: Digest
    source: bytes
    stored: list[str]
    visitors: Visitors
    allowed: set[str]

    async def ask(self, method: str, path: str, ticket: str = "", **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {ticket}"} if ticket else {}
        return await self.client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    async def put(self, ticket: str, content: bytes | None = None) -> httpx.Response:
        return await self.ask("PUT", f"/v1/blobs/{self.digest}", ticket, content=content or self.source)

    def write_log(self, name: str, *lines: str) -> None:
        folder = self.paths.logs / SERVICE
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.log").open("a") as log:
            log.writelines(f"2026-03-01T12:00:0{at}.000000Z stdout F {line}\n" for at, line in enumerate(lines))


@pytest.fixture
async def door(gateway: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Opened]:
    folder = tmp_path_factory.mktemp("source")
    (folder / "app.py").write_text("print('hello')\n")
    bundle = pack(folder)
    owner, paths, clock, stored = Owner(), gateway.paths, ManualClock(NOW), []
    ledger = Ledger(paths.ledger)
    ledger.pin(owner.identity)
    blobs = BlobStore(paths, Limits())
    builder = Builder(paths, Limits(), blobs, sandboxes=no_sandbox)
    revisions = Revisions(paths, builder, blobs, asyncio.create_task, lambda: None)
    keeper = Housekeeper(paths, Limits(), revisions, clock, lambda: ledger.desired, AtWork)
    shelf = Shelf(paths, lambda: ledger.desired, AtWork)
    allowed = {"tk-a"}

    async def ask(visitors: tuple[Visitor, ...]) -> tuple[Visitor, ...]:
        return tuple(one for one in visitors if one.holder in allowed)

    visitors = Visitors(ask)
    door = Door(paths, ledger, blobs, clock, lambda: stored.append("stored"), keeper, shelf, visitors)
    serving = asyncio.create_task(serve_unix(door.app(), paths.door_socket))
    await until(paths.door_socket.exists)
    async with gateway.client("kasbah") as client:
        source = bundle.path.read_bytes()
        bundle.path.unlink()
        yield Opened(owner, paths, blobs, clock, client, ledger, bundle.digest, source, stored, visitors, allowed)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_source_comes_in_once(door: Opened) -> None:
    ticket = door.owner.ticket("blob.put", door.digest)
    assert (await door.ask("HEAD", f"/v1/blobs/{door.digest}", ticket)).status_code == 404
    first = await door.put(ticket)
    assert (first.status_code, first.json()) == (201, {"digest": door.digest})
    assert (await door.put(ticket)).status_code == 200
    assert (await door.ask("HEAD", f"/v1/blobs/{door.digest}", ticket)).status_code == 200
    assert door.blobs.path(door.digest).exists()
    assert door.stored


async def test_a_source_that_is_not_what_its_name_says(door: Opened) -> None:
    answer = await door.put(door.owner.ticket("blob.put", door.digest), door.source[:-20])
    assert answer.status_code == 400
    assert not door.blobs.has(door.digest)
    assert not door.stored


async def test_a_source_over_the_tickets_limit(door: Opened) -> None:
    answer = await door.put(door.owner.ticket("blob.put", door.digest, limit=10))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


OTHER = "sha256:" + "0" * 64


async def test_tickets_that_do_not_open(door: Opened) -> None:
    def ticket(act: str = "blob.put", **fields: object) -> str:
        return door.owner.ticket(act, fields.pop("object", door.digest), **fields)  # type: ignore[arg-type]

    good = ticket()
    payload, _, signature = good.partition(".")
    refused = {
        "": (401, "unauthenticated"),
        Owner().ticket("blob.put", door.digest): (403, "denied"),
        ticket("logs.read"): (403, "denied"),
        ticket(object=OTHER): (403, "denied"),
        ticket(site=SiteId("st-else")): (403, "denied"),
        ticket(age=timedelta(minutes=10)): (403, "ticket_expired"),
        f"{payload}.": (403, "denied"),
        f"{payload[:-2]}AA.{signature}": (403, "denied"),
        f"{payload}.{ticket(object=OTHER).partition('.')[2]}": (403, "denied"),
        "x": (403, "denied"),
        "." * 3: (403, "denied"),
        "x" * 10_000: (403, "denied"),
    }
    for text, (status, code) in refused.items():
        answer = await door.put(text)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), text[:80]
        assert (await door.ask("HEAD", f"/v1/blobs/{door.digest}", text)).status_code == status
    assert not door.blobs.has(door.digest)
    assert (await door.put(good)).status_code == 201


async def test_a_ticket_dies(door: Opened) -> None:
    ticket = door.owner.ticket("blob.put", door.digest)
    door.clock.advance(timedelta(minutes=10))
    answer = await door.put(ticket)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ticket_expired")
    assert "new one" in answer.json()["error"]["hint"]


async def test_another_scheme_is_no_ticket(door: Opened) -> None:
    ticket = door.owner.ticket("blob.put", door.digest)
    answer = await door.client.head(f"/v1/blobs/{door.digest}", headers={"authorization": f"Basic {ticket}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("digest", ["sha256:short", "..%2f..%2fetc%2fpasswd", "sha512:" + "0" * 64])
async def test_what_is_no_digest(door: Opened, digest: str) -> None:
    answer = await door.ask("HEAD", f"/v1/blobs/{digest}", door.owner.ticket("blob.put", digest))
    assert answer.status_code in (400, 403, 404)
    assert [path.name for path in door.paths.blobs.iterdir()] == []


@pytest.mark.parametrize("path", ["/", "/v1/blobs", "/v1/services/x", "/metrics"])
async def test_nothing_else_is_behind_the_door(door: Opened, path: str) -> None:
    assert (await door.ask("GET", path, door.owner.ticket("logs.read", SERVICE))).status_code == 404


# --- logs -------------------------------------------------------------------------------------------------------------


def texts(answer: httpx.Response) -> list[str]:
    return [json.loads(line)["text"] for line in answer.text.splitlines()]


async def test_logs_are_read(door: Opened) -> None:
    door.write_log(REPLICA, "one", "two \u00e9", "three")
    door.write_log(f"build-{REVISION}", "built")
    ticket = door.owner.ticket("logs.read", SERVICE)
    path = f"/v1/services/{SERVICE}/logs"
    answer = await door.ask("GET", path, ticket)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    first = json.loads(answer.text.splitlines()[0])
    assert (first["replica"], first["stream"]) == (REPLICA, "stdout")
    assert texts(answer)[-1] == "three"
    assert texts(await door.ask("GET", f"{path}?tail=1&replica={REPLICA}", ticket)) == ["three"]
    assert texts(await door.ask("GET", f"{path}?tail=0", ticket)) == []
    assert texts(await door.ask("GET", f"{path}?build={REVISION}", ticket)) == ["built"]
    assert texts(await door.ask("GET", f"{path}?replica=rp-{'9' * 16}", ticket)) == []


async def test_logs_are_not_read_by_who_may_no_more(door: Opened) -> None:
    """He has a ticket, and was switched off since."""
    door.write_log("rp-1", "secret")
    ticket, path = door.owner.ticket("logs.read", SERVICE, holder="tk-a"), f"/v1/services/{SERVICE}/logs"
    assert "secret" in (await door.ask("GET", path, ticket)).text
    door.allowed.clear()
    for query in ("", "?follow=1"):
        answer = await door.ask("GET", path + query, ticket)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "sent_away")
        assert "secret" not in answer.text


async def test_logs_are_followed_as_they_come(door: Opened) -> None:
    door.write_log(REPLICA, "one")
    ticket = door.owner.ticket("logs.read", SERVICE)
    headers = {"authorization": f"Bearer {ticket}"}
    heard = []
    async with asyncio.timeout(DEADLINE):
        path = f"/v1/services/{SERVICE}/logs?follow=1"
        async with door.client.stream("GET", path, headers=headers) as answer:
            async for line in answer.aiter_lines():
                heard.append(json.loads(line)["text"])
                if len(heard) == 3:
                    break
                door.write_log(REPLICA, f"line {len(heard)}")
    assert heard == ["one", "line 1", "line 2"]


async def test_a_log_is_followed_for_as_long_as_that_is_allowed(door: Opened) -> None:
    door.write_log(REPLICA, "one")
    headers = {"authorization": f"Bearer {door.owner.ticket('logs.read', SERVICE, holder='tk-a')}"}
    async with (
        asyncio.timeout(DEADLINE),
        door.client.stream("GET", f"/v1/services/{SERVICE}/logs?follow=1", headers=headers) as answer,
    ):
        lines = answer.aiter_lines()
        assert json.loads(await anext(lines))["text"] == "one"
        await door.visitors.look()
        door.write_log(REPLICA, "two")
        assert json.loads(await anext(lines))["text"] == "two"
        door.allowed.clear()
        await door.visitors.look()
        assert [line async for line in lines] == []


@pytest.mark.parametrize(
    ("query", "status"),
    [("tail=-1", 400), ("tail=x", 400), ("tail=10001", 400), ("replica=../../x", 400), ("build=..", 400)],
)
async def test_logs_asked_for_wrongly(door: Opened, query: str, status: int) -> None:
    ticket = door.owner.ticket("logs.read", SERVICE)
    answer = await door.ask("GET", f"/v1/services/{SERVICE}/logs?{query}", ticket)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "invalid"


async def test_a_ticket_for_one_services_logs_opens_no_others(door: Opened) -> None:
    ticket = door.owner.ticket("logs.read", SERVICE)
    for service in ("sv-0000000000000009", ".."):
        assert (await door.ask("GET", f"/v1/services/{service}/logs", ticket)).status_code in (403, 404)


# --- what is kept -----------------------------------------------------------------------------------------------------


async def test_what_is_kept_is_told_and_freed(door: Opened) -> None:
    door.ledger.accept(*door.owner.desired(1))
    build = door.paths.builds / REVISION
    build.mkdir()
    (build / "left").write_text("behind")
    ticket = door.owner.ticket("site.free", SITE)
    looked = await door.ask("GET", "/v1/gc", ticket)
    kinds = {one["kind"]: (one["count"], one["freed"]) for one in looked.json()["items"]}
    assert kinds == {"builds": (0, 1), "sources": (0, 0), "logs": (0, 0), "caches": (0, 0)}
    assert build.exists()
    freed = await door.ask("POST", "/v1/gc", ticket)
    assert freed.json() == looked.json()
    assert not build.exists()


async def test_what_does_not_open_what_is_kept(door: Opened) -> None:
    for ticket in (
        "",
        door.owner.ticket("site.free", "st-else"),
        door.owner.ticket("logs.read", SITE),
        door.owner.ticket("blob.put", door.digest),
    ):
        for method in ("GET", "POST"):
            assert (await door.ask(method, "/v1/gc", ticket)).status_code in (401, 403)
    good = door.owner.ticket("site.free", SITE)
    assert (await door.ask("POST", "/v1/gc?everything=2", good)).status_code == 400
    for number in ("²", "9" * 5_000, "-1", "٣"):
        assert (await door.ask("GET", "/v1/gc", good, params={"everything": number})).status_code == 400


# --- volumes ----------------------------------------------------------------------------------------------------------


def kept(door: Opened, service: str, name: str) -> Path:
    folder = door.paths.volumes / service / name
    folder.mkdir(parents=True)
    (folder / "file").write_text("kept")
    return folder


async def test_volumes_are_listed_and_removed_once_nobody_uses_them(door: Opened) -> None:
    volume = Volume(name="data", path="data", size=2**20)
    revision = Revision(
        id=RevisionId(REVISION), source=door.digest, source_size=1, runtime=Runtime.COMMAND, command=("x",),
        volumes=(volume,),
    )  # fmt: skip
    service = Service(
        id=ServiceId(SERVICE), project=ProjectId("pr-a"), name="web", hosts=("web.localhost",), revisions=(revision,),
        shares=(Share(revision=revision.id, percent=100),),
    )  # fmt: skip
    door.ledger.accept(*door.owner.desired(1, services=(service,)))
    used, unused = kept(door, SERVICE, "data"), kept(door, "sv-gone", "data")
    ticket = door.owner.ticket("site.volumes", SITE)
    items = (await door.ask("GET", "/v1/volumes", ticket)).json()["items"]
    assert [(one["service_name"], one["service"], one["name"], one["size"]) for one in items] == [
        ("web", SERVICE, "data", 2**20), (None, "sv-gone", "data", None)
    ]  # fmt: skip
    assert all(0 < one["used"] < 2**20 for one in items)

    refused = await door.ask("DELETE", f"/v1/volumes/{SERVICE}/data", ticket)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "volume_in_use")
    assert (await door.ask("DELETE", "/v1/volumes/sv-gone/data", ticket)).status_code == 204
    assert (await door.ask("DELETE", "/v1/volumes/sv-gone/data", ticket)).status_code == 404
    assert (used.exists(), unused.parent.exists()) == (True, False)


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fledger", ".gone-data", "nothing", "x%00"])
async def test_only_a_volume_can_be_removed(door: Opened, name: str) -> None:
    kept(door, SERVICE, "data")
    door.ledger.accept(*door.owner.desired(1))
    ticket = door.owner.ticket("site.volumes", SITE)
    assert (await door.ask("DELETE", f"/v1/volumes/{SERVICE}/{name}", ticket)).status_code in (400, 404)
    assert (door.paths.volumes / SERVICE / "data" / "file").exists()
    assert door.paths.ledger.exists()


async def test_what_does_not_open_the_volumes(door: Opened) -> None:
    kept(door, SERVICE, "data")
    for ticket in ("", door.owner.ticket("site.free", SITE), door.owner.ticket("site.volumes", "st-else")):
        assert (await door.ask("GET", "/v1/volumes", ticket)).status_code in (401, 403)
        assert (await door.ask("DELETE", f"/v1/volumes/{SERVICE}/data", ticket)).status_code in (401, 403)


async def test_a_volume_is_removed_however_deep_it_is(door: Opened) -> None:
    door.ledger.accept(*door.owner.desired(1))
    volume = kept(door, "sv-gone", "data")
    here = os.open(volume, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert (await door.ask("DELETE", "/v1/volumes/sv-gone/data", door.owner.ticket("site.volumes", SITE))).is_success
    assert not volume.parent.exists()
