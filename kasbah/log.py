"""Logging: one line of JSON per event to standard error, or plain coloured lines on a terminal.

Secrets never reach a log: keys named in SECRET_KEYS are masked wherever they appear in an event.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET_KEYS = frozenset({"token", "key", "authorization", "password", "secret", "ticket", "env"})


def configure(*, level: str = "info", stream: Any = None) -> None:
    """Set up logging for this process. Call once, in an entry point."""
    out = stream or sys.stderr
    terminal = out.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every secret key."""
    for name in SECRET_KEYS & event.keys():
        event[name] = "***"
    return event
