"""The runner's process: `python -I -S .../kasbah/agent/runner/__main__.py LAYOUT`, LAYOUT being JSON.

It leaves its parent (a session of its own, no file of the parent's open) and the parent's wait ends once it answers:
exit 0. Exit 3: another runner has this data folder, so there is nothing to do. Exit 1: it cannot run, and says why.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Under -I and -S nothing has put our package on the path.
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import fcntl
import gc
import json
import os
import resource
import secrets
import signal
import socket
import traceback
from dataclasses import replace

from kasbah import proc
from kasbah.agent import confine
from kasbah.agent.confine import network, programs
from kasbah.agent.confine.kernel import keep_orphans
from kasbah.agent.runner import cgroups, claims, spawn
from kasbah.agent.runner.adoption import adopt
from kasbah.agent.runner.keeper import Keeper
from kasbah.agent.runner.layout import PROTOCOL, Layout
from kasbah.agent.runner.operations import operations, visitor
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.records import ENDED, Records
from kasbah.agent.runner.sampling import Sampler
from kasbah.agent.runner.server import Server

ALREADY_RUNS = 3
TERMINATION_DRAIN_SECONDS = 10.0
LONGEST_LOG = 2**20
BACKLOG = 128


def main(arguments: list[str]) -> int:
    """Start the runner apart from this process, and answer once it answers or has failed."""
    layout = Layout.from_json(arguments[0])
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader) as news:
            return _tell(news.read())
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        _run(layout, writer)
    except Exception:  # the end of this process: whoever waits is told, and the log has it
        problem = traceback.format_exc()
        try:
            os.write(writer, problem.encode())
        except OSError:
            sys.stderr.write(problem)
    os._exit(0)


def _tell(news: str) -> int:
    """The exit status for what the runner said before it closed the pipe."""
    if news == "ready":
        return 0
    if news == "locked":
        return ALREADY_RUNS
    sys.stderr.write(news or "the runner ended without a word\n")
    return 1


def _run(layout: Layout, news: int) -> None:
    os.umask(0o077)
    for folder in (layout.home, layout.replicas, layout.logs, layout.volumes, layout.socket.parent):
        folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(news, b"locked")
        return
    _settle(layout)
    _serve(layout, news)


def _settle(layout: Layout) -> None:
    """Be a process of its own: log file, no other files, reaper of what replicas leave, as many files as allowed."""
    os.chdir("/")
    if layout.log.exists() and layout.log.stat().st_size > LONGEST_LOG:
        layout.log.unlink()
    log = os.open(layout.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for target, source in enumerate((empty, log, log)):
        os.dup2(source, target)
    keep_orphans()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve(layout: Layout, news: int) -> None:
    groups = cgroups.Groups(layout.tag)
    claim, street, lacking = _numbers(layout)
    facts = _facts(layout, groups, claim, street, lacking)
    reactor = Reactor()
    keeper = Keeper(
        layout,
        reactor,
        facts=facts,
        groups=groups,
        claim=claim,
        street=street,
        ended=lambda replica: server.publish("ended", replica),
    )

    def ending(replica: str) -> None:
        keeper.visits.replica_ended(replica)
        server.publish("ending", replica)

    keeper.reaper.on_ending = ending
    token = _token(layout)  # before anybody can connect and be asked for it
    server = Server(
        _listen(layout),
        reactor,
        token=token,
        operations=operations(keeper, facts, reactor.stop),
        visitor=visitor(keeper),
        ended=lambda: [replica for replica, held in keeper.held.items() if not held.alive],
    )
    _watch_signals(reactor, keeper)
    adopt(keeper, layout)
    if cgroups.MEMORY not in groups.available:
        Sampler(reactor, keeper.held, keeper.reaper).begin()
    keeper.seats.refill()
    _write_down(layout)
    os.write(news, b"ready")
    os.close(news)
    # What exists now lives as long as the process: kept out of collections, whose marks a fork would have to copy.
    gc.collect()
    gc.freeze()
    reactor.run()
    server.flush()
    _give_back(claim, street, keeper)
    layout.process.unlink(missing_ok=True)


def _numbers(layout: Layout) -> tuple[claims.Claim | None, network.Street | None, dict[str, str]]:
    """The users and addresses that are ours to give, and why where there are none."""
    try:
        claim = claims.claim(layout.home, int(layout.tag, 16) % claims.BLOCKS)
    except claims.NoClaim as problem:
        return None, None, dict.fromkeys((confine.OWN_USER, confine.OWN_NETWORK), str(problem))
    if absent := programs.absent():
        return claim, None, {confine.OWN_NETWORK: f"{' and '.join(absent)} not found: install iproute2 and nftables"}
    try:
        street = network.street(claim.block, f"kasbah_{layout.tag}")
        living = [one for one in Records(layout.home).load() if one.state != ENDED and one.slot]
        known = layout.gateway.read_text().split() if layout.gateway.exists() else None
        gateway = (known[0], int(known[1])) if known else None
        with claims.alone():
            builder = claim.user(claims.CLOSED_BUILDER_SLOT)
            network.open_street(street, builder, [(one.slot, one.egress) for one in living], gateway)
    except OSError as problem:
        return claim, None, {confine.OWN_NETWORK: str(problem)}
    return claim, street, {}


def _give_back(claim: claims.Claim | None, street: network.Street | None, keeper: Keeper) -> None:
    """Leave nothing on the machine: every replica has ended."""
    keeper.seats.close()
    if claim is not None:
        with claims.alone():
            last = claim.release()
            if street is not None:
                network.close_street(street, last=last)


def _facts(
    layout: Layout,
    groups: cgroups.Groups,
    claim: claims.Claim | None,
    street: network.Street | None,
    lacking: dict[str, str],
) -> confine.Facts:
    scratch = layout.home / "trial"
    scratch.mkdir(exist_ok=True)
    user = claim.user(claims.TRIAL_SLOT) if claim else None
    facts = confine.measure(scratch, user=user, street=street, lacking=lacking)
    limits = tuple(f"{name}-limit" for name in sorted(groups.available))
    missing = tuple((f"{name}-limit", reason) for name, reason in sorted(groups.missing.items()))
    if cgroups.MEMORY in groups.missing:
        limits += ("memory-sampling",)
    own = {confine.OWN_USER: claims.BUILDER_SLOT, confine.OWN_NETWORK: claims.CLOSED_BUILDER_SLOT} if claim else {}
    builders = {slot: claim.user(slot) for name, slot in own.items() if claim and name in facts.mechanisms}
    return replace(
        facts,
        mechanisms=facts.mechanisms + limits,
        missing=missing + facts.missing,
        builder=builders.get(claims.BUILDER_SLOT),
        closed_builder=builders.get(claims.CLOSED_BUILDER_SLOT),
    )


def _listen(layout: Layout) -> socket.socket:
    """The socket, replacing a dead runner's: the lock is ours, so nobody listens there."""
    layout.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(layout.socket))
    layout.socket.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


def _token(layout: Layout) -> str:
    """A new secret for callers, each time a runner starts."""
    token = secrets.token_hex(16)
    layout.token.write_text(token)
    return token


def _watch_signals(reactor: Reactor, keeper: Keeper) -> None:
    """SIGCHLD reaps; SIGTERM stops every replica and leaves: whoever ends the runner wants nothing left behind.

    Whatever else our parent ignored or blocked goes back to its default, which replicas then begin with.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *spawn.CHANGED_SIGNALS}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def woken(_events: int) -> None:
        numbers = os.read(reader, 4096)
        if signal.SIGTERM in numbers:
            keeper.shutdown(TERMINATION_DRAIN_SECONDS, reactor.stop)
        keeper.reap()

    reactor.watch(reader, woken)


def _write_down(layout: Layout) -> None:
    own = proc.look(os.getpid())
    assert own is not None
    known = {"pid": own.pid, "start_time": own.start_time, "protocol": PROTOCOL}
    layout.process.write_text(json.dumps(known))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
