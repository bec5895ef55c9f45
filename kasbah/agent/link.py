"""The line to the control plane: the agent dials, asks for newer desired states, and tells what it sees.

With the control plane away the agent goes on from its ledger; what it could not tell waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog
from pydantic import TypeAdapter

from kasbah.agent.audit.log import SiteLog
from kasbah.agent.identity import Identity
from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.meter import Meter
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import (
    AUDIT_ANSWER,
    AUDIT_WORD,
    IDENTITY,
    MAX_WAIT_SECONDS,
    PROTOCOL_HEADER,
    SIGNATURE_HEADER,
    SITE_STATUS,
    STATUS_HEADER,
    TIME_HEADER,
    USAGE_BATCH,
    VISITORS,
    Visitor,
)
from kasbah.api.joining import CONTROL_NAME, CertificateAnswer, CertificateRequest
from kasbah.api.signing import parse_public, read_time
from kasbah.domain.charter import Signed
from kasbah.domain.desired import PROTOCOL
from kasbah.domain.ids import SecretId
from kasbah.domain.observed import ServiceStatus, SiteStatus
from kasbah.errors import Denied, KasbahError, Unavailable

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
CALL_DEADLINE = 10.0
DIAL_DEADLINE = 3.0
"""Who dials while a line is cut asks ever less often whether it is whole again; who dials anew finds out at once."""

HEARTBEAT = timedelta(seconds=2)
SOON = 1
"""Seconds until what the desired state names is asked for again."""
UNKNOWN_STATUS = (404, 409)
"""The answers to `still` that ask for the whole status."""
STRANGER = re.compile(r"certificate verify failed: ([^(]*[^( ])")
"""What OpenSSL says of a certificate that is not trusted, in httpx's words for it."""
SNI = {"sni_hostname": CONTROL_NAME}
"""Whatever address it is dialled at, a control plane has this name in its certificate."""

SIGNED = TypeAdapter(Signed)
Done = TypeVar("Done")
NEVER = datetime.min.replace(tzinfo=UTC)


