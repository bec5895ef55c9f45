"""The app that most tests call: it does little, and tells what it saw.

GET /                who answers: replica, version, and how many requests this process has begun; with STATUS, if set
POST /digest         the length and digest of what was sent
POST /discard        the length of what was sent
GET /slow?seconds=   answers after so long
GET /events?count=&every=   an event stream that ends
GET /peak            the most requests of /slow that were ever answered at once
/ws                  says back what it hears
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from urllib.parse import parse_qs

VERSION = os.environ.get("VERSION", "1")
STATUS = int(os.environ.get("STATUS", "200"))
REPLICA = os.environ.get("KASBAH_REPLICA", "")
STREAM = [(b"content-type", b"text/event-stream")]
begun = now = peak = 0

if "START_SECONDS" in os.environ:
    time.sleep(float(os.environ["START_SECONDS"]))
print("probe starts", VERSION, flush=True)


async def app(scope, receive, send):
    global begun
    if scope["type"] == "websocket":
        await talk(receive, send)
    elif scope["type"] == "http":
        begun += 1
        asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        await ROUTES.get(scope["path"], who)(asked, receive, send)


async def who(asked, receive, send):
    await answer(send, {"replica": REPLICA, "version": VERSION, "begun": begun}, STATUS)


async def digest(asked, receive, send):
    sha256, size = hashlib.sha256(), 0
    async for piece in body(receive):
        sha256.update(piece)
        size += len(piece)
    await answer(send, {"bytes": size, "sha256": sha256.hexdigest()})


async def discard(asked, receive, send):
    await answer(send, {"bytes": sum([len(piece) async for piece in body(receive)])})


async def slow(asked, receive, send):
    global now, peak
    now += 1
    peak = max(peak, now)
    try:
        await asyncio.sleep(float(asked["seconds"]))
    finally:
        now -= 1
    await answer(send, {"replica": REPLICA})


async def events(asked, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    for number in range(int(asked["count"])):
        await asyncio.sleep(float(asked["every"]))
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
    await send({"type": "http.response.body"})


async def most_at_once(asked, receive, send):
    await answer(send, {"peak": peak})


async def say(asked, receive, send):
    print(asked["text"], flush=True)
    print(asked["text"], "to stderr", file=sys.stderr, flush=True)
    await answer(send, {"said": asked["text"]})


async def talk(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text")})


async def body(receive):
    more = True
    while more:
        event = await receive()
        yield event.get("body", b"")
        more = event.get("more_body", False)


async def answer(send, document, status=200):
    text = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


ROUTES = {
    "/digest": digest,
    "/discard": discard,
    "/slow": slow,
    "/events": events,
    "/peak": most_at_once,
    "/say": say,
}
