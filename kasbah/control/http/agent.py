"""The agent's side, `/agent/v1`: see `api/agent.py`. Bodies here are the domain itself; a site's token opens it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from kasbah.api.agent import (
    AUDIT_ANSWER,
    AUDIT_WORD,
    IDENTITY,
    PROTOCOL_HEADER,
    SIGNATURE_HEADER,
    SITE_STATUS,
    STATUS_HEADER,
    TIME_HEADER,
    USAGE_BATCH,
    VISITORS,
    AuditAnswer,
    Visitor,
)
from kasbah.api.signing import sign_time
from kasbah.control.access.authenticate import authenticate_site, belongs
from kasbah.control.http.acts import CALLER, act_of, object_of, of_site
from kasbah.control.http.call import office_of
from kasbah.control.http.routers import for_agents
from kasbah.control.http.waiting import Wait, until
from kasbah.control.sites_door import CERTIFIED
from kasbah.control.store.records import DesiredDocument, SiteRecord
from kasbah.control.usecases.change_law import lawbook_numbered
from kasbah.control.usecases.fetch_desired import desired_topic, fetch_desired, identify
from kasbah.control.usecases.journal import Said
from kasbah.control.usecases.report_status import report_status, still_so
from kasbah.control.usecases.report_usage import report_usage
from kasbah.control.usecases.secrets import give_secret
from kasbah.control.usecases.visitors import still_may
from kasbah.control.usecases.witness import exchange
from kasbah.domain.charter import Signed
from kasbah.domain.desired import PROTOCOL
from kasbah.errors import Invalid

SIGNED = TypeAdapter(Signed)
router = for_agents()

SPOKEN = frozenset({str(PROTOCOL), str(PROTOCOL - 1)})


def _site(request: Request) -> SiteRecord:
    """The site that calls, speaking a protocol we know."""
    with office_of(request).read() as work:
        site = authenticate_site(work.tx, request.headers.get("authorization"), request.scope.get(CERTIFIED, ""))
    request.scope[CALLER] = of_site(site)
    spoken = request.headers.get(PROTOCOL_HEADER, "none")
    if spoken not in SPOKEN:
        raise Invalid(
            f"this agent speaks protocol {spoken}, and we speak {PROTOCOL} and the one before",
            where=PROTOCOL_HEADER,
            hint="bring the agent and the control plane to versions at most one apart",
            code="protocol_unknown",
        )
    return site


Known = Annotated[SiteRecord, Depends(_site)]
"""A site that was removed is known, too."""


def _member(site: Known) -> SiteRecord:
    belongs(site)
    return site


Caller = Annotated[SiteRecord, Depends(_member)]


@router.get("/desired")
async def desired(
    request: Request, site: Known, epoch: int = 0, generation: Annotated[int, Query(ge=0)] = 0, wait: Wait = 0
) -> Response:
    """The site's desired state once it is newer than the one it has: the exact bytes that were signed."""
    office = office_of(request)

    def look() -> DesiredDocument | None:
        with office.read() as work:
            return fetch_desired(work, site, (epoch, generation))

    document = await until(office.changes, (desired_topic(site),), look, lambda found: found is not None, wait)
    headers = {TIME_HEADER: sign_time(office.key, site.charter.installation, office.clock.now())}
    if document is None:
        return Response(status_code=204, headers=headers)
    headers[SIGNATURE_HEADER] = document.signature
    return Response(document.body, media_type="application/json", headers=headers)


@router.post("/status")
async def status(request: Request, site: Caller) -> Response:
    """Take what the site saw."""
    body = await request.body()
    office = office_of(request)

    def take() -> None:
        report_status(office, site, _parse(SITE_STATUS, body), mark=request.headers.get(STATUS_HEADER, ""))

    await run_in_threadpool(take)
    return Response(status_code=204)


@router.post("/still")
async def still(request: Request, site: Caller) -> Response:
    """Take it that what the site told last, under the mark it names, is still true."""
    office, mark = office_of(request), request.headers.get(STATUS_HEADER, "")
    await run_in_threadpool(still_so, office, site, mark)
    return Response(status_code=204)


@router.post("/usage")
async def usage(request: Request, site: Caller) -> Response:
    """Count a batch of usage, once. What was counted before is acknowledged again: the answer may have been lost."""
    body = await request.body()
    office = office_of(request)

    def count() -> int:
        batch = _parse(USAGE_BATCH, body)
        with office.note() as work:
            report_usage(work, site.id, batch)
        return int(batch.sequence)

    return Response(f'{{"acknowledged":{await run_in_threadpool(count)}}}', media_type="application/json")


@router.get("/secrets/{secret}/{version}")
def secret(request: Request, site: Caller, secret: str, version: int) -> Response:
    """The value of a secret that the site's desired state names."""
    with office_of(request).note() as work:
        value = give_secret(work, site, secret, version)
        work.journal.call = Said(actor=of_site(site), act=act_of(request), object=object_of(request))
    return Response(value, media_type="application/octet-stream", headers={"cache-control": "no-store"})


@router.post("/audit")
async def audit(request: Request, site: Caller) -> Response:
    """Take the site's word for its audit log, and show it ours."""
    body = await request.body()
    office, key = office_of(request), request.app.state.audit_key

    def take() -> AuditAnswer:
        word = _parse(AUDIT_WORD, body)
        with office.note() as work:
            return exchange(work, key, site, word)

    return Response(AUDIT_ANSWER.dump_json(await run_in_threadpool(take)), media_type="application/json")


@router.post("/visitors")
async def visitors(request: Request, site: Caller) -> Response:
    """Who of those that have something open at the site's door still may."""
    body = await request.body()
    office = office_of(request)

    def ask() -> tuple[Visitor, ...]:
        asked = _parse(VISITORS, body)
        with office.read() as work:
            return still_may(work, asked)

    return Response(VISITORS.dump_json(await run_in_threadpool(ask)), media_type="application/json")


@router.get("/lawbooks/{version}")
def lawbook(request: Request, site: Caller, version: Annotated[int, Path(ge=1, lt=2**31)]) -> Response:
    """A lawbook, as the owner signed it: what the site holds its desired states against."""
    with office_of(request).read() as work:
        signed = lawbook_numbered(work, version).signed
    return Response(SIGNED.dump_json(signed), media_type="application/json")


@router.get("/identity")
def identity(request: Request, site: Caller) -> Response:
    """Who the site is to this installation."""
    with office_of(request).read() as work:
        return Response(IDENTITY.dump_json(identify(work, site)), media_type="application/json")


def _parse(shape: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return shape.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Invalid(
            f"this is no report of protocol {PROTOCOL}: {first['msg']}", where=".".join(map(str, first["loc"]))
        ) from error
