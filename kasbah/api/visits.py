"""What crosses the WebSocket of `kasbah exec`, between the CLI and a site's door.

Each message is binary: one byte that says what it is, then its payload.

    CLI to site      CONTROL  a JSON object: first {"argv", "terminal": [ROWS, COLUMNS] or null, "replica" or null},
                              then {"resize": [ROWS, COLUMNS]} and {"still": true}, which only says that it is there
                     INPUT    standard input; an empty one ends it
    site to CLI      CONTROL  {"waking": true}, {"replica": ID}, {"taken": BYTES} of input that the command has taken,
                              and last {"exit": CODE} or {"error": {...}}
                     OUTPUT   standard output, or all that a terminal shows
                     ERRORS   standard error
"""

from __future__ import annotations

import json
from typing import Any

CONTROL, INPUT, OUTPUT, ERRORS = range(4)
CHUNK = 32 * 1024
"""The most bytes one message carries of a stream."""

WINDOW = 256 * 1024
"""The most bytes of input that are under way, not taken by the command yet: the site keeps no more."""

LONGEST_MESSAGE = 256 * 1024
LONGEST_COMMAND = 128 * 1024
MOST_ARGUMENTS = 1_000
STILL_SECONDS = 15.0
"""How often a CLI says that it is there."""

GONE_SECONDS = 60.0
"""One that says nothing for so long is gone, and its command ends."""


def control(**fields: object) -> bytes:
    """A control message."""
    return bytes((CONTROL,)) + json.dumps(fields).encode()


def data(kind: int, payload: bytes) -> bytes:
    """A message of a stream."""
    return bytes((kind,)) + payload


def read(message: bytes) -> tuple[int, Any]:
    """What a message is, and its payload: bytes, or the object of a control message. Raises ValueError."""
    if not message:
        raise ValueError("an empty message")
    kind, payload = message[0], message[1:]
    if kind != CONTROL:
        return kind, payload
    try:
        fields = json.loads(payload)
    except RecursionError:
        raise ValueError("a control message of too many levels") from None
    if not isinstance(fields, dict):
        raise ValueError("a control message is an object")
    return kind, fields
