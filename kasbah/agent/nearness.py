"""How near are the other sites? Asks each for a connection now and then, and remembers the order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from kasbah.decide.nearness import nearest
from kasbah.domain.crossing import Peer
from kasbah.domain.ids import SiteId

NEARNESS_PERIOD = timedelta(seconds=30)
TRIES = 3
DEADLINE = 2.0


class Nearness:
    """See the module. `order` is the nearest first."""

    def __init__(self) -> None:
        self.order: tuple[SiteId, ...] = ()

    async def measure(self, peers: Iterable[Peer]) -> bool:
        """Ask those of them that can be dialled; whether the order changed."""
        asked = [peer for peer in peers if peer.address]
        answers = await asyncio.gather(*(_fastest(peer.address) for peer in asked))
        took = {peer.site: answer for peer, answer in zip(asked, answers, strict=True) if answer is not None}
        before, self.order = self.order, nearest(self.order, took)
        return before != self.order


async def _fastest(address: str) -> timedelta | None:
    """How long the fastest of some connections took; None where there was none."""
    took = [one for one in [await _connection(address) for _ in range(TRIES)] if one is not None]
    return min(took, default=None)


async def _connection(address: str) -> timedelta | None:
    host, _, port = address.rpartition(":")
    time = asyncio.get_running_loop().time
    began = time()
    try:
        async with asyncio.timeout(DEADLINE):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return None
    writer.close()
    return timedelta(seconds=time() - began)
