"""The gateway as the rest of the agent sees it: apply a description, change endpoints, hear what is in flight.

It keeps Envoy running (adopting the one of an earlier agent) and remembers why the last description was refused.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import structlog

from kasbah.agent.certificates import Pair, Refused
from kasbah.agent.gateway import process, protos, translate
from kasbah.agent.gateway.load import LoadReport, LoadReports
from kasbah.agent.gateway.process import EnvoyProcess
from kasbah.agent.gateway.server import Rejected, XdsServer
from kasbah.agent.gateway.wiring import Wiring
from kasbah.agent.paths import Paths
from kasbah.agent.proof import Proof
from kasbah.decide.narrowing import narrowed
from kasbah.domain.gateway import Cluster, Crossing, Endpoint, Gateway, Tls
from kasbah.domain.ids import SiteId
from kasbah.domain.revision import Protocol
from kasbah.errors import Unavailable
from kasbah.settings import DEFAULT_GATEWAY_CONNECTIONS, GATEWAY_MEMORY

log = structlog.get_logger()

FIRST_RESTART, LONGEST_RESTART = 0.1, 10.0
LIVE_DEADLINE = 20.0
MESSAGE_BYTES = 64 * 2**20
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)


FILES_A_CALLER = 4
"""Open files: two for a caller who is served, one who is idle, seven for one who waits for a service to wake."""


def wiring_of(
    paths: Paths,
    workers: int,
    memory: int | None = None,
    connections: int = DEFAULT_GATEWAY_CONNECTIONS,
) -> Wiring:
    """The sockets and logs of the agent with these paths, and what Envoy may use. It raises its limit of open files as
    far as it may, and no caller should meet that one."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    bound = connections if files == resource.RLIM_INFINITY else min(connections, max(files // FILES_A_CALLER, 1))
    return Wiring(
        xds_socket=str(paths.xds_socket),
        gate_socket=str(paths.gate_socket),
        cold_socket=str(paths.cold_socket),
        patient_socket=str(paths.patient_socket),
        here_socket=str(paths.here_socket),
        sources_socket=str(paths.sources_socket),
        handing_socket=str(paths.handing_socket),
        hops=str(paths.sockets),
        door_socket=str(paths.door_socket),
        admin_socket=str(paths.sockets / "admin.sock"),
        access_log=str(paths.envoy / "access.log"),
        cold_log=str(paths.envoy / "cold.log"),
        workers=workers,
        memory=memory or max(GATEWAY_MEMORY, machine // 4),
        connections=bound,
    )


class GatewayController:
    """See the module. Of other sites, those that are `near` are tried first, in this order. `inside` is the network
    that replicas have their addresses of, "" where they have none of their own."""

    def __init__(
        self,
        paths: Paths,
        *,
        listen: str,
        workers: int,
        report_interval: timedelta,
        on_report: Callable[[LoadReport], None],
        tls: str | None = None,
        peers: str | None = None,
        tunnel: bool = False,
        memory: int | None = None,
        connections: int = DEFAULT_GATEWAY_CONNECTIONS,
    ) -> None:
        protos.load(paths.cache)
        self.wiring = replace(
            wiring_of(paths, workers, memory, connections), takes_tunnels=peers is not None, holds_tunnels=tunnel
        )
        self.envoy = EnvoyProcess(paths.envoy, self.wiring, workers=workers)
        choose = _kept if self.envoy.adopt() else process.choose_port
        self.listen = choose(listen, paths.envoy / "listen")
        self._tls_listen = None if tls is None else choose(tls, paths.envoy / "listen-tls")
        self._peers_listen = None if peers is None else choose(peers, paths.envoy / "listen-peers")
        self._certificates: dict[str, translate.Resource] = {}
        self.near: tuple[SiteId, ...] = ()
        self.inside = ""
        self._proof: Proof | None = None
        self._proofs: dict[str, translate.Resource] = {}
        self.error = ""
        self.restarts = 0
        self._xds_path = paths.xds_socket
        self._xds = XdsServer()
        self._reports = LoadReports(report_interval, on_report)
        self._server: grpc.aio.Server | None = None
        self._awake: set[str] = set()
        self._applied: Gateway | None = None
        self._good = Gateway(listen=self.listen, site_hosts=())

    # --- starting and ending --------------------------------------------------------------------------------------

    async def open(self, gateway: Gateway, endpoints: Mapping[str, tuple[Endpoint, ...]]) -> None:
        """Serve this first description, but for what is wrong in it, and start Envoy unless one was adopted. The socket
        opens last."""
        gateway = self._without_faults(gateway)
        for cluster, found in endpoints.items():
            self._note_awake(cluster, found)
        self._proofs = self._prove(gateway)
        self._xds.load(
            translate.configuration(gateway, self.wiring),
            {one.name: self._endpoints(one.name, endpoints.get(one.name, ())) for one in gateway.clusters},
            self._certificates | self._proofs,
        )
        self._applied = self._good = gateway
        self._xds_path.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((self._xds.handler(), self._reports.handler()))
        self._server.add_insecure_port(f"unix:{self._xds_path}")
        await self._server.start()
        if self.envoy.running is None:
            process.require_free(self.listen)
            if self._tls_listen is not None:
                process.require_free(self._tls_listen, option="--tls")
            if self._peers_listen is not None:
                process.require_free(self._peers_listen, option="--peers")
            await self.envoy.start()

    async def live(self) -> None:
        """Wait until the gateway accepts connections. Raises Unavailable where it does not."""
        host, _, port = self.listen.rpartition(":")
        try:
            async with asyncio.timeout(LIVE_DEADLINE):
                await _accepted(host.strip("[]"), int(port))
        except TimeoutError:
            raise Unavailable(
                f"the gateway does not listen on {self.listen}: {self._xds.last_rejection or self.envoy.last_words()}",
                hint=f"see {self.envoy.log_file}",
            ) from None

    async def keep_running(self) -> None:
        """Restart Envoy whenever it ends, until cancelled."""
        pause = FIRST_RESTART
        while True:
            began = asyncio.get_running_loop().time()
            await self.envoy.ended()
            log.error("the gateway ended", last_words=self.envoy.last_words())
            lasted = asyncio.get_running_loop().time() - began
            pause = FIRST_RESTART if lasted > LONGEST_RESTART else min(pause * 2, LONGEST_RESTART)
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                await self.envoy.start()
            except (OSError, Unavailable, TimeoutError, ValueError) as error:
                self.error = f"the gateway cannot be started: {error}"
                log.error("the gateway cannot be started", error=str(error))
            else:
                self.error = ""

    async def close(self) -> None:
        """Stop serving; Envoy goes on with what it has."""
        if self._server is not None:
            await self._server.stop(grace=None)

    # --- what it does ---------------------------------------------------------------------------------------------

    async def apply(self, gateway: Gateway) -> None:
        """Bring a description into force. Where it is refused, what is wanted still of the last good one goes on, and
        `error` says why."""
        if gateway == self._applied:
            return
        self._applied = gateway
        wanted = self._without_faults(gateway)
        try:
            await self._force(wanted)
        except (ValueError, Rejected) as refused:
            self.error = f"the last change of the gateway's configuration was refused: {refused}"
            log.error("configuration refused", reason=str(refused))
            await self._narrow(wanted)
        except BaseException:
            self._applied = None  # it is not known what is in force: the next time it is looked at anew
            raise

    def _without_faults(self, gateway: Gateway) -> Gateway:
        """Without the services that something is wrong with, which `error` then says."""
        wanted, faults = translate.sound(gateway)
        self.error = f"left out of the gateway: {'; '.join(faults)}" if faults else ""
        if faults:
            log.error("services are left out of the gateway", faults=faults)
        return wanted

    async def _narrow(self, wanted: Gateway) -> None:
        left = narrowed(self._good, wanted)
        if left == self._good:
            return
        try:
            await self._force(left)
        except (ValueError, Rejected) as refused:
            self.error += f"; and what it takes back too: {refused}"
            log.error("what is wanted no more is still there", reason=str(refused))

    async def _force(self, gateway: Gateway) -> None:
        """Raises ValueError or Rejected, and the last good one goes on."""
        configuration = translate.configuration(gateway, self.wiring)
        for cluster in gateway.clusters:
            if not self._xds.knows(cluster.name):
                self.set_endpoints(cluster.name, ())
        await self._show(self._prove(gateway))
        await self._xds.apply(configuration)
        names = gateway.tls.names if gateway.tls else ()
        self._xds.drop_certificates({*self._certificates, *self._proofs, *names})
        self._good = gateway

    @property
    def tls(self) -> Tls | None:
        """Where TLS is spoken, and for which names; None where it is not."""
        listen = self._tls_listen
        return None if listen is None else Tls(listen=listen, names=tuple(sorted(self._certificates)))

    @property
    def crossing(self) -> Crossing | None:
        """How other sites are met; None before this one has an identity to prove."""
        if self._proof is None:
            return None
        return Crossing(listen=self._peers_listen, tunnel=self.wiring.holds_tunnels, near=self.near)

    async def identify(self, proof: Proof | None) -> None:
        """Prove from now on to be who this says. Raises Refused, and the old one goes on, where Envoy refuses it."""
        before, self._proof = self._proof, proof
        if self._server is not None and self._applied is not None:
            try:
                await self._show(self._prove(self._applied))
            except (ValueError, Rejected) as error:
                self._proof = before
                raise Refused(str(error)) from error

    def _prove(self, gateway: Gateway) -> dict[str, translate.Resource]:
        proof = self._proof
        return {} if proof is None else translate.proofs(proof.authority, proof.chain, proof.key, gateway)

    async def _show(self, proofs: dict[str, translate.Resource]) -> None:
        if proofs != self._proofs:
            await self._xds.set_certificates(proofs)
            self._proofs = proofs

    async def certify(self, hosts: Mapping[str, Pair]) -> None:
        """Serve these hosts with these certificates. Raises Refused, and the old ones go on, where Envoy does."""
        made = {host: translate.certificate(host, pair.chain, pair.key) for host, pair in hosts.items()}
        if self._server is not None:
            try:
                await self._xds.set_certificates(made)
            except Rejected as rejected:
                raise Refused(str(rejected)) from rejected
        self._certificates |= made

    def withdraw(self, keep: Container[str]) -> None:
        """Serve no other hosts with TLS, from the next description on."""
        self._certificates = {host: made for host, made in self._certificates.items() if host in keep}

    @property
    def notes(self) -> tuple[str, ...]:
        """What its owner should look after, besides `error`."""
        why = self._xds.refused_certificate
        return (f"the gateway refuses a certificate: {why}; have another issued",) if why else ()

    def set_endpoints(self, cluster: str, endpoints: tuple[Endpoint, ...]) -> int:
        """Change where a cluster's requests go; answers a serial number for `settled`."""
        self._note_awake(cluster, endpoints)
        return self._xds.set_endpoints(cluster, self._endpoints(cluster, endpoints))

    async def settled(self, serial: int) -> None:
        """Wait until Envoy acts on the change with this number."""
        await self._xds.settled(serial)

    @property
    def connected(self) -> bool:
        """Whether Envoy is listening to us."""
        return self._xds.connected

    @property
    def last_report(self) -> LoadReport:
        """The latest load report."""
        return self._reports.last

    async def report_after(self, number: int) -> LoadReport:
        """The first load report with a greater number."""
        return await self._reports.after(number)

    def _endpoints(self, cluster: str, endpoints: tuple[Endpoint, ...]) -> translate.Resource:
        return translate.endpoints(Cluster(name=cluster, protocol=Protocol.AUTO, endpoints=endpoints), self.wiring)

    def _note_awake(self, cluster: str, endpoints: tuple[Endpoint, ...]) -> None:
        if endpoints:
            self._awake.add(cluster)
        else:
            self._awake.discard(cluster)
        self._reports.ask_for(frozenset(self._awake))


def _kept(listen: str, remembered: Path) -> str:
    """Where an adopted gateway listens."""
    if listen.endswith(":0") and remembered.exists():
        return remembered.read_text().strip()
    return process.choose_port(listen, remembered)


async def _accepted(host: str, port: int) -> None:
    """Try to connect until that works: a listener announces itself to nobody."""
    while True:
        if await _accepts(host, port):
            return
        await asyncio.sleep(0.01)


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, port)
    except OSError:
        return False
    writer.close()
    return True
