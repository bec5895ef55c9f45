"""The site's own door, behind its gateway: sources come in, logs go out and commands are run inside replicas here, past
the control plane; and who administers it sees what the site keeps, and has it remove what it does not need.

Each request carries a ticket of the control plane's, for one act on one object at this site.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from kasbah.agent import logs
from kasbah.agent.blobs import BlobStore
from kasbah.agent.ledger import Ledger
from kasbah.agent.paths import Paths
from kasbah.agent.serving import answering
from kasbah.agent.shelf import Shelf
from kasbah.agent.space import Housekeeper, Space
from kasbah.agent.visitors import Visitors
from kasbah.agent.visits import Visits
from kasbah.api.errands import ERRAND_HEADER, words_of
from kasbah.api.projects import SpaceView
from kasbah.api.signing import EXEC, FREE, READ_LOGS, VOLUMES, Ticket, parse_public, read_ticket
from kasbah.api.volumes import VolumeView
from kasbah.clock import Clock
from kasbah.domain.ids import Digest, ReplicaId, ServiceId
from kasbah.drivers.interface import LogLine
from kasbah.errors import Denied, Invalid, Unauthenticated, Unavailable

MOST_LINES = 10_000
NUMBER = re.compile(r"[0-9]{1,9}")
ID = re.compile(r"(build-)?[a-z]{2}-[0-9a-z]{16}")


class Door:
    """The requests the door answers. `stored` is called when a source has arrived."""

    def __init__(
        self,
        paths: Paths,
        ledger: Ledger,
        blobs: BlobStore,
        clock: Clock,
        stored: Callable[[], None],
        housekeeper: Housekeeper,
        shelf: Shelf,
        visitors: Visitors,
    ) -> None:
        self._paths = paths
        self._ledger = ledger
        self._blobs = blobs
        self._clock = clock
        self._stored = stored
        self._housekeeper = housekeeper
        self._shelf = shelf
        self._visitors = visitors

    def app(self, visits: Visits | None = None) -> Starlette:
        """The ASGI application; with `visits`, commands are run too."""

        async def visit(websocket: WebSocket) -> None:
            assert visits is not None
            service = ServiceId(websocket.path_params["service"])
            await visits.answer(
                websocket,
                service,
                admit=lambda: self._visitors.stay(self._admit(websocket, EXEC, service)),
                vouch=lambda argv: self._vouch(websocket, self._admit(websocket, EXEC, service), argv),
            )

        return Starlette(
            routes=[
                *([WebSocketRoute("/v1/services/{service}/exec", visit)] if visits is not None else []),
                Route("/v1/blobs/{digest}", answering(self._has_blob), methods=["HEAD"]),
                Route("/v1/blobs/{digest}", answering(self._put_blob), methods=["PUT"]),
                Route("/v1/services/{service}/logs", answering(self._read_logs), methods=["GET"]),
                Route("/v1/gc", answering(self._look_at_space), methods=["GET"]),
                Route("/v1/gc", answering(self._free_space), methods=["POST"]),
                Route("/v1/volumes", answering(self._list_volumes), methods=["GET"]),
                Route("/v1/volumes/{service}/{name}", answering(self._remove_volume), methods=["DELETE"]),
            ]
        )

    async def _has_blob(self, request: Request) -> Response:
        digest = Digest(request.path_params["digest"])
        self._admit(request, "blob.put", digest)
        return Response(status_code=200 if self._blobs.renew(digest) else 404)

    async def _put_blob(self, request: Request) -> Response:
        digest = Digest(request.path_params["digest"])
        ticket = self._admit(request, "blob.put", digest)
        fresh = await self._blobs.put(digest, request.stream(), limit=ticket.limit)
        self._stored()
        return JSONResponse({"digest": digest}, status_code=201 if fresh else 200)

    async def _read_logs(self, request: Request) -> Response:
        service = ServiceId(request.path_params["service"])
        ticket = self._admit(request, READ_LOGS, service)
        await self._vouch(request, ticket, ())
        if not ID.fullmatch(service):
            raise _no_id(service)
        query = request.query_params
        lines = _number(query.get("tail", "100"), "tail", most=MOST_LINES)
        replica = _whose(query.get("replica"), query.get("build"))
        if query.get("follow") == "1":
            self._visitors.refuse_too_many()
            source = self._while_allowed(ticket, logs.follow(self._paths, service, replica, lines))
            return StreamingResponse(_written(source), media_type="application/x-ndjson")
        found = await asyncio.to_thread(logs.tail, self._paths, service, replica, lines)
        return StreamingResponse(_from(found), media_type="application/x-ndjson")

    async def _while_allowed(self, ticket: Ticket, lines: AsyncIterator[LogLine]) -> AsyncIterator[LogLine]:
        """The lines, until the ticket's holder may read them no more."""
        with self._visitors.stay(ticket) as away:
            while True:
                line = asyncio.ensure_future(anext(lines))
                try:
                    await asyncio.wait((line, away), return_when=asyncio.FIRST_COMPLETED)
                    if away.done():
                        return
                finally:
                    if not line.done():
                        line.cancel()
                yield line.result()

    async def _look_at_space(self, request: Request) -> Response:
        everything = self._admit_housekeeping(request)
        return _told(await self._housekeeper.look(everything=everything))

    async def _free_space(self, request: Request) -> Response:
        everything = self._admit_housekeeping(request)
        return _told(await self._housekeeper.tidy(everything=everything))

    def _admit_housekeeping(self, request: Request) -> bool:
        """Whether everything is meant that can be made again."""
        self._admit_to_site(request, FREE)
        return _number(request.query_params.get("everything", "0"), "everything", most=1) == 1

    async def _list_volumes(self, request: Request) -> Response:
        self._admit_to_site(request, VOLUMES)
        views = [
            VolumeView(
                service=one.service,
                service_name=one.service_name or None,
                name=one.name,
                size=one.size,
                used=one.used,
            )
            for one in await self._shelf.look()
        ]
        return JSONResponse({"items": [view.model_dump(mode="json") for view in views]})

    async def _remove_volume(self, request: Request) -> Response:
        self._admit_to_site(request, VOLUMES)
        await self._shelf.remove(ServiceId(request.path_params["service"]), request.path_params["name"])
        return Response(status_code=204)

    def _admit_to_site(self, request: Request, act: str) -> None:
        identity = self._ledger.identity
        self._admit(request, act, identity.site if identity else "")

    async def _vouch(self, request: HTTPConnection, ticket: Ticket, argv: Sequence[str]) -> None:
        """Refuse what is to be signed by a deployer, and is not; and who might when the ticket was written, and may no
        more."""
        identity, text = self._ledger.identity, request.headers["authorization"].partition(" ")[2]
        assert identity is not None, "who has a ticket was admitted"
        said = request.headers.get(ERRAND_HEADER, "")
        self._visitors.refuse_unsigned(identity, ticket, text, words_of(argv), said)
        await self._visitors.refuse_former(ticket)

    def _admit(self, request: HTTPConnection, act: str, wanted: str) -> Ticket:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        identity = self._ledger.identity
        if scheme.lower() != "bearer" or not text:
            raise Unauthenticated("this door needs a ticket", hint="kasbah asks the control plane for one")
        if identity is None:
            raise Unavailable("this site does not know its control plane yet")
        ticket = read_ticket(parse_public(identity.public_key), text, now=self._clock.now())
        if (ticket.act, ticket.object, ticket.site) != (act, wanted, identity.site):
            raise Denied("this ticket is for something else")
        return ticket


