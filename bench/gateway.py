"""A warm request through the gateway, keys checked and metered: beside Envoy written by hand, nginx and LiteLLM.

Each round runs all of them one after the other, in an order that turns, so that what else the machine does meets all
alike; ratios are taken within a round. What is ours is a whole installation: the meter reads the access log and Envoy
reports its load meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import references, upstream
from bench.errors import Missing, Unmeasured
from bench.figures import middle_ratio, ratios, spread
from bench.installation import Installation
from bench.load import Order, Run, run
from bench.processes import cpu_seconds, tool
from bench.references import Proxy
from bench.rows import Row, skipped

SERVICE = "bench-warm"
CONNECTIONS = (1, 16)
ROUNDS, SECONDS = 7, 3
QUICK_ROUNDS, QUICK_SECONDS = 3, 2
ENVOY_SHARE = 0.9
LITELLM_TIMES = 20.0
SLOW_FACTOR = 2
"""How much longer LiteLLM's rounds are: on a crowded machine it answers few requests a second."""
WARM_UPS = 4
CHAT = {"path": "/v1/chat/completions",
        "body": json.dumps({"model": "bench", "messages": [{"role": "user", "content": "hello"}]})}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Side:
    """One proxy and what was found of it, a figure a round."""

    proxy: Proxy
    runs: list[Run] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def per_second(self) -> list[float]:
        return [one.per_second for one in self.runs]


