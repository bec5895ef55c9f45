"""Keeps one machine's Kasbah running: a control plane and an agent as child processes, restarted when they die.

    kasbah up ---------------- this module, in the foreground; or, detached, a process of its own:
                                 `python -m kasbah.cli.supervisor PLAN READY_FD`
      |- kasbah control          both in sessions of their own, both at the end of a lifeline
      `- kasbah agent
           |- Envoy, runner, replicas     nobody's children: they outlive all of the above, and `stop` ends them

One supervisor per data folder, by a lock. Started again after it was killed, it ends the parts that were left and
takes over what still serves. Standard library only, because its start is part of everybody's first impression.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kasbah.cli import readiness
from kasbah.cli.addresses import Address, parse_address
from kasbah.cli.exits import Failed, own_words
from kasbah.cli.processes import Process, bind_error, free_port, last_lines, listener
from kasbah.cli.record import DataFolder, Record
from kasbah.errors import Conflict, Invalid, KasbahError

READY_SECONDS = 60.0
AGENT_GRACE_SECONDS = 30.0
CONTROL_GRACE_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_SECONDS = 30.0
"""A part that ran for so long before it died is started again without a pause."""
DEATHS_BEFORE_READY = 3
CALLED = {"control": "control plane"}
"""What people call a part."""
POLL_SECONDS = 0.05
LARGEST_LOG = 16 * 2**20
LOG_CHECK_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    data_dir: str
    api: tuple[str, int]
    gateway: tuple[str, int]
    base_domain: str
    tls: tuple[str, int] | None = None
    certificates: str | None = None
    country: str | None = None
    sites: str | None = None
    packs: str | None = None
    peers: str | None = None
    peers_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Where Kasbah answers, once it does: URLs."""

    api: str
    gateway: str
    sites: str = ""
    """Where sites dial in; "" where they cannot."""


