"""Ports for replicas: free now, not handed out twice, and outside the range from which the kernel takes its own.

A port from that range could become the near end of somebody's outgoing connection between our looking and the
replica's binding, and its bind would fail.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOWEST = 20_000
HIGHEST = 65_535
KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_RANGE = (32_768, 60_999)
TRIES = 2_000


class Ports:
    """The ports of one site's replicas."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on at 127.0.0.1, ours until given back. Raises OSError where none is left."""
        low, high = _kernel_range()
        spans = (range(LOWEST, min(low, HIGHEST + 1)), range(max(high + 1, LOWEST), HIGHEST + 1))
        count = sum(map(len, spans))
        start = secrets.randbelow(count) if count else 0
        for place in range(start, start + min(TRIES, count)):
            port = _nth(spans, place % count)
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise OSError(f"no free port was found between {LOWEST} and {HIGHEST}")

    def keep(self, port: int) -> None:
        """Count a port as taken: a replica of an earlier agent has it."""
        self._taken.add(port)

    def give_back(self, port: int) -> None:
        """The replica that had it is gone."""
        self._taken.discard(port)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1 now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what servers do: a closed one may linger
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _nth(spans: tuple[range, range], place: int) -> int:
    first, second = spans
    return first[place] if place < len(first) else second[place - len(first)]


def _kernel_range() -> tuple[int, int]:
    try:
        low, high = KERNEL_RANGE.read_text().split()
    except (OSError, ValueError):
        return USUAL_RANGE
    return int(low), int(high)
