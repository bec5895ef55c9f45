"""Secrets: set, labelled, listed, removed. A value comes in and is never told again."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Path
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import credentials, public
from kasbah.api.manifest import DataSection
from kasbah.control import views
from kasbah.control.http import paging
from kasbah.control.http.call import Call, may, project_asked
from kasbah.control.http.routers import for_people
from kasbah.control.http.services import Project
from kasbah.control.usecases.secret_labels import label_secret
from kasbah.control.usecases.secrets import delete_secret, list_secrets, see_secret, set_secret
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work
from kasbah.domain.access import Action

router = for_people("/secrets", "secrets")

Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,59}$", description="Lower-case letters, digits and dashes.")]


@router.put("/{name}", response_model=credentials.SecretView)
def put_secret(
    name: Name,
    body: credentials.SecretRequest,
    call: Annotated[Call, may(Action.SECRET_SET, project_asked)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Set a secret. Repeating it changes nothing, so no Idempotency-Key is kept: its fingerprint would be one of the
    value."""

    def act(work: Work) -> BaseModel:
        return views.secret(see_secret(work, set_secret(work, project, name, body.value_base64)))

    return replace(call, idempotency_key=None, fingerprint="").write(act)


@router.put("/{name}/label", response_model=credentials.SecretView)
def put_label(
    name: Name,
    body: DataSection,
    call: Annotated[Call, may(Action.SECRET_SET, project_asked)],
    project: Project = DEFAULT_PROJECT,
) -> Response:
    """Say how sensitive a secret is: services that are labelled lower cannot have it. A label only rises."""
    label = body.to_domain()
    return call.write(lambda work: views.secret(see_secret(work, label_secret(work, project, name, label))))


@router.get("", response_model=public.Page[credentials.SecretView])
def all_secrets(
    call: Annotated[Call, may(Action.SECRET_READ, project_asked)],
    project: Project = DEFAULT_PROJECT,
    cursor: paging.After = None,
    limit: paging.Limit = 50,
) -> Response:
    """One page of secrets, by name."""

    def find(work: Work) -> BaseModel:
        found = list_secrets(work, project, paging.read_cursor(cursor), limit + 1)
        by_id = {one.secret.id: one for one in found}
        page, following = paging.cut([one.secret for one in found], limit)
        return public.Page[credentials.SecretView](items=[views.secret(by_id[one.id]) for one in page], next=following)

    return call.read(find)


@router.delete("/{name}", status_code=204)
def remove_secret(
    name: Name, call: Annotated[Call, may(Action.SECRET_DELETE, project_asked)], project: Project = DEFAULT_PROJECT
) -> Response:
    """Remove a secret that nothing uses."""
    return call.write(lambda work: delete_secret(work, project, name), status=204)