def measure(site: Installation, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    try:
        wrk = tool("wrk", "wrk")
        site.deploy(upstream.service(folder / "app", SERVICE, sleep={"freeze_after": "never", "stop_after": "never"}))
    except Missing as missing:
        yield skipped("warm gateway", str(missing))
        return
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    with upstream.serving(folder / "app") as port:
        bench = _Bench(site, folder, port, wrk, rounds, seconds)
        yield from bench.beside_proxies()
        yield from bench.beside_litellm()


class _Bench:
    """What the measurements share."""

    def __init__(
        self, site: Installation, folder: Path, upstream_port: int, wrk: str, rounds: int, seconds: int
    ) -> None:
        self._site = site
        self._folder = folder
        self._upstream = upstream_port
        self._wrk = wrk
        self._rounds = rounds
        self._seconds = seconds

    def beside_proxies(self) -> Iterator[Row]:
        """With 1 and 16 connections, beside the hand-written Envoy and nginx."""
        with ExitStack() as running:
            proxies = [self._ours(), running.enter_context(references.envoy(self._folder, self._upstream))]
            try:
                proxies.append(running.enter_context(references.nginx(self._folder, self._upstream)))
            except Missing as missing:
                yield skipped("warm gateway beside nginx", str(missing))
            for connections in CONNECTIONS:
                yield from _compared(self._turns(proxies, connections, {}), connections)

    def beside_litellm(self) -> Iterator[Row]:
        """The same chat completion to the same upstream, with 16 connections."""
        try:
            self._seconds *= SLOW_FACTOR
            with references.litellm(self._folder, self._upstream) as proxy:
                ours, theirs = self._turns([self._ours(), proxy], CONNECTIONS[-1], CHAT)
        except Unmeasured as reason:
            yield skipped("warm gateway beside LiteLLM's proxy", str(reason))
            return
        times = middle_ratio(ours.per_second(), theirs.per_second())
        yield Row(
            name=f"warm chat completion, {CONNECTIONS[-1]} connections: requests/s",
            ours=median(ours.per_second()),
            reference=median(theirs.per_second()),
            reference_name=proxy.name,
            ratio=times,
            spread=spread(ratios(ours.per_second(), theirs.per_second())),
            goal=f">= {LITELLM_TIMES:.0f} x",
            ok=times is not None and times >= LITELLM_TIMES,
            note=f"p50 {_p50(ours):.2f} against {_p50(theirs):.1f} ms; one worker, key check, no database",
        )

    def _ours(self) -> Proxy:
        return Proxy(
            name="Kasbah",
            port=int(self._site.gateway.rpartition(":")[2]),
            pids=(self._site.pid("envoy"),),
            key=self._site.key,
            host=f"{SERVICE}.localhost",
        )

    def _turns(self, proxies: Sequence[Proxy], connections: int, asked: dict[str, str]) -> list[Side]:
        sides = [Side(proxy=one) for one in proxies]
        for one in sides:
            self._warm_up(one, connections, asked)
        for number in range(self._rounds):
            turn = number % len(sides)
            for one in (*sides[turn:], *sides[:turn]):
                cpu = cpu_seconds(one.proxy.pids)
                found = self._run(one, connections, asked, self._seconds)
                one.runs.append(found)
                one.cpu.append((cpu_seconds(one.proxy.pids) - cpu) / max(found.requests, 1))
        return sides

    def _warm_up(self, side: Side, connections: int, asked: dict[str, str]) -> None:
        """Until it answers: the first request of all may take longer than a round."""
        for _ in range(WARM_UPS):
            if self._load(side.proxy, connections, asked, self._seconds).requests:
                return

    def _run(self, side: Side, connections: int, asked: dict[str, str], seconds: int) -> Run:
        proxy = side.proxy
        found = self._load(proxy, connections, asked, seconds)
        if found.failed or not found.requests:
            raise Unmeasured(f"{proxy.name}: {found.failed} of {found.requests} requests failed under load")
        return found

    def _load(self, proxy: Proxy, connections: int, asked: dict[str, str], seconds: int) -> Run:
        headers = {"Host": proxy.host}
        if proxy.key:
            headers["Authorization"] = f"Bearer {proxy.key}"
        if asked:
            headers["Content-Type"] = "application/json"
        order = Order(port=proxy.port, headers=headers, **asked)
        return run(self._wrk, order, connections=connections, seconds=seconds, folder=self._folder)


def _compared(sides: Sequence[Side], connections: int) -> list[Row]:
    """The rows for one number of connections."""
    ours, by_hand, *others = sides
    rows = [_row("requests/s", connections, ours, by_hand, Side.per_second, goal=ENVOY_SHARE)]
    rows += [_row("requests/s", connections, ours, other, Side.per_second) for other in others]
    rows.append(_row("p50", connections, ours, by_hand, lambda side: [one.p50_ms for one in side.runs], unit="ms"))
    rows.append(_row("p99", connections, ours, by_hand, lambda side: [one.p99_ms for one in side.runs], unit="ms"))
    rows += [
        _row("CPU of the proxy", connections, ours, other, lambda side: [1e6 * one for one in side.cpu], unit="us/req")
        for other in (by_hand, *others)
    ]
    return rows


def _row(
    what: str,
    connections: int,
    ours: Side,
    other: Side,
    figures: Callable[[Side], list[float]],
    *,
    goal: float | None = None,
    unit: str = "",
) -> Row:
    mine, theirs = figures(ours), figures(other)
    ratio = middle_ratio(mine, theirs)
    return Row(
        name=f"warm gateway, {connections} connection{'s' if connections > 1 else ''}: {what}",
        ours=median(mine),
        reference=median(theirs),
        reference_name=other.proxy.name,
        ratio=ratio,
        spread=spread(ratios(mine, theirs)) if ratio is not None else None,
        goal="" if goal is None else f">= {goal:g} x",
        ok=None if goal is None else ratio is not None and ratio >= goal,
        unit=unit,
    )


def _p50(side: Side) -> float:
    return median([one.p50_ms for one in side.runs])


def smoke(site: Installation, folder: Path) -> Row:
    """The smallest measurement of this group, for tests: one round of a second, beside the hand-written Envoy."""
    site.deploy(upstream.service(folder / "app", SERVICE, sleep={"freeze_after": "never", "stop_after": "never"}))
    with upstream.serving(folder / "app") as port:
        bench = _Bench(site, folder, port, tool("wrk", "wrk"), 1, 1)
        with references.envoy(folder, port) as by_hand:
            sides = bench._turns([bench._ours(), by_hand], CONNECTIONS[-1], {})
    return _compared(sides, CONNECTIONS[-1])[0]
