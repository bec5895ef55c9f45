"""Sites join: tokens and approvals for people, requests and certificates for agents."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel

from kasbah.api.joining import (
    ApproveRequest,
    CertificateAnswer,
    CertificateRequest,
    JoinAnswer,
    JoinPending,
    JoinRequest,
    JoinTokenMade,
    WaitingView,
    code_of,
)
from kasbah.api.public import Page
from kasbah.api.signing import public_text
from kasbah.api.sites import SiteView
from kasbah.control import site_views
from kasbah.control.access.authenticate import bearer
from kasbah.control.access.authority import Authority
from kasbah.control.http.agent import Caller
from kasbah.control.http.call import Call, anywhere, may, office_of, render
from kasbah.control.http.routers import for_agents, for_people
from kasbah.control.store.records import Joining
from kasbah.control.usecases import joining
from kasbah.control.usecases.describe import installation_of, see_site
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action
from kasbah.domain.charter import Signed

people = for_people("", "sites")
agents = for_agents()


def _authority(request: Request) -> Authority:
    return cast(Authority, request.app.state.authority)


@people.post("/sites/{site}/tokens", response_model=JoinTokenMade, status_code=201)
def make_join_token(call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)], request: Request, site: str) -> Response:
    """Make a token for a site's agent to join by. It is shown once, is good once, and for a quarter of an hour."""

    def make(work: Work) -> BaseModel:
        found, token, made = joining.make_token(work, _authority(request), site)
        return JoinTokenMade(site=found.name, token=token.text(), expires_at=made.expires_at)

    return call.write(make, status=201, keep=lambda _: None)


@people.get("/joining", response_model=Page[WaitingView])
def who_waits(call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)]) -> Response:
    """The agents that wait to be approved. There are few: always one page."""

    def find(work: Work) -> BaseModel:
        return Page[WaitingView](items=[_waiting(site.name, one) for site, one in joining.waiting(work)])

    return call.read(find)


@people.post("/sites/{site}/approve", response_model=SiteView)
def approve_site(
    call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)], request: Request, site: str, body: ApproveRequest
) -> Response:
    """Approve the agent that shows this code: it gets its certificate, and is the site from then on."""

    def act(work: Work) -> BaseModel:
        signed = Signed(document=body.document, signature=body.signature)
        joined = joining.approve(work, _authority(request), site, body.code, signed)
        return site_views.site(see_site(work, joined))

    return call.write(act)


@agents.get("/authority")
def authority(request: Request) -> Response:
    """The authority's certificate; who joins knows its fingerprint."""
    return PlainTextResponse(_authority(request).pem)


@agents.post("/join", status_code=202)
def join(request: Request, body: JoinRequest) -> Response:
    """Take what a site asks with its token."""
    with office_of(request).note() as work:
        asked = joining.ask(work, bearer(request.headers.get("authorization")), body.csr)
    return render(JoinPending(id=asked.id, code=code_of(asked.key)), status=202)


@agents.get("/join/{request_id}")
def joined(request: Request, request_id: str) -> Response:
    """The certificate, once a person has approved the code."""
    office, signer = office_of(request), _authority(request)
    with office.read() as work:
        found = joining.look(work, bearer(request.headers.get("authorization")), request_id)
        site = work.tx.sites.get(found.site)
        if not found.certificate or site is None:
            return Response(status_code=204)
        installation = installation_of(work)
        return render(
            JoinAnswer(
                certificate=found.certificate,
                authority=signer.pem,
                installation=installation.id,
                site=site.id,
                site_name=site.name,
                public_key=public_text(work.key),
                owner_key=installation.owner_key or "",
            )
        )


@agents.post("/certificate")
def certificate(request: Request, site: Caller, body: CertificateRequest) -> Response:
    """A new certificate for a site that is known."""
    signer = _authority(request)
    with office_of(request).write() as work:
        record = work.tx.sites.get(site.id)
        assert record is not None, "it was authenticated just now"
        made = joining.renew(work, signer, record, body.csr, request.app.state.owners_key)
    return render(CertificateAnswer(certificate=made, authority=signer.pem))


def _waiting(site: str, found: Joining) -> WaitingView:
    return WaitingView(site=site, code=code_of(found.key), key=found.key, since=found.asked_at or found.created_at)