def _whose(replica: str | None, build: str | None) -> ReplicaId | None:
    """Whose log is asked for: a replica's, a build's (kept as if a replica named build-REVISION had written it), or
    that of all replicas. Only an id may become part of a path."""
    wanted = replica if build is None else f"build-{build}"
    if wanted is not None and not ID.fullmatch(wanted):
        raise _no_id(replica or build or "")
    return None if wanted is None else ReplicaId(wanted)


def _no_id(text: str) -> Invalid:
    return Invalid(f"{text[:40]!r} is no id", hint="kasbah describe NAME lists replicas and revisions")


def _told(spaces: tuple[Space, ...]) -> Response:
    views = [
        SpaceView(kind=one.kind, count=one.count, bytes=one.size, freed=one.freed, freed_bytes=one.freed_size)
        for one in spaces
    ]
    return JSONResponse({"items": [view.model_dump(mode="json") for view in views]})


def _number(text: str, name: str, *, most: int) -> int:
    if not NUMBER.fullmatch(text) or int(text) > most:
        raise Invalid(f"{name} must be a number from 0 to {most}, not {text[:40]!r}")
    return int(text)


async def _from(lines: tuple[LogLine, ...]) -> AsyncIterator[bytes]:
    for line in lines:
        yield _line(line)


async def _written(lines: AsyncIterator[LogLine]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield _line(line)


def _line(line: LogLine) -> bytes:
    fields = {"at": line.at.isoformat(), "replica": line.replica, "stream": line.stream, "text": line.text}
    return json.dumps(fields).encode() + b"\n"
