"""A room: events by SSE (`/events`), chat by WebSocket (`/ws`), a page that shows both, and who is there.

Every listener, of either kind, has one bounded queue. One that does not read is dropped, so that a slow browser never
holds memory or the others.
"""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

Event = dict[str, object]

LONGEST_MESSAGE = 1_000
UNREAD = 100
"""Events a listener may be behind before it is dropped."""

HEARTBEAT_SECONDS = 15.0
"""A comment is sent to a silent SSE stream this often, so that proxies on the way keep it open."""

PAGE = Path(__file__).with_name("page.html")


class Room:
    """Who listens, and what they are told."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[Event | None], str] = {}

    def counts(self) -> Event:
        kinds = list(self._queues.values())
        return {"watching": kinds.count("sse"), "talking": kinds.count("ws")}

    def tell(self, event: Event) -> None:
        for queue in list(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._drop(queue)

    def close(self) -> None:
        """End every stream, so that browsers reconnect elsewhere and the process can end."""
        for queue in list(self._queues):
            self._drop(queue)

    def _drop(self, queue: asyncio.Queue[Event | None]) -> None:
        del self._queues[queue]
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    @contextlib.contextmanager
    def join(self, kind: str) -> Iterator[asyncio.Queue[Event | None]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=UNREAD)
        self._queues[queue] = kind
        self.tell({"type": "viewers", **self.counts()})
        try:
            yield queue
        finally:
            self._queues.pop(queue, None)
            self.tell({"type": "viewers", **self.counts()})


room = Room()


async def as_sse(queue: asyncio.Queue[Event | None]) -> AsyncIterator[str]:
    """The events as SSE frames, until the listener is dropped."""
    while True:
        try:
            event = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
        except TimeoutError:
            yield ": still here\n\n"
            continue
        if event is None:
            return
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


async def watch() -> AsyncIterator[str]:
    with room.join("sse") as queue:
        async for frame in as_sse(queue):
            yield frame


async def events(request: Request) -> Response:
    return StreamingResponse(watch(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def send_events(websocket: WebSocket, queue: asyncio.Queue[Event | None]) -> None:
    while (event := await queue.get()) is not None:
        await websocket.send_json(event)
    await websocket.close(code=1012, reason="come back")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    with room.join("ws") as queue:
        sender = asyncio.create_task(send_events(websocket, queue))
        try:
            while True:
                text = await websocket.receive_text()
                room.tell({"type": "message", "text": text[:LONGEST_MESSAGE]})
        except WebSocketDisconnect:
            pass
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def viewers(request: Request) -> Response:
    return JSONResponse(room.counts())


async def page(request: Request) -> Response:
    return FileResponse(PAGE)


async def healthz(request: Request) -> Response:
    return PlainTextResponse("ok\n")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """On SIGTERM the server waits for its connections; streams end only when they are told to."""
    loop = asyncio.get_running_loop()
    the_servers_own = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(room.close)
        if callable(the_servers_own):
            the_servers_own(number, frame)

    signal.signal(signal.SIGTERM, end)
    yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/events", events),
        Route("/viewers", viewers),
        Route("/healthz", healthz),
        WebSocketRoute("/ws", talk),
    ],
)
