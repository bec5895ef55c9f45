"""What is shown, in order: which app, asleep how, and what arrives then. Playing it is `run.py`'s."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from demo.load import Request, Tally, Target, burst, call, conversation, digest

BURST = 500
UPLOAD_BYTES = 20 * 2**20
QUESTION = "my bank card was stolen"

Play = Callable[[Target], Awaitable[Tally]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One thing to show. The app is first put to sleep: `frozen` or `stopped`. `show` turns the last answer into a
    line for the report."""

    title: str
    app: str
    asleep: str
    play: Play
    with_key: bool = True
    wakes: bool = True
    show: Callable[[bytes], str] | None = None


def one(request: Request) -> Play:
    """A single request."""

    async def play(target: Target) -> Tally:
        return Tally.of([await call(target, request)])

    return play


def at_once(request: Request, count: int) -> Play:
    """Many callers in the same moment."""

    async def play(target: Target) -> Tally:
        return await burst(target, request, count)

    return play


async def upload(target: Target) -> Tally:
    """A large body, that must arrive whole."""
    return Tally.of([await digest(target, "/digest", UPLOAD_BYTES)])


async def live(target: Target) -> Tally:
    """An event stream and a WebSocket, opened in the same moment."""
    return await conversation(target, events="/events", chat="/ws", text="salam")


def answered(body: bytes) -> str:
    """The search's best answer, for the reader."""
    best = json.loads(body)["results"][0]
    return f'\n"{QUESTION}" is answered by "{best["text"]}" (cosine {best["score"]:.2f})'


SEARCH = Request(
    method="POST",
    path="/search",
    body=json.dumps({"query": QUESTION}).encode(),
    headers={"content-type": "application/json"},
    check=lambda body: "bank card" in json.loads(body)["results"][0]["text"],
)
ORDINARY = {"semantic-search": SEARCH}
"""The request an app is there for, where it is not its first page."""

PARTICULAR = (
    Scene(
        title="a call without a key is refused, and wakes nothing",
        app="hello-binary",
        asleep="stopped",
        play=one(Request(expect=401)),
        with_key=False,
        wakes=False,
    ),
    Scene(title=f"{BURST} first calls at once", app="hello-python", asleep="stopped", play=at_once(Request(), BURST)),
    Scene(title=f"{BURST} first calls at once", app="hello-python", asleep="frozen", play=at_once(Request(), BURST)),
    Scene(title=f"{BURST} first calls at once", app="hello-node", asleep="stopped", play=at_once(Request(), BURST)),
    Scene(title="a 20 MiB upload", app="hello-python", asleep="stopped", play=upload),
    Scene(title="a 20 MiB upload", app="hello-python", asleep="frozen", play=upload),
    Scene(title="event stream and WebSocket", app="live", asleep="stopped", play=live),
    Scene(title="event stream and WebSocket", app="live", asleep="frozen", play=live),
)


def scenes(deployed: Collection[str]) -> list[Scene]:
    """Everything that can be shown with what is deployed: each app woken from both kinds of sleep, and then again,
    then what is particular to some."""
    ordinary = [
        Scene(
            title=title,
            app=app,
            asleep=asleep,
            play=one(ORDINARY.get(app, Request())),
            show=answered if app == "semantic-search" and asleep == "stopped" else None,
        )
        for app in deployed
        for title, asleep in (("the first call", "stopped"), ("asleep again, called again", "frozen"))
    ]
    return ordinary + [scene for scene in PARTICULAR if scene.app in deployed]
