"""Sources from site to site: asks others for those that this site lacks, and hands them those that they may have.

    this agent  --->  its gateway  --->  the other site's gateway  --->  its agent: may that site have it?

The other site is who its certificate says. It decides by its own word, and so does this one: it asks for nothing but
what it may have. What arrives is what its digest says, or is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import httpx
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from kasbah.agent.audit.log import SiteLog
from kasbah.agent.blobs import BlobStore
from kasbah.agent.gateway.names import ENTRY_HEADER
from kasbah.agent.gateway.sources import PATH
from kasbah.agent.paths import Paths
from kasbah.agent.serving import answering
from kasbah.decide.sources import Lacking, lacking
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, RevisionId, SiteId
from kasbah.domain.observed import BuildState, RevisionStatus
from kasbah.errors import Denied, KasbahError, NotFound
from kasbah.settings import Limits

log = structlog.get_logger()

GRACE = 3.0
"""Seconds for which whoever deploys is left to send a source; then others are asked."""
LONGEST_PAUSE = 60.0
TOLD_AFTER = 3
"""So often a source is asked for before its owner is told: whoever deploys may still be sending it."""
LOOK_AGAIN = 60.0
"""Seconds after which what is lacking is looked for anew though nothing was said: housekeeping removes sources too."""
ONE_DEADLINE = timedelta(minutes=10)
"""In which a source must have come: the largest over 10 Mbit/s."""
UNREACHABLE = "cannot be reached"
SILENCE = httpx.Timeout(30, connect=5)


class Word(Protocol):
    """What this site holds another against; see `last_word.py`."""

    def refuses_to_hand(self, source: Digest, to: SiteId) -> str | None: ...


class Wanted(Protocol):
    """What this site is told, and what it accepts of it now; see `ledger.py`."""

    @property
    def desired(self) -> DesiredState | None: ...

    def rejudge(self) -> bool: ...


@dataclass(slots=True)
class _Search:
    """A source that is looked for: when others are asked next, and after which pause again. `why` nobody gave it, and
    how often it was asked for."""

    lacking: Lacking
    due: float
    pause: float = GRACE
    why: str = ""
    asked: int = 0


class SourceExchange:
    """See the module. `stored` is called when a source has come; `build` tells how far a revision's build is."""

    def __init__(
        self,
        paths: Paths,
        blobs: BlobStore,
        limits: Limits,
        ledger: Wanted,
        word: Word,
        *,
        audit: SiteLog,
        build: Callable[[RevisionId], RevisionStatus],
        stored: Callable[[], None],
    ) -> None:
        self._blobs = blobs
        self._limit = limits.source_bytes
        self._ledger = ledger
        self._word = word
        self._audit = audit
        self._build = build
        self._stored = stored
        transport = httpx.AsyncHTTPTransport(uds=str(paths.sources_socket))
        self._client = httpx.AsyncClient(transport=transport, timeout=SILENCE, trust_env=False)
        self._searches: dict[Digest, _Search] = {}
        self._looked_at: DesiredState | None = None
        self._look_at = 0.0

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()

    # --- what others ask ------------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        """What other sites' agents ask, by way of the gateways; who asks is in a header of the gateway's."""
        return Starlette(routes=[Route(PATH + "{digest}", answering(self._hand), methods=["GET"])])

    async def _hand(self, request: Request) -> Response:
        source = Digest(request.path_params["digest"])
        path = self._blobs.path(source)
        self._ledger.rejudge()
        site = self._asking(request.headers.get(ENTRY_HEADER, ""))
        if (why := self._word.refuses_to_hand(source, site)) is not None:
            log.warning("a source is not handed to another site", source=source, site=site, reason=why)
            raise Denied(f"site {site} may not have this source: {why}", code="source_refused")
        if not self._blobs.renew(source):
            raise NotFound("this site does not have that source", code="source_not_here")
        await asyncio.to_thread(self._audit.say, "hand_source", f"sources/{source}", details={"to": site})
        return FileResponse(path, media_type="application/gzip")

    def _asking(self, identity: str) -> SiteId:
        desired = self._ledger.desired
        found = next((one.site for one in desired.peers if one.identity == identity), None) if desired else None
        if found is None:
            raise Denied("sources are handed to the sites of this installation only", code="unknown_site")
        return found

    # --- what this site asks --------------------------------------------------------------------------------------

    @property
    def notes(self) -> tuple[str, ...]:
        """What its owner should know: what is to run here, and waits for a source that nobody gives."""
        return tuple(
            f"{', '.join(one.lacking.services)}: no source here, and {one.why}; deploy it again to send it"
            for one in self._searches.values()
            if one.lacking.needed and one.asked >= TOLD_AFTER
        )

    async def seek(self) -> None:
        """Ask for what is lacking, one after the other, as far as it is due."""
        now = asyncio.get_running_loop().time()
        if self._ledger.desired is not self._looked_at or now >= self._look_at or self._searches:
            await self._look(now)
        for search in [one for one in self._searches.values() if one.due <= now]:
            why = await self._ask(search.lacking)
            if why is None:
                self._searches.pop(search.lacking.source, None)
                self._stored()
            else:
                search.why, search.asked = why, search.asked + 1
                search.due = asyncio.get_running_loop().time() + search.pause
                search.pause = min(search.pause * 2, LONGEST_PAUSE)

    async def _look(self, now: float) -> None:
        desired = self._looked_at = self._ledger.desired
        self._look_at = now + LOOK_AGAIN
        if desired is None:
            return
        here = await asyncio.to_thread(self._blobs.digests)
        found = lacking(desired, here=here, built=lambda one: self._build(one).build is BuildState.BUILT)
        known = self._searches
        self._searches = {one.source: _again(known.get(one.source), one, now + GRACE) for one in found}

    async def _ask(self, wanted: Lacking) -> str | None:
        """Why nobody gave it; None where somebody did."""
        said = {}
        for site in wanted.sites:
            if (why := await self._ask_one(site, wanted.source)) is None:
                return None
            said[site] = why
        desired = self._ledger.desired
        names = {one.site: one.name for one in desired.peers} if desired else {}
        return (
            _summary({names.get(site, site): why for site, why in said.items()})
            or "there is no other site to ask for it"
        )

    async def _ask_one(self, site: SiteId, source: Digest) -> str | None:
        try:
            async with (
                asyncio.timeout(ONE_DEADLINE.total_seconds()),
                self._client.stream("GET", f"http://{site}{PATH}{source}") as answer,
            ):
                if answer.status_code != 200:
                    return _said(answer.status_code)
                await self._blobs.put(source, answer.aiter_raw(), limit=self._limit)
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("a source did not come from another site", source=source, site=site, reason=repr(error))
            return UNREACHABLE
        except KasbahError as error:
            log.warning("a source is not taken from another site", source=source, site=site, reason=str(error))
            return f"gave something else: {error}"
        log.info("a source came from another site", source=source, site=site)
        await asyncio.to_thread(self._audit.say, "take_source", f"sources/{source}", details={"from": site})
        return None


def _again(known: _Search | None, found: Lacking, due: float) -> _Search:
    if known is None:
        return _Search(lacking=found, due=due)
    known.lacking = found
    return known


def _said(status: int) -> str:
    return {403: "may not give it to this site", 404: "has not got it"}.get(status, UNREACHABLE)


def _summary(said: Mapping[str, str]) -> str:
    """Why nobody gave it: each reason once, with the sites."""
    by_reason: dict[str, list[str]] = {}
    for site, why in said.items():
        by_reason.setdefault(why, []).append(site)
    return " and ".join(f"{', '.join(sites)} {why}" for why, sites in by_reason.items())
