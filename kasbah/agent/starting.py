"""How a replica is started and proved: what its order says, whether it answers, and why it does not.

A replica is started when its startup probe succeeds within the startup deadline. One that fails is told from another:
it ended, it listens elsewhere, or it listens nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from kasbah.agent.live_replica import LiveReplica
from kasbah.agent.ports import NewReplicaId, Prober, Secrets
from kasbah.api.quantities import format_duration
from kasbah.decide.egress import named
from kasbah.decide.probing import pause
from kasbah.domain.ids import ReplicaId
from kasbah.domain.revision import Probe, Protocol, Revision
from kasbah.domain.service import Service
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.ports import is_free

LISTENING = "0A"
LOOPBACK = "127.0.0.1"
"""Where the gateway asks replicas. Servers that read HOST (many of Node's do) then listen nowhere else."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A built revision, ready to be started any number of times."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    app: Path
    readable: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wellness:
    """What the probes of a running replica say."""

    ready: bool = True
    dead: bool = False
    reason: str = ""


class Starter:
    """Writes start orders and asks replicas whether they are well."""

    def __init__(
        self,
        *,
        prober: Prober,
        prepared: Callable[[Revision], Prepared],
        new_id: NewReplicaId,
        take_port: Callable[[], int],
        give_port: Callable[[int], None],
        secrets: Secrets,
        gateway: Callable[[], str],
        site: str,
    ) -> None:
        self._prober = prober
        self._prepared = prepared
        self._new_id = new_id
        self._take_port = take_port
        self._give_port = give_port
        self._secrets = secrets
        self._gateway = gateway
        self._site = site

    def new_id(self) -> ReplicaId:
        """A fresh id for a replica."""
        return self._new_id()

    def order(self, replica: ReplicaId, service: Service, revision: Revision) -> StartOrder:
        """Everything needed to start one more replica of this revision. Raises OSError where no port is free."""
        built = self._prepared(revision)
        port = revision.port or self._take_port()
        env = {**dict(built.env), "HOST": LOOPBACK, **dict(revision.env), **self._secrets.environment(revision)}
        given = {
            "PORT": str(port),
            "KASBAH_SERVICE": service.name,
            "KASBAH_REVISION": revision.id,
            "KASBAH_SITE": self._site,
        }
        return StartOrder(
            replica=replica,
            service=service.id,
            revision=revision.id,
            argv=built.argv,
            env={**env, **given, **self._ways(service, revision)},
            app=built.app,
            port=port,
            readable=built.readable,
            resources=revision.resources,
            files=self._secrets.files(revision),
            hosts={_host(service, name): self._gateway().rpartition(":")[0] for name in revision.calls},
            egress=may_call(revision),
            volumes=revision.volumes,
        )

    def visit(self, live: LiveReplica, service: Service, revision: Revision, argv: tuple[str, ...]) -> StartOrder:
        """What is needed to run a command in a replica as if it had been started with it."""
        order = self.order(live.id, service, revision)
        if revision.port is None:
            self._give_port(order.port)
        port = int(live.address.rpartition(":")[2])
        return replace(order, argv=argv, port=port, env={**order.env, "PORT": str(port)})

    def _ways(self, service: Service, revision: Revision) -> dict[str, str]:
        """Where the services that it calls answer: through the gateway, which its key opens for it."""
        port = self._gateway().rpartition(":")[2]
        return {
            f"KASBAH_URL_{name.upper().replace('-', '_')}": f"http://{_host(service, name)}:{port}"
            for name in revision.calls
        }

    def address(self, order: StartOrder) -> str:
        """Where the replica will be asked, unless the driver gives it an address of its own."""
        return f"{LOOPBACK}:{order.port}"

    def release(self, address: str) -> None:
        """The replica at this address is gone (an empty one: it never had one): its port may be used again."""
        if address:
            self._give_port(int(address.rpartition(":")[2]))

    async def prove(self, address: str, pid: int | None, revision: Revision, usual: timedelta | None) -> str | None:
        """Wait until the startup probe succeeds: None; or say why it did not within the startup deadline. `usual` is
        how long the last start of this revision took, where one was seen."""
        deadline = revision.deadlines.startup
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                while not (await self._ask(address, revision.health.startup) and _is_its_own(revision.port, pid)):
                    wait = pause(loop.time() - began, usual.total_seconds() if usual else None)
                    await asyncio.sleep(wait)
        except TimeoutError:
            return self._why_not(address, pid, revision)
        return None

    async def speaks(self, address: str, revision: Revision) -> Protocol:
        """What a started replica speaks."""
        if revision.protocol is not Protocol.AUTO:
            return revision.protocol
        h2c = await self._prober.speaks_h2c_only(address, 0.2)
        return Protocol.H2C if h2c else Protocol.HTTP1

    async def watch(self, address: str, revision: Revision, awake: Callable[[], bool]) -> AsyncIterator[Wellness]:
        """What readiness and liveness say, at each probe while the replica is awake; ends at once where there is no
        probe to ask."""
        readiness, liveness = revision.health.readiness, revision.health.liveness
        probes = [one for one in (readiness, liveness) if one is not None]
        misses = dict.fromkeys(probes, 0)
        while probes:
            await asyncio.sleep(min(one.period for one in probes).total_seconds())
            if not awake():
                continue
            for probe in probes:
                misses[probe] = 0 if await self._ask(address, probe) else misses[probe] + 1
            if liveness is not None and misses[liveness] >= liveness.failures:
                yield Wellness(dead=True, reason=f"its liveness probe failed {liveness.failures} times in a row")
                return
            yield Wellness(ready=readiness is None or misses[readiness] < readiness.failures)

    async def _ask(self, address: str, probe: Probe) -> bool:
        timeout = probe.timeout.total_seconds()
        if probe.path is None:
            return await self._prober.tcp(address, timeout)
        return await self._prober.http(address, probe.path, timeout)

    def _why_not(self, address: str, pid: int | None, revision: Revision) -> str:
        within = format_duration(revision.deadlines.startup)
        host, _, port = address.rpartition(":")
        elsewhere = [one for one in listening_ports(pid) if one != int(port)] if pid else []
        path = revision.health.startup.path
        shared = host == LOOPBACK and revision.port is not None
        if shared and not _is_its_own(revision.port, pid) and not is_free(int(port)):
            return f"port {port} is taken: another process of this machine listens on it"
        if elsewhere:
            return (
                f"it listens on port {elsewhere[0]} and not on {port}: let it listen on the port in PORT, "
                f"or write `port: {elsewhere[0]}` in kasbah.yaml"
            )
        if path is not None and pid and int(port) in listening_ports(pid):
            return f"it listens, but GET {path} did not answer 2xx or 3xx within {within} (health.startup)"
        return f"it did not listen on port {port} (PORT) within {within} (deadlines.startup)"


def _host(service: Service, other: str) -> str:
    """Where another service of the project answers: its name in the place of ours."""
    return other + service.hosts[0].removeprefix(service.name)


def may_call(revision: Revision) -> tuple[str, ...] | None:
    """What its replicas may call, the services that it says it calls included; None: anything outside."""
    return None if revision.egress is None else named(revision)


def _is_its_own(port: int | None, pid: int | None) -> bool:
    """Whether a replica's answer is its own: on a fixed port it could be a stranger's, who had the port before."""
    return port is None or pid is None or port in listening_ports(pid)


def listening_ports(pid: int) -> list[int]:
    """The TCP ports on which the processes of `pid`'s session listen."""
    inodes = {inode for one in _session(pid) for inode in _sockets(one)}
    ports = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and fields[9] in inodes:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)


def _session(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry)) == pid:
                    found.append(int(entry))
    return found


def _sockets(pid: int) -> set[str]:
    inodes = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes
