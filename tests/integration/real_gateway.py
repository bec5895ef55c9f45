"""A real Envoy as one site's gateway, with the agent's parts around it, for tests. Ends whatever it started.

The tests stand where units stand: they are asked at the gate and say where a held request may go.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from site_runner import DEADLINE

from kasbah.agent.activator import BACKLOG, Arrive, Gate
from kasbah.agent.gateway import names, process
from kasbah.agent.gateway.controller import GatewayController
from kasbah.agent.gateway.load import LoadReport
from kasbah.agent.paths import Paths
from kasbah.agent.serving import serve_tcp
from kasbah.agent.waiting import Answer, Released
from kasbah.decide.activation import Forward, Refuse
from kasbah.domain.gateway import Cluster, Credential, Endpoint, Gateway, VirtualHost, WeightedCluster
from kasbah.domain.ids import ProjectId, ReplicaId, RevisionId, ServiceId
from kasbah.domain.revision import Protocol

PROJECT = ProjectId("pr-default")
FIRST = RevisionId("rv-first")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


# --- the gate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """One request that Envoy holds."""

    service: ServiceId
    revision: RevisionId
    answer: asyncio.Future[Answer]

    def release(self, address: str, upstream: str = names.WOKEN_HTTP1) -> None:
        self.answer.set_result(released(address, upstream))

    def refuse(self, status: int, code: str, message: str, retry_after: timedelta | None = None) -> None:
        self.answer.set_result(Refuse(status=status, code=code, message=message, retry_after=retry_after))

    async def abandoned(self) -> None:
        """Wait until its caller has left."""
        async with asyncio.timeout(DEADLINE):
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self.answer)
        assert self.answer.cancelled()


def released(address: str, upstream: str = names.WOKEN_HTTP1) -> Released:
    return Released(forward=Forward(replica=ReplicaId("rp-a"), address=address), upstream=upstream)


class _KnownGate(Gate):
    """A gate's connection that the doorman can cut, as the death of an agent does."""

    def __init__(self, arrive: Arrive, connections: set[asyncio.BaseTransport]) -> None:
        super().__init__(arrive)
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(transport)


class Doorman:
    """Opens and closes the gate, and keeps who arrives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[asyncio.BaseTransport] = set()
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self.asked = 0
        self.lets_all_through_to = ""
        """An address; while there is one, whoever arrives goes there at once."""

    def arrive(self, service: ServiceId, revision: RevisionId) -> asyncio.Future[Answer]:
        self.asked += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        arrival = Arrival(service=service, revision=revision, answer=answer)
        if self.lets_all_through_to:
            arrival.release(self.lets_all_through_to)
        else:
            self._arrivals.put_nowait(arrival)
        return answer

    async def next(self) -> Arrival:
        async with asyncio.timeout(DEADLINE):
            return await self._arrivals.get()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)
        self._server = await loop.create_unix_server(
            lambda: _KnownGate(self.arrive, self._connections), str(self._path), backlog=BACKLOG
        )

    def close(self) -> None:
        """As when the agent is killed: every hold is cut, and nobody answers any more."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.abort()  # type: ignore[attr-defined]
        self._connections.clear()


# --- replicas ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def replica(app: App) -> AsyncIterator[str]:
    """The address of a server that runs `app` (ASGI)."""
    with socket.socket(proto=socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        serving = asyncio.create_task(serve_tcp(app, bound))  # type: ignore[arg-type]
        try:
            await until_accepting(bound.getsockname()[1])
            yield address
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """An address where every connection is refused."""
    with socket.socket(proto=socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def until_accepting(port: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.005)


async def answer(send: Send, body: bytes, status: int = 200, **headers: str) -> None:
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def saying(text: str) -> App:
    """A replica that answers every request with `text`."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, text.encode())

    return app


@dataclass
class Slow:
    """A replica whose answers wait until they are let go."""

    busy: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.busy += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await self.go.wait()
        await send({"type": "http.response.body", "body": b"done"})
        self.busy -= 1


# --- the site ---------------------------------------------------------------------------------------------------------


class Site:
    """A gateway with its Envoy. `paths` may be those of an earlier one, whose Envoy is then adopted."""

    def __init__(self, paths: Paths, *, listen: str = "127.0.0.1:0", workers: int = 1, **more: Any) -> None:
        self.paths = paths
        self.reports: list[LoadReport] = []
        self.controller = GatewayController(
            paths,
            listen=listen,
            workers=workers,
            report_interval=timedelta(milliseconds=50),
            on_report=self.reports.append,
            **more,
        )
        self.doorman = Doorman(paths.gate_socket)
        self.wanted = Gateway(listen=self.controller.listen, site_hosts=("kasbah.localhost",), site="local")
        self.endpoints: dict[str, tuple[Endpoint, ...]] = {}

    @property
    def port(self) -> int:
        return int(self.controller.listen.rpartition(":")[2])

    @property
    def envoy_pid(self) -> int:
        assert self.controller.envoy.running is not None
        return self.controller.envoy.running.pid

    async def open(self) -> None:
        await self.doorman.open()
        await self.controller.open(self.wanted, self.endpoints)
        await self.controller.live()

    async def leave(self) -> None:
        """As an agent that ends: Envoy goes on."""
        self.doorman.close()
        await self.controller.close()

    def kill(self) -> None:
        """As when its machine is lost: nothing starts it again."""
        os.kill(self.envoy_pid, signal.SIGKILL)

    def client(self, name: str = "notes", **options: Any) -> httpx.AsyncClient:
        """A caller of one service."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"host": f"{name}.localhost"},
            timeout=DEADLINE,
            trust_env=False,
            **options,
        )

    async def get(self, path: str = "/", name: str = "notes", **headers: str) -> httpx.Response:
        async with self.client(name) as client:
            return await client.get(path, headers={one.replace("_", "-"): value for one, value in headers.items()})

    async def route(
        self,
        *addresses: str,
        name: str = "notes",
        shares: tuple[tuple[RevisionId, int], ...] = ((FIRST, 100),),
        protocol: Protocol = Protocol.HTTP1,
        max_per_replica: int | None = None,
        replaces: bool = False,
        **fields: Any,
    ) -> None:
        """Have a service, public unless said otherwise, whose first revision has replicas at these addresses; where it
        `replaces` another revision, the other goes as its endpoints are known."""
        host = virtual_host(name, shares, **fields)
        if replaces:
            self.controller.set_endpoints(host.clusters[0].cluster, tuple(Endpoint(address=one) for one in addresses))
        clusters = [
            Cluster(name=one.cluster, protocol=protocol, max_per_replica=max_per_replica) for one in host.clusters
        ]
        ours = {one.cluster for one in host.clusters}
        await self.apply(
            replace(
                self.wanted,
                hosts=(*(one for one in self.wanted.hosts if one.name != name), host),
                clusters=(*(one for one in self.wanted.clusters if one.name not in ours and not replaces), *clusters),
            )
        )
        if clusters:
            await self.endpoints_of(host.clusters[0].cluster, *addresses)

    async def keys(self, *credentials: Credential) -> None:
        await self.apply(replace(self.wanted, credentials=credentials))

    async def apply(self, gateway: Gateway) -> None:
        self.wanted = gateway
        await self.controller.apply(gateway)

    async def endpoints_of(self, cluster: str, *addresses: str, draining: tuple[str, ...] = ()) -> None:
        """Where a cluster's requests go from now on."""
        found = (*(Endpoint(address=one) for one in addresses), *(Endpoint(address=a, draining=True) for a in draining))
        self.endpoints[cluster] = found
        await self.controller.settled(self.controller.set_endpoints(cluster, found))

    async def holds_any(self) -> bool:
        """Whether a request is at the cold listener."""
        told = await self.controller.envoy.admin("GET", "/stats?filter=http.cold.downstream_rq_active$")
        return int(told.split(": ")[1].split()[0]) > 0

    async def report(self, true: Callable[[LoadReport], bool]) -> LoadReport:
        """The first load report from now on of which it is true."""
        async with asyncio.timeout(DEADLINE):
            number = self.controller.last_report.number
            while not true(found := await self.controller.report_after(number)):
                number = found.number
            return found


def virtual_host(name: str, shares: tuple[tuple[RevisionId, int], ...], **fields: Any) -> VirtualHost:
    service = ServiceId(f"sv-{name}")
    known: dict[str, Any] = {"public": True, "allowed_keys": (), "hosts": (f"{name}.localhost",)} | fields
    return VirtualHost(
        service=service,
        project=PROJECT,
        name=name,
        clusters=tuple(
            WeightedCluster(cluster=f"{service}/{revision}", revision=revision, percent=percent)
            for revision, percent in shares
        ),
        **known,
    )


def paths_in(root: Path, descriptors: Path) -> Paths:
    """The paths of a new site; Envoy's message descriptors, the same for all, are taken from a folder."""
    paths = Paths(root / "site")
    paths.make()
    for file in descriptors.iterdir():
        shutil.copy(file, paths.cache)
    return paths


def end(paths: Paths) -> None:
    """End the Envoy of a site, and remove its sockets."""
    recorded = process.read_record(paths.envoy)
    if recorded is not None:
        process.end(recorded[0])
    shutil.rmtree(paths.sockets, ignore_errors=True)


def memory_of(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM:"))
