"""Pid namespaces of replicas, as root and without: code inside a replica looks for the processes of others, signals
them, and hides from its own end. And how they are made without root, and missing where the machine forbids that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from ordinary_user import as_ordinary_user
from site_runner import Site, site_in, state_of, until

from kasbah import proc
from kasbah.agent import confine
from kasbah.agent.confine import mounts, pids, users
from kasbah.agent.confine.kernel import StepFailed, checked, keep_orphans, libc
from kasbah.agent.runner import spawn
from kasbah.domain.ids import ReplicaId

pytestmark = pytest.mark.real

A, B = ReplicaId("rp-a"), ReplicaId("rp-b")

TRY = """
import json, os, sys
def read(path):
    open(path, 'rb').read(1)
def attempt(line):
    try:
        exec(line)
    except OSError as error:
        return error.strerror
    return 'DONE'
print(json.dumps([attempt(line) for line in sys.argv[1:]]))
"""

WHO_IS_THERE = """
import json, os, sys
def answers(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
listed = [int(name) for name in os.listdir('/proc') if name.isdigit()]
print(json.dumps([os.getpid(), listed, [pid for pid in range(1, int(sys.argv[1]) + 1) if answers(pid)]]))
"""

SIGNALS_ALL = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
for target in (-1, 1, *map(int, sys.argv[1:])):
    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(target, number)
        except OSError:
            pass
print('here')
"""

HIDES = """
import ctypes, os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        if sys.argv[1] == 'still':
            os.execve(sys.executable, [sys.executable, '-c',
                'import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(1000)'], {})
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:  # each moment another process, in a session that is in nobody's list yet
            if os.fork():
                os._exit(0)
            os.setsid()
    os._exit(0)
os.wait()
print('up')
time.sleep(1000)
"""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with site_in(Path(root)) as site:
            isolation = await site.driver.isolation()
            if confine.OWN_PROCESSES not in isolation.mechanisms:
                pytest.skip(f"own-processes is not in force here: {dict(isolation.missing)[confine.OWN_PROCESSES]}")
            yield site


def inhabitants(namespace: str) -> list[int]:
    """Who is in a pid namespace and has not ended."""
    named = [int(name) for name in os.listdir("/proc") if name.isdigit() and pids.name_of(int(name)) == namespace]
    return [pid for pid in named if proc.runs(pid)]


async def namespace_of(site: Site, replica: ReplicaId) -> str:
    pid = (await site.the(replica)).pid
    assert pid is not None
    assert pids.name_of(pid) not in ("", pids.name_of(os.getpid()))
    return pids.name_of(pid)


def tried_outside(lines: list[str]) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", TRY, *lines], capture_output=True, check=True)
    return list(json.loads(ran.stdout))


async def test_processes_of_others_are_not_there(site: Site) -> None:
    neighbour = (await site.start(B, "/bin/sleep", "1000")).pid
    lines = [
        line.format(pid=pid)
        for pid in (neighbour, site.runner_pid, os.getpid())
        for line in (
            "os.kill({pid}, 0)",
            "os.pidfd_open({pid})",
            "os.listdir('/proc/{pid}')",
            "read('/proc/{pid}/cmdline')",
            "os.sched_getaffinity({pid})",
            "os.getpriority(os.PRIO_PROCESS, {pid})",
        )
    ]
    assert set(tried_outside(lines)) == {"DONE"}
    inside = json.loads((await site.run(A, TRY, *lines))[-1])
    assert "DONE" not in inside, dict(zip(lines, inside, strict=True))


async def test_it_finds_itself_and_its_init_only(site: Site) -> None:
    neighbour = (await site.start(B, "/bin/sleep", "1000")).pid or 0
    highest = max(neighbour, site.runner_pid, os.getpid(), 1000)
    own, listed, answering = json.loads((await site.run(A, WHO_IS_THERE, str(highest)))[-1])
    assert {own} <= set(listed) <= {1, own}
    assert answering == [1, own]


async def test_signals_to_all_reach_nobody(site: Site) -> None:
    neighbour = (await site.start(B, "/bin/sleep", "1000")).pid
    assert neighbour is not None
    runner = site.runner_pid
    assert await site.run(A, SIGNALS_ALL, str(neighbour), str(runner), str(os.getpid())) == ["here"]
    assert state_of(neighbour) == "S"
    assert site.runner_pid == runner
    assert proc.runs(runner)
    assert (await site.the(B)).exit is None


@pytest.mark.parametrize("kind", ["still", "moving"])
async def test_what_hides_ends_with_its_replica(site: Site, kind: str) -> None:
    await site.python(A, HIDES, kind)
    await site.said(A, "up")
    namespace = await namespace_of(site, A)
    await site.driver.stop(A, drain=timedelta(seconds=20))
    assert (await site.ended(A)).signal == "SIGTERM"
    assert inhabitants(namespace) == []


@pytest.mark.parametrize("kind", ["still", "moving"])
async def test_what_hides_ends_though_nobody_saw_its_replica_end(site: Site, kind: str) -> None:
    leader = (await site.python(A, HIDES, kind)).pid
    await site.said(A, "up")
    namespace = await namespace_of(site, A)
    await site.kill_runner()
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    await until(lambda: not proc.runs(leader))
    await site.ensure()
    await site.ended(A)
    assert inhabitants(namespace) == []


async def test_what_has_no_record_ends_with_all_it_hid(site: Site) -> None:
    await site.python(A, HIDES, "still")
    await site.said(A, "up")
    namespace = await namespace_of(site, A)
    await site.kill_runner()
    (site.paths.runner / f"{A}.replica").unlink()
    await site.ensure()
    await until(lambda: inhabitants(namespace) == [])


async def test_what_hides_is_frozen_too(site: Site) -> None:
    leader = (await site.python(A, HIDES, "still")).pid
    await site.said(A, "up")
    namespace = await namespace_of(site, A)
    (hidden,) = [pid for pid in inhabitants(namespace) if pid != leader and not pids.is_first(pid)]
    await site.driver.freeze(A)
    assert state_of(hidden) == "T"
    await site.driver.thaw(A)
    await until(lambda: state_of(hidden) != "T")


def _pauses() -> NoReturn:
    while True:
        signal.pause()


def _begun() -> object:
    keep_orphans()
    init, program = pids.begin(_pauses, _pauses)
    (visitor,) = pids.begin(_pauses, inhabitant=os.pidfd_open(program))
    names = {pids.name_of(pid) for pid in (init, program, visitor)}
    first = [pids.is_first(pid) for pid in (init, program, visitor)]
    os.kill(init, signal.SIGKILL)
    endings = [os.waitpid(pid, 0)[1] for pid in (program, visitor, init)]
    return len(names - {"", pids.name_of(os.getpid())}), first, endings


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that anybody may use."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def permitted(scratch: Path) -> None:
    """Skip where an ordinary user may make none."""
    missing = as_ordinary_user(lambda: dict(confine.measure(scratch).missing))
    if confine.OWN_PROCESSES in missing:
        pytest.skip(f"an ordinary user has no own processes here: {missing[confine.OWN_PROCESSES]}")


@pytest.mark.usefixtures("permitted")
def test_without_root_they_are_our_children_and_end_with_the_first() -> None:
    assert as_ordinary_user(_begun) == [1, [True, False, False], [signal.SIGKILL] * 3]


def test_why_none_could_be_made_is_said() -> None:
    def into_another_s() -> object:
        keep_orphans()
        try:
            return pids.begin(_pauses, inhabitant=os.pidfd_open(1))
        except StepFailed as failure:
            return str(failure)

    assert as_ordinary_user(into_another_s) == "setns: Operation not permitted"


@pytest.mark.usefixtures("permitted")
def test_where_the_machine_forbids_user_namespaces_that_is_told(scratch: Path) -> None:
    def forbidden() -> object:
        users.enter(0)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        facts = confine.measure(scratch)
        return facts.mechanisms, dict(facts.missing)

    mechanisms, missing = as_ordinary_user(forbidden)
    assert confine.NO_NEW_PRIVILEGES in mechanisms
    for name in (confine.OWN_PROCESSES, confine.MOUNTS):
        assert "(the machine has user.max_user_namespaces = 0)" in missing[name]
    assert "replicas can list the machine's processes" in missing[confine.OWN_PROCESSES]


@pytest.mark.usefixtures("permitted")
def test_a_seat_that_could_not_be_made_leaves_no_file_open() -> None:
    def forbidden_later() -> object:
        confiner = confine.Confiner(confine.Facts(mechanisms=(confine.OWN_PROCESSES,)))
        users.enter(0)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        before = os.listdir("/proc/self/fd")
        with pytest.raises(StepFailed):
            spawn.fork(confiner, (), None)
        return before, os.listdir("/proc/self/fd")

    before, after = as_ordinary_user(forbidden_later)
    assert before == after


@pytest.mark.usefixtures("permitted")
def test_where_proc_is_covered_in_parts_that_is_told_and_the_rest_kept(scratch: Path) -> None:
    """As container engines do."""

    def covered() -> object:
        users.enter(mounts.NEW_MOUNTS)
        checked(libc.mount(b"/dev/null", b"/proc/version", None, 0x1000, None), "covering")
        facts = confine.measure(scratch)
        return facts.mechanisms, dict(facts.missing)

    mechanisms, missing = as_ordinary_user(covered)
    assert confine.MOUNTS in mechanisms
    assert "a pid namespace with a /proc of its own: Operation not permitted" in missing[confine.OWN_PROCESSES]
