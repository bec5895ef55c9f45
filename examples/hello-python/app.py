"""Notes and visits: a small JSON API. Notes live in memory, so they survive freezing and not stopping."""

import hashlib
import itertools
import os
from collections import OrderedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

MOST_NOTES = 1_000
LONGEST_NOTE = 2_000

PAGE = """<!doctype html><meta charset="utf-8"><title>Notes</title>
<h1>Notes</h1><p>Visit number {visits}, answered by process {pid}.</p>
<p><code>GET /notes</code>, <code>POST /notes {{"text": ...}}</code>, <code>DELETE /notes/ID</code>,
<code>POST /digest</code></p>"""

notes: OrderedDict[int, str] = OrderedDict()
note_ids = itertools.count(1)
visits = itertools.count(1)


async def home(request: Request) -> Response:
    return HTMLResponse(PAGE.format(visits=next(visits), pid=os.getpid()))


async def list_notes(request: Request) -> Response:
    return JSONResponse([{"id": note, "text": text} for note, text in notes.items()])


async def add_note(request: Request) -> Response:
    try:
        text = (await request.json())["text"]
    except (ValueError, KeyError, TypeError):
        raise HTTPException(400, 'send JSON like {"text": "..."}') from None
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_NOTE:
        raise HTTPException(400, f"text must be a string of 1 to {LONGEST_NOTE} characters")
    note = next(note_ids)
    notes[note] = text
    if len(notes) > MOST_NOTES:
        notes.popitem(last=False)
    return JSONResponse({"id": note, "text": text}, status_code=201)


async def delete_note(request: Request) -> Response:
    if notes.pop(request.path_params["note"], None) is None:
        raise HTTPException(404, "no such note")
    return Response(status_code=204)


async def digest(request: Request) -> Response:
    """The size and digest of whatever was sent, read as it arrives: it is never in memory as a whole."""
    size, sha256 = 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        sha256.update(chunk)
    return JSONResponse({"bytes": size, "sha256": sha256.hexdigest()})


async def healthz(request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/notes", list_notes, methods=["GET"]),
        Route("/notes", add_note, methods=["POST"]),
        Route("/notes/{note:int}", delete_note, methods=["DELETE"]),
        Route("/digest", digest, methods=["POST", "PUT"]),
        Route("/healthz", healthz),
    ],
    exception_handlers={HTTPException: explain},
)
