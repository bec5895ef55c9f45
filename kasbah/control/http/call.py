"""A call to the API: who makes it, whether they may, and a write that is made once however often it is sent.

Each route declares one action, by `may`, and where in the request it says what that is about. Both are asked before
anything of the request is looked at, and again in the transaction that acts: a token that is switched off is worth
nothing from then on, to whoever waits as well.

An Idempotency-Key names a write. The answer is kept in the very transaction that wrote, for a day: the same request
again gets the same answer and writes nothing; another request under the same key is refused. An answer that held a
secret is not kept, only that it was given.

Every write, and every door that is opened, is an entry of the audit log, in the transaction that made it: see `acts`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from kasbah.control.access.authenticate import authenticate
from kasbah.control.http.acts import CALLER, act_of, object_of, of_token
from kasbah.control.http.nearest import refuse_unknown_query
from kasbah.control.store.records import KeptAnswer, TokenRecord
from kasbah.control.usecases.journal import Said
from kasbah.control.usecases.permit import Where, permit
from kasbah.control.usecases.work import DEFAULT_PROJECT, Office, Work
from kasbah.domain.access import Action
from kasbah.errors import Conflict, Invalid

BEARER = HTTPBearer(auto_error=False, description="A token for this API, `kst_...`.")
"""Puts the token into the OpenAPI document; `access` is what looks at it."""

KEY = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a call asks for, and by what right."""

    authorization: str | None = field(repr=False)
    action: Action
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call by a caller who may make it."""

    office: Office
    request: Request
    caller: TokenRecord
    idempotency_key: str | None
    fingerprint: str
    asked: Asked

    @contextmanager
    def looking(self) -> Iterator[Work]:
        """Work that changes nothing, for a caller who still may."""
        with self.office.read() as work:
            self._permit(work)
            yield work

    def read(self, act: Callable[[Work], BaseModel]) -> Response:
        """Answer with what `act` finds."""
        with self.looking() as work:
            return render(act(work))

    def open(self, act: Callable[[Work], BaseModel]) -> Response:
        """Answer with what `act` finds, which opens something: it is logged, and changes nothing here."""
        with self.office.note() as work:
            answer = act(work)
            self._log(work, answer)
        return render(answer)

    def write(
        self,
        act: Callable[[Work], BaseModel | None],
        *,
        status: int = 200,
        keep: Callable[[BaseModel], BaseModel | None] = lambda answer: answer,
        again: Callable[[Work, str], BaseModel] | None = None,
    ) -> Response:
        """Answer with what `act` does. `keep` gives what may be kept of the answer (None: nothing, it is secret);
        `again` makes the answer to a repeated request from what was kept."""
        with self.office.write() as work:
            self._permit(work)
            kept = self._kept(work)
            if kept is not None:
                return _repeat(work, kept, again)
            answer = act(work)
            self._log(work, answer)
            self._keep(work, status, keep(answer) if answer is not None else None, empty=answer is None)
        return render(answer, status=status)

    def _permit(self, work: Work) -> None:
        caller = authenticate(work.tx, self.asked.authorization, work.now)
        permit(work, caller, self.asked.action, self.asked.where)

    def _log(self, work: Work, answer: BaseModel | None) -> None:
        work.journal.call = Said(
            actor=of_token(self.caller),
            act=act_of(self.request),
            object=object_of(self.request, answer),
            sent=self.fingerprint.encode(),
        )

    def _kept(self, work: Work) -> KeptAnswer | None:
        if self.idempotency_key is None:
            return None
        kept = work.tx.answers.get(self.caller.id, self.idempotency_key)
        if kept is not None and kept.fingerprint != self.fingerprint:
            raise Conflict(
                "this Idempotency-Key was used for another request",
                hint="choose a new key for each write, and repeat it only with the same request",
                code="idempotency_key_reused",
                where="Idempotency-Key",
            )
        return kept

    def _keep(self, work: Work, status: int, answer: BaseModel | None, *, empty: bool) -> None:
        if self.idempotency_key is None:
            return
        body = "" if empty else answer.model_dump_json() if answer is not None else None
        work.tx.answers.add(
            KeptAnswer(
                token=self.caller.id,
                key=self.idempotency_key,
                fingerprint=self.fingerprint,
                status=status,
                body=body,
                at=work.now,
            )
        )


def _repeat(work: Work, kept: KeptAnswer, again: Callable[[Work, str], BaseModel] | None) -> Response:
    if kept.body is None:
        raise Conflict(
            "this was made already, and its secret was shown then, once",
            hint="revoke it and make another",
            code="already_made",
        )
    body = again(work, kept.body).model_dump_json() if again is not None and kept.body else kept.body
    headers = {"idempotent-replayed": "true"}
    return Response(body, status_code=kept.status, media_type="application/json" if body else None, headers=headers)


def render(answer: BaseModel | None, *, status: int = 200) -> Response:
    """An answer in JSON, or an empty one."""
    if answer is None:
        return Response(status_code=status)
    return Response(answer.model_dump_json(), status_code=status, media_type="application/json")


def office_of(request: Request) -> Office:
    """The office this application works for."""
    return cast(Office, request.app.state.office)


async def _fingerprint(request: Request) -> str:
    """What the request asks, as a digest."""
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(asked + await request.body()).hexdigest()


Target = Callable[[Request], Where]
"""Finds in a request what it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a route declares: its action, and what that is about."""

    action: Action
    target: Target


def may(action: Action, target: Target) -> Any:
    """A dependency: the call, by a caller who may do this to what the request names."""

    def admit(
        request: Request,
        fingerprint: Annotated[str, Depends(_fingerprint)],
        _documented: Annotated[object, Depends(BEARER)],
        idempotency_key: Annotated[str | None, Header(description="Makes a repeated write happen once.")] = None,
    ) -> Call:
        office = office_of(request)
        asked = Asked(authorization=request.headers.get("authorization"), action=action, where=target(request))
        with office.read() as work:
            caller = authenticate(work.tx, asked.authorization, work.now)
            request.scope[CALLER] = of_token(caller)
            permit(work, caller, action, asked.where)
        refuse_unknown_query(request)
        if idempotency_key is not None and not KEY.fullmatch(idempotency_key):
            raise Invalid(
                "this Idempotency-Key cannot be used", where="Idempotency-Key", hint="1 to 200 visible ASCII characters"
            )
        return Call(
            office=office,
            request=request,
            caller=caller,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            asked=asked,
        )

    admit.declared = Declared(action=action, target=target)  # type: ignore[attr-defined]
    return Depends(admit)


def declared(route: APIRoute) -> tuple[Declared, ...]:
    """What a route declares."""
    found = (getattr(one.call, "declared", None) for one in route.dependant.dependencies)
    return tuple(one for one in found if isinstance(one, Declared))


def anywhere(_request: Request) -> Where:
    """The installation, a site of it, or whatever there is that the caller may."""
    return Where()


def project_asked(request: Request) -> Where:
    """The project in the query."""
    return Where(project=request.query_params.get("project", DEFAULT_PROJECT))


def some_project(request: Request) -> Where:
    """The project in the query, or every one that the caller may."""
    return Where(project=request.query_params.get("project"))


def the_project(request: Request) -> Where:
    """The project in the path."""
    return Where(project=request.path_params["name"])


def the_service(request: Request) -> Where:
    """The service in the path, of the project in the query."""
    return replace(project_asked(request), service=request.path_params["name"])


def the_rollout(request: Request) -> Where:
    """The rollout in the path."""
    return Where(rollout=request.path_params["rollout_id"])


def the_token(request: Request) -> Where:
    """The token in the path."""
    return Where(token=request.path_params["token"])
