"""Keys of callers and tokens for the API: make, list, switch off and on, revoke. A secret is shown in the answer that
makes it, once.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from kasbah.api import credentials, public
from kasbah.control import credential_views as views
from kasbah.control.changes import ROLLOUTS
from kasbah.control.http import paging
from kasbah.control.http.call import Call, anywhere, may, project_asked, render, the_token
from kasbah.control.http.routers import for_people
from kasbah.control.http.services import Project
from kasbah.control.http.waiting import Wait, until
from kasbah.control.store.records import KeyRecord, TokenRecord
from kasbah.control.usecases.key_arrival import Due, key_due
from kasbah.control.usecases.keys import create_key, disable_key, enable_key, list_keys, opens_up_to, revoke_key
from kasbah.control.usecases.tokens import create_token, disable_token, enable_token, list_tokens, revoke_token
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work, token_topic
from kasbah.domain.access import Action

router = for_people("")

Revoked = Annotated[bool, Query(description="The revoked ones too.")]


def secret(_answer: BaseModel) -> None:
    """Nothing of the answer is kept: it holds a secret."""


@router.post("/keys", status_code=201, response_model=credentials.KeyMade, tags=["keys"])
def make_key(
    body: credentials.KeyRequest,
    call: Annotated[Call, may(Action.KEY_CREATE, project_asked)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Make a key for callers of the project's services, or of some of them."""

    def act(work: Work) -> BaseModel:
        record, key = create_key(work, call.caller, project, body)
        return credentials.KeyMade(id=record.id, key=key, opens_up_to=opens_up_to(work, record).word)

    return call.write(act, status=201, keep=secret)


@router.get("/keys", response_model=public.Page[credentials.KeyView], tags=["keys"])
def all_keys(
    call: Annotated[Call, may(Action.KEY_READ, project_asked)],
    project: Project = DEFAULT_PROJECT,
    cursor: paging.After = None,
    limit: paging.Limit = 50,
    revoked: Revoked = False,
) -> Response:
    """One page of keys, by name."""

    def find(work: Work) -> BaseModel:
        found = list_keys(work, project, paging.read_cursor(cursor), limit + 1, revoked=revoked)
        page, following = paging.cut(found, limit)
        return public.Page[credentials.KeyView](items=[_key(work, one) for one in page], next=following)

    return call.read(find)


@router.get("/keys/{key}/arrival", response_model=credentials.KeyArrival, tags=["keys"])
async def key_arrival(
    key: str,
    call: Annotated[Call, may(Action.KEY_READ, project_asked)],
    project: Project = DEFAULT_PROJECT,
    wait: Wait = 0,
) -> Response:
    """Which sites do not act yet on what the key, by id or name, is now. With `wait`: once all that are heard do, or
    when the wait is over."""

    def begin() -> Due:
        with call.looking() as work:
            return key_due(work, project, key)

    def look() -> credentials.KeyArrival:
        with call.looking() as work:
            return due.arrival(work)

    def has_arrived(found: credentials.KeyArrival) -> bool:
        return found.behind == found.away

    due = await run_in_threadpool(begin)
    topics = (ROLLOUTS, token_topic(call.caller.id))
    found = await until(call.office.changes, topics, look, has_arrived, wait)
    return render(found)


@router.delete("/keys/{key}", response_model=credentials.KeyView, tags=["keys"])
def end_key(
    key: str, call: Annotated[Call, may(Action.KEY_REVOKE, project_asked)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Revoke a key, by id or name. Sites refuse it from their next desired state on."""
    return call.write(lambda work: _key(work, revoke_key(work, project, key)))


@router.post("/keys/{key}/disable", response_model=credentials.KeyView, tags=["keys"])
def switch_off_key(
    key: str, call: Annotated[Call, may(Action.KEY_DISABLE, project_asked)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Switch a key off, by id or name. Sites refuse it from their next desired state on."""
    return call.write(lambda work: _key(work, disable_key(work, project, key)))


@router.post("/keys/{key}/enable", response_model=credentials.KeyView, tags=["keys"])
def switch_on_key(
    key: str, call: Annotated[Call, may(Action.KEY_ENABLE, project_asked)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Switch a key on again, by id or name."""
    return call.write(lambda work: _key(work, enable_key(work, call.caller, project, key)))


def _key(work: Work, record: KeyRecord) -> credentials.KeyView:
    services = (work.tx.services.get(one) for one in record.services or ())
    named = {one.id: one.name for one in services if one is not None and one.deleted_at is None}
    return views.key(record, named, opens_up_to(work, record), work.now)


@router.post("/tokens", status_code=201, response_model=credentials.TokenMade, tags=["tokens"])
def make_token(body: credentials.TokenRequest, call: Annotated[Call, may(Action.TOKEN_CREATE, anywhere)]) -> Response:
    """Make a token for this API."""

    def act(work: Work) -> BaseModel:
        record, token = create_token(work, call.caller, body)
        return credentials.TokenMade(id=record.id, token=token)

    return call.write(act, status=201, keep=secret)


@router.get("/tokens", response_model=public.Page[credentials.TokenView], tags=["tokens"])
def all_tokens(
    call: Annotated[Call, may(Action.TOKEN_READ, anywhere)],
    cursor: paging.After = None,
    limit: paging.Limit = 50,
    revoked: Revoked = False,
) -> Response:
    """One page of tokens, by name."""

    def find(work: Work) -> BaseModel:
        found = list_tokens(work, call.caller, paging.read_cursor(cursor), limit + 1, revoked=revoked)
        page, following = paging.cut(found, limit)
        return public.Page[credentials.TokenView](items=[_token(work, one) for one in page], next=following)

    return call.read(find)


@router.delete("/tokens/{token}", response_model=credentials.TokenView, tags=["tokens"])
def end_token(token: str, call: Annotated[Call, may(Action.TOKEN_REVOKE, the_token)]) -> Response:
    """Revoke a token, by id or name."""
    return call.write(lambda work: _token(work, revoke_token(work, token)))


@router.post("/tokens/{token}/disable", response_model=credentials.TokenView, tags=["tokens"])
def switch_off_token(token: str, call: Annotated[Call, may(Action.TOKEN_DISABLE, the_token)]) -> Response:
    """Switch a token off, by id or name: it is worth nothing from now on."""
    return call.write(lambda work: _token(work, disable_token(work, token)))


@router.post("/tokens/{token}/enable", response_model=credentials.TokenView, tags=["tokens"])
def switch_on_token(token: str, call: Annotated[Call, may(Action.TOKEN_ENABLE, the_token)]) -> Response:
    """Switch a token on again, by id or name."""
    return call.write(lambda work: _token(work, enable_token(work, call.caller, token)))


def _token(work: Work, record: TokenRecord) -> credentials.TokenView:
    projects = {one.id: one.name for one in work.tx.installations.projects()}
    return views.token(record, projects, work.now)
