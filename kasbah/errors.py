"""Every error Kasbah raises on purpose, in one tree.

    KasbahError
    |- Invalid            400  what was sent cannot be right
    |- Unauthenticated    401  who calls is not known
    |- Denied             403  who calls may not
    |- NotFound           404  it is not there, or the caller may not know that it is
    |- Conflict           409  it changed meanwhile, or it is in the way of something else
    |- TooLarge           413  more than a limit allows
    |- QuotaExceeded      429  more than is allowed now
    |- Unavailable        503  not now; `retry_after` says when to ask again
    `- BuildFailed        422  the source does not build; `tail` holds the builder's last lines

Each has a stable `code` for programs, a message for people, and a `hint` about the next move. An expected outcome is a
value, not an error. Anything else that is raised is our bug.
"""

from __future__ import annotations

from datetime import timedelta


class KasbahError(Exception):
    """The root. `where` is a file, line and key, or a field's path, when there is one."""

    status = 500
    default_code = "internal"
    request_id = ""
    """The request it answered, where another process raised it."""

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Invalid(KasbahError):
    """What was sent cannot be right."""

    status = 400
    default_code = "invalid"


class Unauthenticated(KasbahError):
    """Who calls is not known."""

    status = 401
    default_code = "unauthenticated"


class Denied(KasbahError):
    """Who calls may not do this."""

    status = 403
    default_code = "denied"


class NotFound(KasbahError):
    """It is not there, or the caller may not know that it is."""

    status = 404
    default_code = "not_found"


class Conflict(KasbahError):
    """It changed meanwhile, or it is in the way of something else."""

    status = 409
    default_code = "conflict"


class TooLarge(KasbahError):
    """More than a limit allows."""

    status = 413
    default_code = "too_large"


class BuildFailed(KasbahError):
    """The source does not build. `tail` holds the builder's last lines; `passing`: what failed was the machine or its
    network, so that it may build another time."""

    status = 422
    default_code = "build_failed"

    def __init__(self, message: str, *, hint: str = "", tail: tuple[str, ...] = (), passing: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.tail = tail
        self.passing = passing


class QuotaExceeded(KasbahError):
    """More than is allowed now."""

    status = 429
    default_code = "quota_exceeded"


class Unavailable(KasbahError):
    """Not now; ask again after `retry_after`."""

    status = 503
    default_code = "unavailable"

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, retry_after: timedelta = timedelta(seconds=1)
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after = retry_after


def first_of(group: BaseExceptionGroup[KasbahError]) -> KasbahError:
    """The first error in a group, however deep it lies."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first
