"""Search by meaning: `POST /search {"query": ..., "limit": ...}` answers the nearest sentences of the corpus."""

import asyncio
import json
from pathlib import Path

import numpy as np
from corpus import entries, vectors
from embed import Embedder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

PAGE = Path(__file__).with_name("page.html")
LARGEST_BODY = 16_384
LONGEST_QUERY = 1_000
MOST_RESULTS = 20

embed = Embedder()
known = entries()
rows = vectors()
one_at_a_time = asyncio.Lock()
"""The model uses every core for one query already: two at once would only take turns."""


def nearest(query: str, limit: int) -> list[dict[str, object]]:
    """The sentences nearest in meaning, best first."""
    cosines = rows @ embed(query)
    best = np.argsort(-cosines)[:limit]
    return [{"score": round(float(cosines[i]), 4), "text": known[i].text, "language": known[i].language} for i in best]


async def question(request: Request) -> tuple[str, int]:
    """What is asked, checked."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"the body is longer than {LARGEST_BODY} bytes")
    try:
        asked = json.loads(body)
        query, limit = asked["query"], asked.get("limit", 5)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HTTPException(400, 'send JSON like {"query": "..."}') from None
    if not isinstance(query, str) or not 0 < len(query) <= LONGEST_QUERY:
        raise HTTPException(400, f"query must be a string of 1 to {LONGEST_QUERY} characters")
    if type(limit) is not int or not 0 < limit <= MOST_RESULTS:
        raise HTTPException(400, f"limit must be a whole number from 1 to {MOST_RESULTS}")
    return query, limit


async def search(request: Request) -> Response:
    query, limit = await question(request)
    async with one_at_a_time:
        results = await asyncio.to_thread(nearest, query, limit)
    return JSONResponse({"query": query, "results": results})


async def page(request: Request) -> Response:
    return FileResponse(PAGE)


async def healthz(request: Request) -> Response:
    return PlainTextResponse(f"ok, {len(known)} sentences\n")


async def explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


app = Starlette(
    routes=[Route("/", page), Route("/search", search, methods=["POST"]), Route("/healthz", healthz)],
    exception_handlers={HTTPException: explain},
)
