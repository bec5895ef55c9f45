"""The link against a small control plane on a real socket: pinned, followed, told, away and back."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_files import Authority
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from owner import INSTALLATION, NOW, SITE, Owner
from real_gateway import answer, headers_of, replica
from site_runner import until

from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import SIGNED, Link
from kasbah.agent.meter import Meter
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import IDENTITY, SITE_STATUS, USAGE_BATCH
from kasbah.api.owner import LAWBOOK, sign_document
from kasbah.api.signing import public_text, sign_time
from kasbah.clock import ManualClock
from kasbah.domain.charter import Lawbook
from kasbah.domain.ids import InstallationId, ServiceId
from kasbah.domain.observed import ServiceStatus, SiteStatus, UsageBatch
from kasbah.domain.service import ServiceState
from kasbah.domain.site import Isolation
from kasbah.errors import Conflict, KasbahError, Unavailable
from kasbah.packs import shipped

pytestmark = pytest.mark.real

TOKEN = "site-token"
HOUR = timedelta(hours=1)
STATUS = SiteStatus(
    site=SITE, observed_at=NOW, applied=(1, 1), gateway_address="127.0.0.1:8080",
    isolation=Isolation(mechanisms=(), missing=()),
)  # fmt: skip


@dataclass
class Control:
    """Answers as a control plane does, or with `fails`."""

    owner: Owner = field(default_factory=Owner)
    generation: int = 1
    fails: int | None = None
    forgets_answers: bool = False
    knows_still: bool = True
    loses: bool = False
    lost: int = 0
    time: str = ""
    law: bytes = b""
    names: dict[str, Any] = field(default_factory=dict)
    owner_key: str = ""
    mark: str = ""
    confirmed: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    statuses: list[SiteStatus] = field(default_factory=list)
    usage: list[UsageBatch] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self) -> None:
        self.generation += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = headers_of(scope)
        self.asked.append({"path": scope["path"], **headers})
        body = await _body(receive)
        if headers.get("authorization") != f"Bearer {TOKEN}":
            await answer(send, b"{}", 401)
        elif self.fails is not None:
            await answer(send, b"{}", self.fails)
        else:
            await self._serve(scope, body, send)

    async def _serve(self, scope: dict[str, Any], body: bytes, send: Any) -> None:
        match scope["path"].removeprefix("/agent/v1/"):
            case "identity":
                await answer(send, IDENTITY.dump_json(replace(self.owner.identity, owner_key=self.owner_key)))
            case "lawbooks/1":
                await answer(send, self.law or b"{}", 200 if self.law else 404)
            case "status":
                self.statuses.append(SITE_STATUS.validate_json(body))
                self.mark = headers_of(scope)["x-kasbah-status"]
                await answer(send, b"", 204)
            case "still":
                same = headers_of(scope)["x-kasbah-status"] == self.mark
                self.confirmed += same and self.knows_still
                await answer(send, b"", 404 if not self.knows_still else 204 if same else 409)
            case "usage":
                self.usage.append(batch := USAGE_BATCH.validate_json(body))
                told = -1 if self.forgets_answers else batch.sequence
                await answer(send, json.dumps({"acknowledged": told}).encode())
            case "desired" if self.loses:
                self.lost += 1
                await asyncio.Event().wait()
            case "desired":
                time = {"x_kasbah_time": self.time} if self.time else {}
                query = dict(pair.split("=") for pair in scope["query_string"].decode().split("&"))
                if int(query["generation"]) >= self.generation:
                    try:
                        async with asyncio.timeout(float(query["wait"])):
                            await self._changed.wait()
                    except TimeoutError:
                        await answer(send, b"", 204, **time)
                        return
                document, signature = self.owner.desired(self.generation, **self.names)
                await answer(send, document, x_kasbah_signature=signature, **time)


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


@dataclass
class Agent:
    """What a link hangs between."""

    folder: Path
    control: Control
    links: list[Link] = field(default_factory=list)
    heard: int = 0

    def __post_init__(self) -> None:
        (self.folder / "token").write_text(f"{TOKEN}\n")
        self.ledger = Ledger(self.folder)
        self.meter = Meter(self.folder / "access.log", self.folder / "usage.db")

    def link(self, address: str, word: LastWord | None = None) -> Link:
        def hear() -> None:
            self.heard += 1

        token = self.folder / "token"
        link = Link(f"http://{address}/", token, self.ledger, self.meter, hear, word=word)
        self.links.append(link)
        return link

    @property
    def generation(self) -> int:
        return 0 if self.ledger.desired is None else self.ledger.desired.generation


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(tmp_path, Control())
    yield agent
    for link in agent.links:
        await link.close()
    agent.meter.close()


async def test_the_control_plane_is_pinned_and_followed(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.introduce()
        assert agent.ledger.identity == agent.control.owner.identity
        following = asyncio.create_task(link.follow())
        await until(lambda: agent.generation == 1)
        for generation in (2, 3):
            agent.control.change()
            await until(lambda generation=generation: agent.generation == generation)  # type: ignore[misc]
        await until(lambda: agent.heard == 3)
        assert link.connected
        following.cancel()
    assert {one["x-kasbah-protocol"] for one in agent.control.asked} == {"1"}
    asked = len(agent.control.asked)
    await agent.links[0].introduce()
    assert len(agent.control.asked) == asked, "who is pinned is not asked again"


async def test_nothing_newer(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.introduce()
        await link.fetch(wait=0)
        await link.fetch(wait=0)
    assert (agent.generation, agent.heard) == (1, 1)


async def test_it_waits_for_a_control_plane_that_is_not_there_yet(agent: Agent) -> None:
    agent.control.fails = 503
    async with replica(agent.control) as address:
        link = agent.link(address)
        introducing = asyncio.create_task(link.introduce())
        await until(lambda: len(agent.control.asked) > 2)
        assert "503" in link.last_error
        assert not link.connected
        agent.control.fails = None
        await introducing
    assert agent.ledger.identity is not None


async def test_a_token_that_is_not_known_is_told(agent: Agent) -> None:
    (agent.folder / "token").write_text("wrong")
    async with replica(agent.control) as address:
        link = agent.link(address)
        introducing = asyncio.create_task(link.introduce())
        await until(lambda: "401" in link.last_error)
        (agent.folder / "token").write_text(TOKEN)
        await introducing
    assert link.connected


async def test_down_and_back(agent: Agent) -> None:
    async with AsyncExitStack() as first:
        address = await first.enter_async_context(replica(agent.control))
        link = agent.link(address)
        await link.introduce()
        following = asyncio.create_task(link.follow())
        await until(lambda: agent.generation == 1)
        agent.control.fails = 500
        agent.control.change()
        await until(lambda: "500" in link.last_error)
        with pytest.raises(Unavailable):
            await link.tell(STATUS)
        agent.control.fails = None
        agent.control.change()
        await until(lambda: agent.generation == 3 and link.connected)
        assert link.last_error == ""
        following.cancel()
    with pytest.raises(Unavailable, match="does not answer"):
        await link.fetch(wait=0)
    assert not link.connected


async def test_a_certificate_that_is_not_trusted_is_told_apart_from_silence(agent: Agent, tmp_path: Path) -> None:
    certificate, key = Authority().issue("kasbah")
    (tmp_path / "stranger.pem").write_bytes(certificate + key)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(tmp_path / "stranger.pem")
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=shown) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(f"https://127.0.0.1:{port}", tmp_path / "token", agent.ledger, agent.meter, lambda: None)
        agent.links.append(link)
        with pytest.raises(
            Unavailable, match=rf"does not trust the certificate .* at https://127.0.0.1:{port} .*joined"
        ):
            await link.fetch(wait=0)


async def test_a_stranger_in_its_place_is_not_followed(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.introduce()
        await link.fetch(wait=0)
        agent.control.owner = Owner()
        agent.control.change()
        with pytest.raises(KasbahError) as refused:
            await link.fetch(wait=0)
        assert refused.value.code == "bad_signature"
        following = asyncio.create_task(link.follow())
        await until(lambda: "not signed" in link.last_error)
        following.cancel()
        with pytest.raises(Conflict):
            agent.ledger.pin(agent.control.owner.identity)
    assert agent.generation == 1


async def test_an_installation_that_was_restored_to_the_past_is_refused(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.introduce()
        agent.control.generation = 5
        await link.fetch(wait=0)
        agent.ledger.accept(*agent.control.owner.desired(1, epoch=2))
        agent.control.generation = 9
        with pytest.raises(KasbahError) as refused:
            await link.fetch(wait=0)
    assert refused.value.code == "older"


async def test_a_status_is_told_when_it_says_something_new(agent: Agent) -> None:
    def seen(later: float, **fields: Any) -> SiteStatus:
        known = {"gateway_address": STATUS.gateway_address} | fields
        return SiteStatus(
            site=SITE, observed_at=NOW + timedelta(seconds=later), applied=(1, 1), isolation=STATUS.isolation, **known
        )

    async with replica(agent.control) as address:
        link = agent.link(address)
        for status in (seen(0), seen(1), seen(1.5, gateway_error="refused"), seen(1.6), seen(1.7), seen(3.7), seen(-9)):
            await link.tell(status)  # the last: the clock was set back
    told = [one.observed_at for one in agent.control.statuses]
    assert told == [NOW + timedelta(seconds=one) for one in (0, 1.5, 1.6, 3.7, -9)]


async def test_a_status_that_did_not_arrive_is_told_again(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        agent.control.fails = 500
        with pytest.raises(Unavailable):
            await link.tell(STATUS)
        agent.control.fails = None
        await link.tell(STATUS)
    assert agent.control.statuses == [STATUS]


async def test_what_has_not_changed_is_confirmed_and_not_told_again(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        assert not await link.still(NOW), "nothing was told yet"
        await link.tell(STATUS)
        assert await link.still(NOW + timedelta(seconds=1))
        assert agent.control.confirmed == 0, "the last word is not old"
        assert await link.still(NOW + timedelta(seconds=3))
        assert await link.still(NOW + timedelta(seconds=4))
    assert (len(agent.control.statuses), agent.control.confirmed) == (1, 1)


async def test_a_control_plane_that_lost_the_status_is_told_it_whole(agent: Agent) -> None:
    later = NOW + timedelta(seconds=3)
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.tell(STATUS)
        agent.control.mark = "that of another process"
        assert not await link.still(later)
        assert link.connected
        await link.tell(replace(STATUS, observed_at=later))
        agent.control.knows_still = False
        assert not await link.still(later + timedelta(seconds=3)), "an older control plane"
    assert (len(agent.control.statuses), agent.control.confirmed) == (2, 0)


async def test_counts_that_were_not_told_are_not_confirmed(agent: Agent) -> None:
    service = ServiceStatus(service=ServiceId("sv-a"), state=ServiceState.RUNNING, in_flight=3)
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.tell(replace(STATUS, services=(service,)))
        await link.tell(replace(STATUS, services=(replace(service, in_flight=0),)))
        assert not await link.still(NOW + timedelta(seconds=3))
    assert len(agent.control.statuses) == 1


async def test_usage_is_acknowledged_once(agent: Agent) -> None:
    line = f"{NOW.timestamp():.0f}\tsv-a/rv-a\t-\t200\t-\t1\t1\t1\n"
    (agent.folder / "access.log").write_text(line)
    agent.meter.read()
    async with replica(agent.control) as address:
        link = agent.link(address)
        agent.control.fails = 500
        with pytest.raises(Unavailable):
            await link.tell_usage()
        agent.control.fails = None
        agent.control.forgets_answers = True
        with pytest.raises(Unavailable, match="did not acknowledge"):
            await link.tell_usage()
        agent.control.forgets_answers = False
        await link.tell_usage()
        await link.tell_usage()
    assert [one.sequence for one in agent.control.usage] == [1, 1]
    assert agent.control.usage[0] == agent.control.usage[1], "the number tells that it is the same"
    assert agent.meter.next_batch() is None


async def test_an_answer_that_is_lost_is_not_waited_for_once_another_call_passes(agent: Agent) -> None:
    async with replica(agent.control) as address:
        link = agent.link(address)
        await link.introduce()
        await link.fetch(wait=0)
        agent.control.loses = True
        following = asyncio.create_task(link.follow())
        await until(lambda: agent.control.lost == 1)
        agent.control.change()
        agent.control.fails = 503  # how a call that finds no way ends
        with pytest.raises(Unavailable):
            await link.tell(STATUS)
        agent.control.loses, agent.control.fails = False, None
        await link.tell(STATUS)
        await until(lambda: agent.generation == 2)
        following.cancel()


async def test_signed_time_is_taken_and_no_other(agent: Agent) -> None:
    own = ManualClock(NOW)
    clock = SiteClock(agent.folder / "time.json", own)
    word = LastWord(agent.folder / "word.json", clock)
    async with replica(agent.control) as address:
        link = agent.link(address, word)
        await link.introduce()
        await link.fetch(wait=0)
        assert clock.now() == clock.heard_at == NOW
        for forged in ("", "tomorrow", f"{NOW + HOUR} c2lnbmF0dXJl", sign_time(Owner().key, INSTALLATION, NOW + HOUR),
                       sign_time(agent.control.owner.key, InstallationId("in-other"), NOW + HOUR)):  # fmt: skip
            agent.control.time = forged
            await link.fetch(wait=0)
            assert clock.now() == NOW, forged
        agent.control.time = sign_time(agent.control.owner.key, INSTALLATION, NOW + HOUR)
        await link.fetch(wait=0)
    assert clock.now() == NOW + HOUR
    (note,) = clock.notes()
    assert "1 h 0 min behind" in note


async def test_what_is_answered_while_desired_states_are_asked_for_in_vain_is_no_last_word(agent: Agent) -> None:
    own = ManualClock(NOW)
    clock = SiteClock(agent.folder / "time.json", own)
    async with replica(agent.control) as address:
        link = agent.link(address, LastWord(agent.folder / "word.json", clock))
        await link.introduce()
        await link.fetch(wait=0)
        own.advance(HOUR)
        await link.tell(STATUS)
        assert clock.heard_at == NOW + HOUR
        agent.control.fails = 503
        with pytest.raises(Unavailable):
            await link.fetch(wait=0)
        agent.control.fails = None
        own.advance(HOUR)
        await link.tell(replace(STATUS, observed_at=STATUS.observed_at + HOUR))
        assert clock.heard_at == NOW + HOUR
        await link.fetch(wait=0)
        assert clock.heard_at == NOW + 2 * HOUR


async def test_a_law_that_was_lost_on_the_way_is_asked_for_again(agent: Agent) -> None:
    """Nothing newer comes then: the desired state that names it has arrived."""
    owner = Ed25519PrivateKey.generate()
    book = Lawbook(installation=INSTALLATION, version=1, home="FR", packs=tuple(shipped()))
    agent.control.owner_key, agent.control.names = public_text(owner), {"lawbook": 1}
    word = LastWord(agent.folder / "word.json", SiteClock(agent.folder / "time.json", ManualClock(NOW)))
    async with replica(agent.control) as address:
        link = agent.link(address, word)
        await link.introduce()
        await link.fetch(wait=0)
        assert (agent.generation, agent.heard, word.law_version) == (1, 1, 0)
        agent.control.law = SIGNED.dump_json(sign_document(owner, LAWBOOK, book))
        await link.fetch(wait=0)
        assert word.law_version == 1
