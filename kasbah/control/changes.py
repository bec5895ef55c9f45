"""Tells those who wait that something changed: loops that want a pass, long polls that want a newer answer.

Topics are text: `service/ID`, `rollout/ID`, `token/ID`, `desired/SITE`, `rollouts`, `moves`. Announcing may happen
on any thread, after the commit; a lost or doubled announcement harms nothing, because who waits reads again and waits
no longer than it said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

ROLLOUTS = "rollouts"
"""Something a rollout may go on from."""


MOVES = "moves"
"""A service is on its way from one site to another, or would be placed elsewhere once its rollout has ended."""


class Changes:
    """Carries announcements to the event loop it was bound to; before that, and after `close`, nobody waits."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self.closed = False

    def bind(self) -> None:
        """Deliver to the running event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def listen(self, topic: str, listener: Callable[[], None]) -> None:
        """Call `listener`, on the event loop, at each announcement of `topic`."""
        self._listeners.setdefault(topic, []).append(listener)

    def announce(self, topics: Iterable[str]) -> None:
        """Tell who waits for any of `topics`. From any thread."""
        told = tuple(topics)
        if self._loop is not None and told:
            try:
                self._loop.call_soon_threadsafe(self._deliver, told)
            except RuntimeError:  # the event loop has ended, and with it everybody who waited
                pass

    def close(self) -> None:
        """Let everybody who waits go: the process ends. On the event loop."""
        self.closed = True
        self._deliver(tuple(self._waiting))

    @contextmanager
    def watching(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event, set at each announcement of one of `topics`; clear it before reading what may have changed."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                left = self._waiting[topic]
                left.discard(event)
                if not left:
                    del self._waiting[topic]

    def _deliver(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()
            for listener in self._listeners.get(topic, ()):
                listener()
