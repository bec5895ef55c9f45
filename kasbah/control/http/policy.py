"""The law: what holds, what another would change, applying it, and what the owner grants."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import policy as shapes
from kasbah.api import public
from kasbah.control import law_views
from kasbah.control.http.call import Call, anywhere, may
from kasbah.control.http.routers import for_people
from kasbah.control.store.lawbooks import LawbookRecord
from kasbah.control.usecases.change_law import apply_law, approve_law, lawbook_numbered, plan_law, resume_law
from kasbah.control.usecases.coverage import coverage
from kasbah.control.usecases.grants import add_grant, list_grants, revoke_grant
from kasbah.control.usecases.token_makers import makers_of
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action
from kasbah.domain.charter import Signed

router = for_people("/policy", "policy")

Version = Annotated[int, Path(ge=1, lt=2**31)]


@router.get("", response_model=shapes.LawStatus)
def show_law(call: Annotated[Call, may(Action.POLICY_READ, anywhere)]) -> Response:
    """The law that holds, and what is on its way."""
    return call.read(law_views.status)


@router.get("/coverage", response_model=shapes.CoverageView)
def show_coverage(call: Annotated[Call, may(Action.POLICY_READ, anywhere)]) -> Response:
    """The services that are kept stricter than their label needs, and what that costs."""
    return call.read(lambda work: law_views.covered(work, coverage(work)))


@router.get("/lawbooks", response_model=public.Page[shapes.LawbookView])
def all_lawbooks(
    call: Annotated[Call, may(Action.POLICY_READ, anywhere)],
    cursor: Annotated[int | None, Query(ge=1, lt=2**31, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """One page of every lawbook there was, the newest first."""

    def find(work: Work) -> BaseModel:
        found = work.tx.lawbooks.page(cursor, limit + 1)
        names = law_views.site_names(work)
        items = [law_views.lawbook(one, names) for one in found[:limit]]
        following = str(found[limit - 1].version) if len(found) > limit else None
        return public.Page[shapes.LawbookView](items=items, next=following)

    return call.read(find)


@router.get("/lawbooks/{version}", response_model=shapes.LawbookDocument)
def show_lawbook(version: Version, call: Annotated[Call, may(Action.POLICY_READ, anywhere)]) -> Response:
    """A lawbook, as it was signed."""

    def find(work: Work) -> BaseModel:
        found = lawbook_numbered(work, version)
        return shapes.LawbookDocument(lawbook=_view(work, found), document=found.document, signature=found.signature)

    return call.read(find)


@router.post("/plan", response_model=shapes.LawPlan)
def plan_change(body: shapes.LawPlanRequest, call: Annotated[Call, may(Action.POLICY_READ, anywhere)]) -> Response:
    """What would change if this lawbook held; nothing does."""

    def find(work: Work) -> BaseModel:
        return law_views.plan(plan_law(work, work.library.draft(body.document)), law_views.site_names(work))

    return call.read(find)


@router.post("/lawbooks", status_code=202, response_model=shapes.LawbookView)
def apply_change(body: shapes.LawRequest, call: Annotated[Call, may(Action.POLICY_APPLY, anywhere)]) -> Response:
    """Put a signed lawbook on its way to the sites; or propose it, where it needs a second person."""
    signed = Signed(document=body.document, signature=body.signature)

    def act(work: Work) -> BaseModel:
        made = apply_law(work, call.caller, signed, based_on=body.based_on, even_so=body.even_so, reason=body.reason)
        return _view(work, made)

    return call.write(act, status=202)


@router.post("/lawbooks/{version}/approve", status_code=202, response_model=shapes.LawbookView)
def approve_change(version: Version, call: Annotated[Call, may(Action.POLICY_APPLY, anywhere)]) -> Response:
    """A second person's yes to a lawbook that is proposed."""

    def act(work: Work) -> BaseModel:
        return _view(work, approve_law(work, call.caller, version, makers_of(work)))

    return call.write(act, status=202)


@router.post("/lawbooks/{version}/resume", status_code=202, response_model=shapes.LawbookView)
def resume_change(version: Version, call: Annotated[Call, may(Action.POLICY_APPLY, anywhere)]) -> Response:
    """Let a lawbook that halted go on to the next site."""
    return call.write(lambda work: _view(work, resume_law(work, version)), status=202)


@router.get("/grants", response_model=public.Page[shapes.GrantView])
def all_grants(call: Annotated[Call, may(Action.POLICY_READ, anywhere)]) -> Response:
    """The last approvals and declassifications, ended ones too. There are few: always one page."""

    def find(work: Work) -> BaseModel:
        return public.Page[shapes.GrantView](items=[law_views.grant(work, one) for one in list_grants(work)])

    return call.read(find)


@router.post("/grants", status_code=201, response_model=shapes.GrantView)
def make_grant(body: shapes.GrantRequest, call: Annotated[Call, may(Action.POLICY_APPLY, anywhere)]) -> Response:
    """Take an approval or a declassification that the owner signed."""
    signed = Signed(document=body.document, signature=body.signature)
    return call.write(lambda work: law_views.grant(work, add_grant(work, call.caller, body.kind, signed)), status=201)


@router.delete("/grants/{grant}", response_model=shapes.GrantView)
def end_grant(grant: str, call: Annotated[Call, may(Action.POLICY_APPLY, anywhere)]) -> Response:
    """Take a grant back, at once."""
    return call.write(lambda work: law_views.grant(work, revoke_grant(work, grant)))


def _view(work: Work, record: LawbookRecord) -> shapes.LawbookView:
    return law_views.lawbook(record, law_views.site_names(work))