class Part:
    """One child process, kept running. `say` tells people what became of it."""

    def __init__(
        self, name: str, arguments: list[str], folder: DataFolder, lifeline: int, *, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.deaths = 0
        self.process: Process | None = None
        self._command = (sys.executable, "-P", "-m", "kasbah", name, *arguments, "--lifeline", str(lifeline))
        self._folder = folder
        self._lifeline = lifeline
        self._say = say
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep(self, started: Callable[[], None]) -> None:
        """Run it until it is stopped; `started` is called after each start."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            self._child = await self._start()
            self.process = Process.of(self._child.pid)
            started()
            code = await self._child.wait()
            if self._stopping.is_set():
                return
            self.deaths += 1
            pause = FIRST_PAUSE_SECONDS if asyncio.get_running_loop().time() - began > SETTLED_SECONDS else pause
            self._say(f"{self.name} {_ending(code)}; it is started again in {pause:.1f} s (see {self._folder.log})")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def stop(self, grace: float) -> None:
        """Ask it to end, and end it after `grace` seconds."""
        self._stopping.set()
        if self._child is None or self._child.returncode is not None:
            return
        for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(sign)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), patience)
                return

    async def _start(self) -> asyncio.subprocess.Process:
        with self._folder.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(self._lifeline,),
                cwd=self._folder.path,
            )


class Supervisor:
    """Control plane and agent of one data folder, which the caller has locked."""

    def __init__(self, plan: Plan, *, say: Callable[[str], None]) -> None:
        self.folder = DataFolder(Path(plan.data_dir))
        self._say = say
        self._end_leftovers()
        self._api = self._choose_api(Address(*plan.api))
        self._gateway = Address(*plan.gateway)
        self._check_port(self._gateway, option="--gateway")
        if plan.tls is not None:
            self._check_port(Address(*plan.tls), option="--tls")
        if plan.peers is not None:
            self._check_port(parse_address(plan.peers, option="--peers"), option="--peers")
        self._log_start = self._rotate_log()
        # The writing end is held by this process alone: when it dies, however it dies, the parts read the end.
        lifeline, self._lifeline_end = os.pipe()
        self.control = Part("control", self._control_arguments(plan), self.folder, lifeline, say=say)
        self.agent = Part("agent", self._agent_arguments(plan), self.folder, lifeline, say=say)

    @property
    def _parts(self) -> tuple[Part, Part]:
        return self.control, self.agent

    async def run(self, announce: Callable[[Ready], None]) -> None:
        """Run until a signal says to stop; `announce` is called once Kasbah answers. Raises Failed where it never
        does. Nothing is left running afterwards."""
        stop = _stop_on_signals()
        keeping = [asyncio.create_task(part.keep(self._write_record)) for part in self._parts]
        keeping.append(asyncio.create_task(self._keep_log_small()))
        stopped, ready = asyncio.create_task(stop.wait()), asyncio.create_task(self._become_ready())
        try:
            if ready in await _first(stopped, ready, *keeping):
                announce(ready.result())
                await _first(stopped, *keeping)
        finally:
            ready.cancel()
            await self._stop_everything(stop)
            for task in (*keeping, stopped):
                task.cancel()
            await asyncio.gather(*keeping, stopped, ready, return_exceptions=True)

    async def _become_ready(self) -> Ready:
        give_up = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < give_up:
            for part in self._parts:
                if part.deaths >= DEATHS_BEFORE_READY:
                    raise self._refusal_of(part)
            agent = self.agent.process
            gateway = await asyncio.to_thread(readiness.gateway, self.folder, self._api.reachable, agent)
            if gateway:
                return Ready(
                    api=f"http://{self._api.reachable}", gateway=f"http://{gateway}", sites=readiness.sites(self.folder)
                )
            await asyncio.sleep(POLL_SECONDS)
        missing = await asyncio.to_thread(readiness.missing, self.folder, self._api.reachable)
        raise self._failure(f"Kasbah is not ready after {READY_SECONDS:.0f} s: {missing}")

    def _refusal_of(self, part: Part) -> Failed:
        """Why a part ends as often as it is started: in its own words where it found some, else what it wrote last."""
        what = f"the {CALLED.get(part.name, part.name)} does not start"
        said = own_words(last_lines(self.folder.log, 100, since=self._log_start))
        if said is None:
            return self._failure(what)
        problem, hint = said
        return Failed(f"{what}: {problem}", hint=hint or f"see {self.folder.log}, or `kasbah doctor`")

    def _failure(self, message: str) -> Failed:
        tail = last_lines(self.folder.log, 15, since=self._log_start)
        return Failed(message, hint=f"see {self.folder.log}, or `kasbah doctor`", tail=tail)

    async def _stop_everything(self, stop: asyncio.Event) -> None:
        """Agent, control plane, then what outlives them. A second signal does without the grace."""
        stop.clear()
        hurry = asyncio.create_task(stop.wait())
        for part, grace in ((self.agent, AGENT_GRACE_SECONDS), (self.control, CONTROL_GRACE_SECONDS)):
            stopping = asyncio.create_task(part.stop(grace))
            await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                stopping.cancel()
                await part.stop(0)
        hurry.cancel()
        await asyncio.to_thread(end_data_plane, self.folder)

    def _write_record(self) -> None:
        me = Process.of(os.getpid())
        assert me is not None
        parts = {part.name: part.process for part in self._parts if part.process is not None}
        self.folder.write(Record(supervisor=me, api=str(self._api), gateway=str(self._gateway), parts=parts))

    def _end_leftovers(self) -> None:
        """End the parts of a supervisor that was killed; they are ending by themselves already."""
        record = self.folder.read()
        for part in record.parts.values() if record else ():
            part.end(grace=CONTROL_GRACE_SECONDS)

    def _choose_api(self, wanted: Address) -> Address:
        """Where the API listens: for port 0 that of the last time, if it is free."""
        self._check_port(wanted, option="--api")
        if wanted.port:
            return wanted
        record = self.folder.read()
        last = int(record.api.rpartition(":")[2]) if record else 0
        if last and bind_error(wanted.host, last) is None:
            return Address(wanted.host, last)
        return Address(wanted.host, free_port(wanted.host))

    def _check_port(self, address: Address, *, option: str) -> None:
        error = bind_error(address.host, address.port)
        if error is None:
            return
        holder = listener(address.port) if address.port else None
        if holder and str(self.folder.path / "agent" / "envoy") in holder[1]:
            return  # our own gateway still serves: the agent takes it over
        other = f"choose another with {option}, such as 127.0.0.1:0"
        if holder:
            who = f"{Path(holder[1].partition(' ')[0]).name} (process {holder[0]})"
            raise Conflict(f"{address} is already taken by {who}", where=option, hint=f"stop it, or {other}")
        raise Invalid(f"nothing can listen on {address}: {error.strerror}", where=option, hint=other)

    def _control_arguments(self, plan: Plan) -> list[str]:
        country = ["--country", plan.country] if plan.country else []
        return [
            *("--data-dir", plan.data_dir, "--api", str(self._api), "--base-domain", plan.base_domain),
            *country,
            *(["--sites", plan.sites] if plan.sites else []),
        ]

    def _agent_arguments(self, plan: Plan) -> list[str]:
        tls = ["--tls", str(Address(*plan.tls))] if plan.tls else []
        certificates = ["--certificates", plan.certificates] if plan.certificates else []
        peers = ["--peers", plan.peers] if plan.peers else []
        reached_at = ["--peers-address", plan.peers_address] if plan.peers_address else []
        return [
            *("--data-dir", str(self.folder.path), "--gateway", str(self._gateway)),
            *("--control-url", f"http://{self._api.reachable}", "--token-file", str(self.folder.site_token)),
            *tls,
            *certificates,
            *(["--packs", plan.packs] if plan.packs else []),
            *peers,
            *reached_at,
        ]

    def _rotate_log(self) -> int:
        """Keep the log from growing for ever; gives its size now. It is copied, because the parts hold it open."""
        log = self.folder.log
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.with_suffix(".log.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)
        log.touch(mode=0o600)
        return log.stat().st_size

    async def _keep_log_small(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            await asyncio.to_thread(self._rotate_log)


def end_data_plane(folder: DataFolder) -> None:
    """End what outlives the agent: the gateway, the runner and the replicas."""
    from kasbah.agent.paths import Paths
    from kasbah.agent.teardown import teardown

    teardown(Paths(folder.path))


def supervise(plan: Plan, *, announce: Callable[[Ready], None], say: Callable[[str], None]) -> None:
    """Run Kasbah until told to stop. Raises Conflict where another supervisor has the folder."""
    folder = DataFolder(Path(plan.data_dir))
    folder.make()
    lock = folder.lock()
    try:
        asyncio.run(_run(plan, announce, say))
    finally:
        os.close(lock)


async def _run(plan: Plan, announce: Callable[[Ready], None], say: Callable[[str], None]) -> None:
    await Supervisor(plan, say=say).run(announce)


async def _first(*tasks: asyncio.Task[Any]) -> set[asyncio.Task[Any]]:
    """Wait for the first of `tasks` to end; what it raised is raised here."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return done


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    return stop


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def main(plan_text: str, ready_fd: int) -> None:
    """The detached supervisor: tells whoever started it, through a pipe, that Kasbah is ready or why it is not."""
    fields = json.loads(plan_text)
    addresses = {name: tuple(fields[name]) for name in ("api", "gateway", "tls") if fields[name] is not None}
    plan = Plan(**{**fields, **addresses})
    os.set_inheritable(ready_fd, False)
    with os.fdopen(ready_fd, "w") as ready:

        def tell(message: dict[str, object]) -> None:
            # Whoever started this may have been interrupted meanwhile: then nobody listens, and Kasbah runs on.
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(message), file=ready, flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), ready.fileno())

        try:
            supervise(plan, announce=lambda one: tell({"ready": asdict(one)}), say=_log_line)
        except KasbahError as error:
            tell({"error": error_fields(error)})
            sys.exit(1)


def error_fields(error: KasbahError) -> dict[str, object]:
    """An error as it crosses the pipe."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "code": error.code,
        "where": error.where,
        "tail": list(getattr(error, "tail", ())),
    }


def _log_line(text: str) -> None:
    print(json.dumps({"event": text, "part": "supervisor"}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
