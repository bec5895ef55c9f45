"""The site's own door, where sources go in and logs come out: through its gateway, with a ticket from control.

A failed attempt is made again while it is safe (the blob is named by its digest, so sending it twice is sending it
once) and not for longer than a deadline; an expired ticket is changed for a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from kasbah.cli.client import BUSY, Document, plain_http, read_answer
from kasbah.errors import Denied, Unauthenticated, Unavailable

CHUNK = 256 * 1024
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.3
MANY_FILES = httpx.Timeout(connect=5, read=300, write=30, pool=5)
"""Counting or removing a million files takes its time."""

AskDoor = Callable[[], Document]
"""Asks the control plane for a door with a fresh ticket."""


def send(file: Path, door: Document, ask_again: AskDoor, sent: Callable[[int], None]) -> None:
    """Send `file` through `door`, unless the site has it. `sent` is told how many bytes have gone."""
    give_up: float | None = None
    while True:
        try:
            _send_once(file, door, sent)
            return
        except (Denied, Unauthenticated):
            if give_up is not None:
                raise
            door = ask_again()
        except Unavailable:
            if give_up is not None and time.monotonic() > give_up:
                raise
        give_up = give_up or time.monotonic() + PATIENCE_SECONDS
        time.sleep(PAUSE_SECONDS)


def _send_once(file: Path, door: Document, sent: Callable[[int], None]) -> None:
    size = file.stat().st_size
    with open_door(door) as http:
        try:
            if http.head(door["path"]).is_success:
                sent(size)
                return
            headers = {"content-length": str(size), "content-type": "application/octet-stream"}
            answer = http.put(door["path"], content=_chunks(file, sent), headers=headers)
        except httpx.HTTPError as error:
            raise not_there(door, error) from error
    if answer.status_code in BUSY:
        raise Unavailable(f"the site's gateway at {door['address']} is busy ({answer.status_code})")
    read_answer(answer)


def open_door(door: Document) -> httpx.Client:
    """An HTTP client for the door: it connects to the address and names the host, so no resolver needs to know it."""
    address = str(door["address"])
    url = address if "://" in address else f"http://{address}"
    return plain_http(url, headers={"host": door["host"], "authorization": f"Bearer {door['ticket']}"})


def not_there(door: Document, error: httpx.HTTPError) -> Unavailable:
    """The gateway could not be spoken to, or stopped answering."""
    return Unavailable(
        f"the site's gateway at {door['address']} cannot be reached: {str(error) or type(error).__name__}",
        hint="is its address reachable from this machine? see `kasbah sites list` and `kasbah doctor`",
        code="gateway_unreachable",
    )


def _chunks(file: Path, sent: Callable[[int], None]) -> Iterator[bytes]:
    gone = 0
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            yield chunk
            gone += len(chunk)
            sent(gone)