class Link:
    """See the module. `on_desired` is called after a newer desired state was written to the ledger, and to the site's
    `audit` log where it has one. Without a `transport` of its own it dials `url`. `in_vain`: it asked for a newer
    desired state last, and had no answer."""

    def __init__(
        self,
        url: str,
        token_file: Path | None,
        ledger: Ledger,
        meter: Meter,
        on_desired: Callable[[], None],
        transport: httpx.AsyncBaseTransport | None = None,
        identity: Identity | None = None,
        word: LastWord | None = None,
    ) -> None:
        self.connected = False
        self.last_error = ""
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ledger = ledger
        self._meter = meter
        self._on_desired = on_desired
        self._identity = identity
        self._transport = transport
        self._client = self._dialler()
        self.audit: SiteLog | None = None
        self._word = word
        self._clock = None if word is None else word.clock
        self._sent: SiteStatus | None = None
        self._sent_at = NEVER
        self._mark = ""
        self._back = asyncio.Event()
        self.in_vain = False

    async def introduce(self) -> None:
        """Learn who we are from the control plane, and pin its key, if that was not done before. Waits for it."""
        pause = FIRST_PAUSE
        while self._ledger.identity is None:
            try:
                answer = await self._call("GET", "/agent/v1/identity")
                self._ledger.pin(IDENTITY.validate_json(answer.content))
            except Unavailable as error:
                self._note(error)
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 1.0)

    async def follow(self) -> None:
        """Take newer desired states as they come, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self.fetch(wait=MAX_WAIT_SECONDS)
                pause = FIRST_PAUSE
            except KasbahError as error:
                self._note(error)
                await self._unless_back(asyncio.sleep(pause))
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _unless_back(self, work: Coroutine[Any, Any, Done]) -> Done | None:
        """Do this, unless another call passes meanwhile after none did: what was asked before a line was cut may wait
        for long for an answer that is lost. None: it is to be asked anew."""
        self._back.clear()
        doing, back = asyncio.ensure_future(work), asyncio.ensure_future(self._back.wait())
        try:
            await asyncio.wait((doing, back), return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            doing.cancel()
            back.cancel()
            await asyncio.gather(doing, back, return_exceptions=True)

    async def fetch(self, *, wait: int) -> None:
        """Ask once for a desired state newer than the ledger's."""
        wait = wait if await self._learn_the_rest() else min(wait, SOON)
        known = self._ledger.desired
        epoch, generation = known.version if known else (0, 0)
        query = f"epoch={epoch}&generation={generation}&wait={wait}"
        asking = self._call("GET", f"/agent/v1/desired?{query}", patience=wait + CALL_DEADLINE)
        try:
            answer = await self._unless_back(asking)
        except KasbahError:
            self.in_vain = True
            raise
        if answer is None:
            return
        self._heard()
        if answer.status_code == 200:
            desired = self._ledger.accept(answer.content, answer.headers.get(SIGNATURE_HEADER, ""))
            await self._learn_the_rest()
            if self.audit is not None and desired != known:
                await asyncio.to_thread(self.audit.accept, known, desired, answer.content)
            log.info("desired state", epoch=desired.epoch, generation=desired.generation)
            self._on_desired()

    async def _learn_the_rest(self) -> bool:
        """What the desired state names and does not hold; whether nothing of it is missing. A line that is cut may keep
        it from us, and a control plane that was restored may not have it any more, but for its next desired state."""
        try:
            if self._ledger.told is not None:
                await self._learn_owner()
                await self._learn_law(self._ledger.told.lawbook)
        except KasbahError as error:
            self._note(error)
            return False
        return True

    async def _learn_owner(self) -> None:
        """Pin the owner's key, once, where this site was made before there were owners. Nothing waits for it."""
        if self._ledger.identity is not None and not self._ledger.identity.owner_key:
            answer = await self._call("GET", "/agent/v1/identity")
            self._ledger.pin_owner(IDENTITY.validate_json(answer.content).owner_key)

    async def _learn_law(self, version: int) -> None:
        """Take the lawbook that holds here now, where it is later than the one that is held."""
        identity, word = self._ledger.identity, self._word
        if identity is None or not identity.owner_key or word is None or version <= word.law_version:
            return
        answer = await self._call("GET", f"/agent/v1/lawbooks/{version}")
        signed = SIGNED.validate_json(answer.content)
        await asyncio.to_thread(word.take_law, identity, signed)
        self._ledger.rejudge()

    async def tell(self, status: SiteStatus) -> None:
        """Send what is seen, if it says something new or the last word is old."""
        news = _news(status)
        if news == self._sent and _apart(status.observed_at, self._sent_at) < HEARTBEAT:
            self._mark = ""  # what it counts is not told: the next word must be a whole one
            return
        body = SITE_STATUS.dump_json(status)
        self._mark, mark = "", hashlib.sha256(body).hexdigest()[:32]
        await self._call("POST", "/agent/v1/status", body=body, mark=mark)
        self._sent, self._sent_at, self._mark = news, status.observed_at, mark

    async def still(self, now: datetime) -> bool:
        """Tell that the status told last is still true to its last count. False: it has to be told whole."""
        if not self._mark:
            return False
        if _apart(now, self._sent_at) < HEARTBEAT:
            return True
        answer = await self._call("POST", "/agent/v1/still", mark=self._mark, expected=UNKNOWN_STATUS)
        if answer.status_code in UNKNOWN_STATUS:
            self._mark = ""
            return False
        self._sent_at = now
        return True

    async def tell_usage(self) -> None:
        """Send the usage not yet acknowledged, a batch at a time."""
        while (batch := await asyncio.to_thread(self._meter.next_batch)) is not None:
            answer = await self._call("POST", "/agent/v1/usage", body=USAGE_BATCH.dump_json(batch))
            if answer.json()["acknowledged"] != batch.sequence:
                raise Unavailable(f"the control plane did not acknowledge usage batch {batch.sequence}")
            await asyncio.to_thread(self._meter.acknowledge, batch.sequence)

    async def tell_audit(self) -> None:
        """Show the site's audit log, and look at the control plane's; once more where there is an answer to that."""
        for _ in range(2 if self.audit is not None else 0):
            assert self.audit is not None
            word = await asyncio.to_thread(self.audit.word)
            answer = await self._call("POST", "/agent/v1/audit", body=AUDIT_WORD.dump_json(word), expected=(404,))
            if answer.status_code == 404:  # a control plane of the version before
                return
            if not await asyncio.to_thread(self.audit.hear, AUDIT_ANSWER.validate_json(answer.content)):
                return

    async def visitors(self, visitors: tuple[Visitor, ...]) -> tuple[Visitor, ...]:
        """Those of them who still may; all, where the control plane is of the version before."""
        answer = await self._call("POST", "/agent/v1/visitors", body=VISITORS.dump_json(visitors), expected=(404,))
        return visitors if answer.status_code == 404 else VISITORS.validate_json(answer.content)

    async def secret(self, secret: SecretId, version: int) -> bytes:
        """A secret's value, which the desired state names."""
        return (await self._call("GET", f"/agent/v1/secrets/{secret}/{version}")).content

    async def renew(self, now: datetime) -> None:
        """Get a certificate, or a new one, where that is due. The next calls are made with it."""
        identity = self._identity
        if identity is None or not await asyncio.to_thread(identity.due, now):
            return
        request = await asyncio.to_thread(identity.request)
        body = CertificateRequest(csr=request).model_dump_json().encode()
        answer = CertificateAnswer.model_validate_json(
            (await self._call("POST", "/agent/v1/certificate", body=body)).content
        )
        await asyncio.to_thread(identity.take, answer.certificate, answer.authority)
        if self._token_file is None:
            before, self._client = self._client, self._dialler()
            await before.aclose()

    def _dialler(self) -> httpx.AsyncClient:
        """Who has a token shows that; who has joined shows his certificate."""
        trust = True if self._token_file is not None or self._identity is None else self._identity.client()
        return httpx.AsyncClient(timeout=CALL_DEADLINE, trust_env=False, transport=self._transport, verify=trust)

    def _why(self, error: Exception) -> str:
        found = STRANGER.search(str(error))
        if found is None:
            return type(error).__name__
        return (
            f"this site does not trust the certificate of who answers at {self._url} ({found[1]}): "
            "is --control-url that of the installation it joined?"
        )

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        mark: str = "",
        expected: tuple[int, ...] = (),
        patience: float = CALL_DEADLINE,
    ) -> httpx.Response:
        try:
            token = self._token_file.read_text().strip() if self._token_file is not None else ""
            headers = {
                **({"authorization": f"Bearer {token}"} if token else {}),
                "content-type": "application/json",
                PROTOCOL_HEADER: str(PROTOCOL),
                **({STATUS_HEADER: mark} if mark else {}),
            }
            answer = await self._client.request(
                method,
                self._url + path,
                content=body,
                headers=headers,
                timeout=httpx.Timeout(patience, connect=DIAL_DEADLINE),
                extensions=SNI,
            )
        except (httpx.HTTPError, OSError) as error:
            self.connected = False
            raise Unavailable(f"the control plane does not answer: {self._why(error)}") from error
        if answer.status_code >= 300 and answer.status_code not in expected:
            self.connected = False
            raise Unavailable(f"the control plane answered {answer.status_code} to {method} {path.partition('?')[0]}")
        if not self.connected:
            self._back.set()
        self.connected = True
        self.last_error = ""
        if self._clock is not None:
            self._set(self._clock, answer.headers.get(TIME_HEADER))
        if not self.in_vain:
            self._heard()
        return answer

    def _set(self, clock: SiteClock, time: str | None) -> None:
        """It has answered, and may have said what time it is; what it did not sign is no time."""
        identity = self._ledger.identity
        if time and identity is not None:
            with contextlib.suppress(Denied):
                clock.take(read_time(parse_public(identity.public_key), identity.installation, time), just_now=True)

    def _heard(self) -> None:
        """The last word is the last: there is no newer one, or it has come. Where it was asked for in vain, that
        something else is answered says nothing of that."""
        self.in_vain = False
        if self._clock is not None:
            self._clock.heard()

    def _note(self, error: KasbahError) -> None:
        if str(error) != self.last_error:
            log.warning("the control plane cannot be followed", reason=str(error))
        self.last_error = str(error)


def _news(status: SiteStatus) -> SiteStatus:
    """A status without what changes all the time."""
    return replace(status, observed_at=NEVER, services=tuple(_news_of(one) for one in status.services))


def _news_of(status: ServiceStatus) -> ServiceStatus:
    if not (status.replicas or status.in_flight or status.waiting_requests):
        return status
    replicas = tuple(replace(one, in_flight=0) for one in status.replicas)
    return replace(status, in_flight=0, waiting_requests=0, replicas=replicas)


def _apart(one: datetime, other: datetime) -> timedelta:
    """How far apart two times are, whichever is later: the clock may have been set back."""
    return abs(one - other)
