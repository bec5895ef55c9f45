"""What a call is in the audit log: the operation's name in the API document, and the object that its path names.

Nothing is listed by hand, so that no route can be forgotten. What a caller sent is committed to and never told.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import structlog
from fastapi import Request
from pydantic import BaseModel

from kasbah.control.store.records import SiteRecord, TokenRecord
from kasbah.control.usecases.journal import UNKNOWN, Actor, Said
from kasbah.control.usecases.work import DEFAULT_PROJECT, Office
from kasbah.domain.audit import Outcome
from kasbah.errors import Denied, KasbahError, Unauthenticated

log = structlog.get_logger()

API = ("/api/v1/", "/agent/v1/")
CALLER = "kasbah.caller"
"""Where a request's scope holds who makes it, once that is known."""

OF_LAW = frozenset({"policy_denied", "no_lawful_site"})
"""Errors that are the law's refusals, besides those of access."""

AGAIN = timedelta(minutes=1)
MOST_KINDS = 1_000


def act_of(request: Request) -> str:
    """The operation's name."""
    route: Any = request.scope.get("route")
    return str(getattr(route, "name", "none"))


def object_of(request: Request, answer: BaseModel | None = None) -> str:
    """The object: its path, below its project where it has one; what a call made is below the list it was sent to."""
    path = request.url.path
    for prefix in API:
        path = path.removeprefix(prefix)
    made = getattr(answer, "id", None) or getattr(answer, "name", None)
    if made and not request.path_params:
        path = f"{path}/{made}"
    project = request.query_params.get("project", DEFAULT_PROJECT)
    return f"projects/{project}/{path}" if _has_project(request) else path


def _has_project(request: Request) -> bool:
    dependant: Any = getattr(request.scope.get("route"), "dependant", None)
    return any(one.name == "project" for one in getattr(dependant, "query_params", ()))


def of_token(token: TokenRecord) -> Actor:
    """Who calls with this token."""
    return Actor(name=token.name, credential=token.id)


def of_site(site: SiteRecord) -> Actor:
    """Which site's agent calls."""
    return Actor(name=f"site {site.name}", credential=site.id)


class Refusals:
    """Logs what was refused for lack of access or by law. The same again within a minute is counted, and told with the
    next: whoever knocks without end does not fill the log."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], tuple[datetime, int]] = {}

    def log(self, office: Office, request: Request, error: KasbahError) -> None:
        """Write an entry, if this is a refusal and is due. Blocking."""
        if not isinstance(error, Denied | Unauthenticated) and error.code not in OF_LAW:
            return
        actor = request.scope.get(CALLER, UNKNOWN)
        times = self._due((actor.credential, act_of(request), error.code), office.clock.now())
        if times == 0:
            return
        said = Said(
            actor=actor,
            act=act_of(request),
            object=object_of(request),
            outcome=Outcome.REFUSED,
            reason=f"{error.code}: {error.message}",
            details={"times": str(times)} if times > 1 else {},
        )
        try:
            office.log(said)
        except KasbahError as problem:  # it is refused all the same
            log.error("a refusal could not be logged", act=said.act, reason=str(problem))

    def _due(self, kind: tuple[str, str, str], now: datetime) -> int:
        """How many refusals of this kind are to be told now: none within a minute of the last."""
        told = self._told.get(kind)
        if told is not None and now - told[0] < AGAIN:
            self._told[kind] = (told[0], told[1] + 1)
            return 0
        if told is None and len(self._told) >= MOST_KINDS:
            self._told.clear()
        self._told[kind] = (now, 0)
        return 1 + (told[1] if told is not None else 0)
