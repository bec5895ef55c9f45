"""Every error as an answer: one shape, `ErrorBody`, whatever went wrong and wherever.

What is ours is told as it is. What is not (our bug) is told as 500 with the request's id, and logged whole.
"""

from __future__ import annotations

import math

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kasbah.api.public import ErrorBody, ErrorDetail
from kasbah.control.http.nearest import explain
from kasbah.errors import BuildFailed, Invalid, KasbahError, NotFound, Unavailable

log = structlog.get_logger()

CLIENT_LEFT = 499
"""What nginx writes down where nobody waits for an answer any more."""

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "build_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
"""The error's type, as the OpenAI clients name them where they have a name for it."""


def install(app: FastAPI) -> None:
    """Answer every error of `app` in our shape."""
    app.add_exception_handler(KasbahError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _bug)


def answer(error: KasbahError, request_id: str, *, status: int | None = None) -> Response:
    """The answer for an error of ours."""
    code = status or error.status
    body = ErrorBody(
        error=ErrorDetail(
            message=error.message,
            type=TYPES.get(code, "server_error"),
            code=error.code,
            param=error.where or None,
            hint=error.hint,
            request_id=request_id,
        )
    )
    return Response(body.model_dump_json(), status_code=code, headers=_headers(error), media_type="application/json")


def _headers(error: KasbahError) -> dict[str, str]:
    if isinstance(error, Unavailable):
        return {"retry-after": str(math.ceil(error.retry_after.total_seconds()))}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


def request_id_of(request: Request) -> str:
    """The request's id, which the edge gave it."""
    return str(request.scope.get("request_id", ""))


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, KasbahError)
    assert not isinstance(error, BuildFailed), "builds fail at sites, and are reported as a rollout's reason"
    state = request.app.state
    await run_in_threadpool(state.refusals.log, state.office, request, error)
    return answer(error, request_id_of(request))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(await run_in_threadpool(explain, error.errors()[0], request), request_id_of(request))


async def _framework(request: Request, error: Exception) -> Response:
    """Errors of the framework: no such path, the wrong method, a body that could not be read."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, KasbahError):
        return answer(error.__cause__, request_id_of(request))
    if error.status_code == 404:
        unknown = NotFound(f"there is nothing at {request.url.path}", hint="the API is below /api/v1")
        return answer(unknown, request_id_of(request))
    if error.status_code == 405:
        wrong = Invalid(f"{request.method} is not for {request.url.path}", code="method_not_allowed")
        return answer(wrong, request_id_of(request), status=405)
    other = Invalid(str(error.detail), hint="correct the request and send it again")
    return answer(other, request_id_of(request), status=error.status_code)


async def _left(_request: Request, _error: Exception) -> Response:
    """Whoever asked has left in the middle of the body: nobody hears an answer."""
    return Response(status_code=CLIENT_LEFT)


async def _bug(request: Request, error: Exception) -> Response:
    request_id = request_id_of(request)
    log.error("request failed", request_id=request_id, path=request.url.path, exc_info=error)
    ours = KasbahError(
        "something went wrong here that should not have", hint=f"the control plane's log says more: {request_id}"
    )
    return answer(ours, request_id)
