"""A call to the API: who makes it, whether they may, and a write that is made once however often it is sent.

An Idempotency-Key names a write. The answer is kept in the very transaction that wrote, for a day: the same request
again gets the same answer and writes nothing; another request under the same key is refused. An answer that held a
secret is not kept, only that it was given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from kasbah.control.access.authenticate import Scope, authenticate, authorize
from kasbah.control.http.nearest import refuse_unknown_query
from kasbah.control.store.records import KeptAnswer, TokenRecord
from kasbah.control.usecases.work import Office, Work
from kasbah.errors import Conflict, Invalid

BEARER = HTTPBearer(auto_error=False, description="A token for this API, `kst_...`.")
"""Puts the token into the OpenAPI document; `access` is what looks at it."""

KEY = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call by a caller who may make it."""

    office: Office
    caller: TokenRecord
    idempotency_key: str | None
    fingerprint: str

    def read(self, act: Callable[[Work], BaseModel]) -> Response:
        """Answer with what `act` finds."""
        with self.office.read() as work:
            return render(act(work))

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
            kept = self._kept(work)
            if kept is not None:
                return _repeat(work, kept, again)
            answer = act(work)
            self._keep(work, status, keep(answer) if answer is not None else None, empty=answer is None)
        return render(answer, status=status)

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


def may(scope: Scope) -> Callable[..., Call]:
    """A dependency: the call, by a caller whose token includes `scope`."""

    def admit(
        request: Request,
        fingerprint: Annotated[str, Depends(_fingerprint)],
        _documented: Annotated[object, Depends(BEARER)],
        idempotency_key: Annotated[str | None, Header(description="Makes a repeated write happen once.")] = None,
    ) -> Call:
        office = office_of(request)
        with office.read() as work:
            caller = authenticate(work.tx, request.headers.get("authorization"))
        authorize(caller, scope)
        refuse_unknown_query(request)
        if idempotency_key is not None and not KEY.fullmatch(idempotency_key):
            raise Invalid(
                "this Idempotency-Key cannot be used", where="Idempotency-Key", hint="1 to 200 visible ASCII characters"
            )
        return Call(office=office, caller=caller, idempotency_key=idempotency_key, fingerprint=fingerprint)

    return admit


Reader = Annotated[Call, Depends(may(Scope.READ))]
Deployer = Annotated[Call, Depends(may(Scope.DEPLOY))]
KeyKeeper = Annotated[Call, Depends(may(Scope.KEYS))]
Administrator = Annotated[Call, Depends(may(Scope.ADMIN))]
