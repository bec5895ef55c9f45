"""What the exit code says, and how an error is told: one table, used by the help, the documentation and `main`.

Errors go to standard error: a line or two for people, `ErrorBody` for programs that asked for JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from enum import IntEnum

from kasbah.cli.text import clean
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


class ExitCode(IntEnum):
    """What the exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the operation failed: a build, a rollout, a check of `doctor`",
    ExitCode.USAGE: "wrong usage, or a file or value that is invalid or too large",
    ExitCode.UNREACHABLE: "Kasbah is not running, not reachable, or cannot answer now",
    ExitCode.REFUSED: "the token is missing, unknown, or not allowed to do this, or a quota does not allow it",
    ExitCode.NOT_FOUND: "no such service, key, token or rollout",
    ExitCode.CONFLICT: "it changed meanwhile, or something else is in the way",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}

_BY_ERROR: tuple[tuple[type[KasbahError], ExitCode], ...] = (
    (Invalid, ExitCode.USAGE),
    (TooLarge, ExitCode.USAGE),
    (Unauthenticated, ExitCode.REFUSED),
    (Denied, ExitCode.REFUSED),
    (QuotaExceeded, ExitCode.REFUSED),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (Unavailable, ExitCode.UNREACHABLE),
)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "build_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
"""The error's type, by status, as the API names them; a test holds the two together."""


class Failed(KasbahError):
    """What was asked for was tried and did not work. `tail` holds the last lines of what failed."""

    default_code = "failed"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint, code=code)
        self.tail = tail


def exit_code(error: KasbahError) -> ExitCode:
    """The exit code that says what kind of error it was."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILED)


def for_people(error: KasbahError) -> str:
    """The error as lines for a terminal: what is wrong, its last lines, the next step."""
    lines = [f"error: {clean(str(error), lines=True)}"]
    lines += [f"  | {clean(line)}" for line in getattr(error, "tail", ())]
    if error.hint:
        lines.append(f"hint: {clean(error.hint, lines=True)}")
    if error.request_id and error.status >= 500:
        lines.append(f"request: {clean(error.request_id)}")
    return "\n".join(lines)


def own_words(lines: Sequence[str]) -> tuple[str, str] | None:
    """The last error that a program of ours told among these lines, as `for_people` writes it: the problem and the
    hint. None where there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if not starts:
        return None
    told = itertools.takewhile(lambda line: not line.startswith(("{", "request: ")), lines[starts[-1] :])
    problem, _, hint = "\n".join(told).removeprefix("error: ").partition("\nhint: ")
    return problem, hint


def for_programs(error: KasbahError) -> str:
    """The error as `ErrorBody`, in JSON. The last lines of what failed are part of the message."""
    detail = {
        "message": "\n".join([error.message, *getattr(error, "tail", ())]),
        "type": TYPES.get(error.status, "server_error"),
        "code": error.code,
        "param": error.where or None,
        "hint": error.hint,
        "request_id": error.request_id,
    }
    return json.dumps({"error": detail})
