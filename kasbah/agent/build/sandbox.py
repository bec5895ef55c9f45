"""Where a build's tools run: `python -I -S .../kasbah/agent/build/sandbox.py PLAN`, PLAN being JSON.

What a source brings along (build scripts, build backends, install hooks) is anybody's code, as a replica is. It is kept
from the rest of the machine by the same mechanisms, all that work here; of the site it sees what it builds and the
package managers' caches of its kind, and of the machine what every replica sees. Its network is the machine's, where
packages come from: it goes by its user how much of that it reaches.

Standard library only, and no more of ours than the runner uses: this is started for each tool. It ends as the tool
does, and with the tool all that it left behind ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Under -I and -S nothing has put our package on the path.
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypedDict

from kasbah.agent import confine
from kasbah.agent.confine import pids
from kasbah.agent.confine.kernel import PR_SET_PDEATHSIG, control, keep_orphans, name_process
from kasbah.agent.runner.spawn import reset_signals
from kasbah.agent.runner.workdir import stand_ins

PROGRAM = Path(__file__)
NOT_CONFINED = 125
NICE = 10
FIRST_TO_END = "1000"


class Plan(TypedDict):
    """What is run inside, and what it may see and write there."""

    argv: list[str]
    cwd: str
    private: str
    writable: list[str]
    readable: list[str]
    mechanisms: list[str]
    user: int | None
    hidden: list[str]
    groups: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What keeps tools apart: the mechanisms that work on this machine, and the user they run as (None: the site's
    own). What is `hidden` is not there for them, but for what a plan names. `names` are the only hosts whose addresses
    they find, where that user may not call others."""

    mechanisms: tuple[str, ...] = ()
    user: int | None = None
    hidden: tuple[Path, ...] = ()
    names: Mapping[str, tuple[str, ...]] | None = None

    def command(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        private: Path,
        writable: Sequence[Path],
        readable: Sequence[Path],
        groups: Sequence[Path] = (),
    ) -> tuple[str, ...]:
        """The command line that runs a tool, named by its whole path, inside. `private` holds `tmp`, its /tmp, and it
        is in the control groups `groups`."""
        plan: Plan = {
            "argv": list(argv),
            "cwd": str(cwd),
            "private": str(private),
            "writable": [str(path) for path in writable],
            "readable": [str(path) for path in readable],
            "mechanisms": list(self.mechanisms),
            "user": self.user,
            "hidden": [str(path) for path in self.hidden],
            "groups": [str(path) for path in groups],
        }
        return (sys.executable, "-I", "-S", str(PROGRAM), json.dumps(plan))


def main(arguments: list[str]) -> int:
    """Run the tool of a plan to its end; its exit status."""
    plan: Plan = json.loads(arguments[0])
    # Of its own it would have no way to the packages.
    mechanisms = tuple(name for name in plan["mechanisms"] if name != confine.OWN_NETWORK)
    confiner = confine.Confiner(confine.Facts(mechanisms=mechanisms), hidden=map(Path, plan["hidden"]))
    init = 0
    if confiner.own_processes:
        keep_orphans()
        init, tool = pids.begin(_stay, lambda: _become(plan, confiner))
    else:
        tool = pids.fork(lambda: _become(plan, confiner))
    code = os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1])
    if init:
        os.kill(init, signal.SIGKILL)  # and the kernel ends what the tool left behind
        os.waitpid(init, 0)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _stay() -> NoReturn:
    """The life of the first process of the tool's pid namespace."""
    try:
        control(PR_SET_PDEATHSIG, signal.SIGKILL, "ending with the build")
        name_process("kasbah-build")
        pids.be_init()
    finally:
        os._exit(1)


def _become(plan: Plan, confiner: confine.Confiner) -> NoReturn:
    """Be the tool of a plan."""
    try:
        _give_way(plan["groups"])
        reset_signals()
        os.umask(0o022)  # replicas, who are other users, read what is built
        private, user = Path(plan["private"]), plan["user"]
        confine.limit()
        confiner.prepare(
            private=private,
            readable=tuple(map(Path, plan["readable"])),
            writable=tuple(map(Path, plan["writable"])),
            pipes=(),
            user=user,
            stand_ins=stand_ins(private) if user is not None else (),
        ).enter()
        os.chdir(plan["cwd"])
        os.execve(plan["argv"][0], plan["argv"], os.environ)
    except OSError as error:
        os.write(2, f"the build could not be confined: {error}\n".encode())
    finally:
        os._exit(NOT_CONFINED)


def _give_way(groups: Sequence[str]) -> None:
    """What serves goes first: for the processors, and when the machine has no memory left."""
    for group in groups:
        Path(group, "cgroup.procs").write_text("0")
    os.nice(NICE)
    Path("/proc/self/oom_score_adj").write_text(FIRST_TO_END)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
