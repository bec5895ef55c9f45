"""How a replica ended, and why as far as can be known."""

from __future__ import annotations

import signal

from kasbah.agent.runner import cgroups
from kasbah.agent.runner.held import Held
from kasbah.agent.runner.records import Ending

UNSEEN = "its exit code is unknown: it ended while, or after, its runner was restarted"


def ending(held: Held, code: int | None, number: int | None) -> Ending:
    """The ending of a replica whose first process ended with an exit code or by a signal (neither: nobody saw)."""
    name = signal_name(number) if number is not None else None
    return Ending(code=code, signal=name, reason=_reason(held, code, name), tail=tuple(held.log.recent))


def signal_name(number: int) -> str:
    """A signal's name; real-time ones have none of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory(size: int) -> str:
    """A number of bytes in mebibytes, as people write limits."""
    return f"{size / 2**20:.0f}Mi"


def _reason(held: Held, code: int | None, name: str | None) -> str:
    if held.cause:
        return held.cause
    if held.record.memory is not None and name == "SIGKILL" and cgroups.ended_by_limit(held.groups):
        return f"used more memory than its limit of {memory(held.record.memory)}"
    if code is None and name is None:
        return UNSEEN
    if name == "SIGSYS":
        return "killed by SIGSYS: it is built for another kind of machine than this one"
    return ""
