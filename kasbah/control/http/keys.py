"""Keys of callers and tokens for the API: make, list, revoke. A secret is shown in the answer that makes it, once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import credentials, public
from kasbah.control import views
from kasbah.control.http import paging
from kasbah.control.http.call import Administrator, KeyKeeper
from kasbah.control.http.services import Project
from kasbah.control.store.records import KeyRecord
from kasbah.control.usecases.keys import create_key, list_keys, revoke_key
from kasbah.control.usecases.tokens import create_token, list_tokens, revoke_token
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work

router = APIRouter(prefix="/api/v1")

Revoked = Annotated[bool, Query(description="The revoked ones too.")]


def secret(_answer: BaseModel) -> None:
    """Nothing of the answer is kept: it holds a secret."""


@router.post("/keys", status_code=201, response_model=credentials.KeyMade, tags=["keys"])
def make_key(body: credentials.KeyRequest, call: KeyKeeper, project: Project = DEFAULT_PROJECT) -> Response:
    """Make a key for callers of the project's services, or of some of them."""

    def act(work: Work) -> BaseModel:
        record, key = create_key(work, project, body)
        return credentials.KeyMade(id=record.id, key=key)

    return call.write(act, status=201, keep=secret)


@router.get("/keys", response_model=public.Page[credentials.KeyView], tags=["keys"])
def all_keys(
    call: KeyKeeper,
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


@router.delete("/keys/{key}", response_model=credentials.KeyView, tags=["keys"])
def end_key(key: str, call: KeyKeeper, project: Project = DEFAULT_PROJECT) -> Response:
    """Revoke a key, by id or name. Sites refuse it from their next desired state on."""
    return call.write(lambda work: _key(work, revoke_key(work, project, key)))


def _key(work: Work, record: KeyRecord) -> credentials.KeyView:
    services = (work.tx.services.get(one) for one in record.services or ())
    return views.key(record, {one.id: one.name for one in services if one is not None and one.deleted_at is None})


@router.post("/tokens", status_code=201, response_model=credentials.TokenMade, tags=["tokens"])
def make_token(body: credentials.TokenRequest, call: Administrator) -> Response:
    """Make a token for this API."""

    def act(work: Work) -> BaseModel:
        record, token = create_token(work, body)
        return credentials.TokenMade(id=record.id, token=token)

    return call.write(act, status=201, keep=secret)


@router.get("/tokens", response_model=public.Page[credentials.TokenView], tags=["tokens"])
def all_tokens(
    call: Administrator, cursor: paging.After = None, limit: paging.Limit = 50, revoked: Revoked = False
) -> Response:
    """One page of tokens, by name."""

    def find(work: Work) -> BaseModel:
        page, following = paging.cut(list_tokens(work, paging.read_cursor(cursor), limit + 1, revoked=revoked), limit)
        return public.Page[credentials.TokenView](items=[views.token(one) for one in page], next=following)

    return call.read(find)


@router.delete("/tokens/{token}", response_model=credentials.TokenView, tags=["tokens"])
def end_token(token: str, call: Administrator) -> Response:
    """Revoke a token, by id or name."""
    return call.write(lambda work: views.token(revoke_token(work, token)))
