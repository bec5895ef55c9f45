"""How near are the other sites? Asks each for a connection now and then, and remembers how long that took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from kasbah.decide.nearness import NEIGHBOURS, nearest, steady
from kasbah.domain.crossing import Neighbour, Peer
from kasbah.domain.ids import SiteId

NEARNESS_PERIOD = timedelta(seconds=30)
TRIES = 3
DEADLINE = 2.0
MILLISECOND = timedelta(milliseconds=1)


class Nearness:
    """See the module. `order` is that of the peers, the nearest first; `told` is how far sites are, as it is said."""

    def __init__(self) -> None:
        self.order: tuple[SiteId, ...] = ()
        self._took: dict[SiteId, timedelta] = {}

    @property
    def told(self) -> tuple[tuple[SiteId, float], ...]:
        """Milliseconds of a round trip, by site."""
        return tuple((site, round(took / MILLISECOND, 2)) for site, took in sorted(self._took.items()))

    async def measure(self, peers: Sequence[Peer], neighbours: Sequence[Neighbour] = ()) -> bool:
        """Ask those of them that can be dialled; whether the order changed."""
        asked = {one.site: one.address for one in neighbours[:NEIGHBOURS] if one.address}
        asked |= {one.site: one.address for one in peers if one.address}
        answers = await asyncio.gather(*(_fastest(address) for address in asked.values()))
        took = {site: answer for site, answer in zip(asked, answers, strict=True) if answer is not None}
        self._took = steady(self._took, {site: took[site] for site in list(took)[:NEIGHBOURS]})
        met = {peer.site for peer in peers}
        before, self.order = self.order, nearest(self.order, {site: one for site, one in took.items() if site in met})
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
