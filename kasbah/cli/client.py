"""Speaks to the control plane's API and turns its errors, and the network's, into ours.

Answers stay JSON as they came: a client meets servers newer than itself and must not refuse what it does not know, and
building the shapes would cost a `ps` more than the question does. Every call has a deadline. Writes carry an
idempotency key, so that repeating one after a lost answer does nothing twice.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx

from kasbah.cli.context import Context
from kasbah.domain.service import NAME
from kasbah.errors import (
    Conflict,
    Denied,
    Invalid,
    KasbahError,
    NotFound,
    QuotaExceeded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

Document = dict[str, Any]
"""A JSON object of the API, as `api/public.py` describes it."""

API = "/api/v1"
WAIT_SECONDS = 20
"""How long one long poll asks the server to wait."""

TIMEOUT = httpx.Timeout(connect=5, read=WAIT_SECONDS + 40, write=30, pool=5)
PAUSE_SECONDS = 0.2
SECRET = re.compile(r"[a-z][a-z0-9-]{0,59}")
BUSY = frozenset({502, 503, 504})
OF_A_PROJECT = ("/services", "/keys", "/secrets")
"""Paths below which names belong to a project."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_KINDS: dict[int, type[KasbahError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: QuotaExceeded,
    503: Unavailable,
}


class Client:
    """The API of one installation, and the project that names of services and keys belong to. `patience` is for how
    many seconds a server that does not answer, or says it is busy, is asked again."""

    def __init__(self, context: Context, *, project: str | None = None, patience: float = 0) -> None:
        self.url = context.url
        self._project = project
        self._patience = patience
        self._http = plain_http(context.url, headers={"authorization": f"Bearer {context.token}"})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> Document:
        """The object at `path`."""
        return self._call("GET", path, query=query)

    def pages(self, path: str, **query: str | int) -> Iterator[Document]:
        """Every object of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self._call("GET", path, query=query | ({} if cursor is None else {"cursor": cursor}))
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def post(self, path: str, body: Document | None = None, *, patience: float | None = None) -> Document:
        """The answer to a write; `patience` for this one, where it is another."""
        return self._call("POST", path, body={} if body is None else body, patience=patience)

    def put(self, path: str, body: Document) -> Document:
        """The answer to a write that may be repeated."""
        return self._call("PUT", path, body=body)

    def delete(self, path: str) -> Document:
        """The answer to a removal."""
        return self._call("DELETE", path)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str | int] | None = None,
        body: Document | None = None,
        patience: float | None = None,
    ) -> Document:
        headers = {} if method in ("GET", "PUT") else {"idempotency-key": str(uuid.uuid4())}
        if self._project is not None and path.startswith(OF_A_PROJECT):
            query = {"project": self._project, **(query or {})}
        give_up = time.monotonic() + (self._patience if patience is None else patience)
        while True:
            try:
                answer = self._http.request(method, API + path, params=query, json=body, headers=headers)
            except httpx.HTTPError as error:
                if time.monotonic() >= give_up:
                    raise _unreachable(self.url, error) from error
            except UnicodeEncodeError:
                problem = "this command line holds bytes that are no text in UTF-8"
                raise Invalid(problem, hint="type it in UTF-8", code="usage") from None
            else:
                if answer.status_code not in BUSY or time.monotonic() >= give_up:
                    return read_answer(answer)
            time.sleep(PAUSE_SECONDS)


def service_path(name: str, *below: str) -> str:
    """The path of a service. Raises NotFound for what cannot be a name, so that no name leads elsewhere."""
    if not NAME.fullmatch(name):
        raise NotFound(f"there is no service {name!r}", hint="`kasbah ps` lists them")
    return "/".join(("/services", name, *below))


def site_path(name: str, *below: str) -> str:
    """The path of a site. Raises NotFound for what cannot be a name."""
    if not NAME.fullmatch(name):
        raise NotFound(f"there is no site {name!r}", hint="`kasbah sites list` lists them", code="site_not_found")
    return "/".join(("/sites", name, *below))


def secret_path(name: str) -> str:
    """The path of a secret. Raises Invalid for what cannot be one's name."""
    if not SECRET.fullmatch(name):
        hint = "a name has lower-case letters, digits and dashes, a letter first"
        raise Invalid(f"{name!r} cannot be a secret's name", hint=hint, code="usage")
    return f"/secrets/{name}"


def plain_http(url: str, *, headers: dict[str, str]) -> httpx.Client:
    """An HTTP client for `url`. A proxy of the environment is for the world outside, not for this machine; and
    certificates are loaded only where TLS is spoken, because loading them takes longer than `kasbah ps`."""
    parts = httpx.URL(url)
    return httpx.Client(
        base_url=url,
        headers=headers,
        timeout=TIMEOUT,
        trust_env=parts.host not in LOOPBACK,
        verify=parts.scheme == "https",
    )


def read_answer(answer: httpx.Response) -> Document:
    """The object in an answer. Raises the error that it tells."""
    if answer.is_success and not answer.content:
        return {}
    try:
        document = answer.json()
        if answer.is_success and isinstance(document, dict):
            return document
        detail = document["error"]
        error = _error(answer, detail["message"], detail)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        where = answer.url.copy_with(path="/", query=None)
        raise Unavailable(
            f"{where} answers, but not as Kasbah does (status {answer.status_code})",
            hint="is another program listening there? see `kasbah doctor`",
            code="not_kasbah",
        ) from problem
    raise error


def _error(answer: httpx.Response, message: str, detail: Document) -> KasbahError:
    error = _KINDS.get(answer.status_code, KasbahError)(
        str(message), hint=str(detail.get("hint") or ""), code=str(detail.get("code") or "internal")
    )
    error.where = str(detail.get("param") or "")
    error.request_id = str(detail.get("request_id") or answer.headers.get("x-request-id", ""))
    return error


def error_of(status: int, detail: Document) -> KasbahError:
    """The error that a site's door tells in its own words."""
    kind = _KINDS.get(status, KasbahError)
    return kind(str(detail["message"]), hint=str(detail.get("hint") or ""), code=str(detail.get("code") or "internal"))


def _unreachable(url: str, error: httpx.HTTPError) -> Unavailable:
    slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return Unavailable(
        f"Kasbah at {url} {'does not answer in time' if slow else 'is not reachable'}",
        hint="is it running? `kasbah up` starts it, `kasbah doctor` looks for the cause",
        code="unreachable",
    )
