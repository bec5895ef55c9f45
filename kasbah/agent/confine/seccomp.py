"""Seccomp: system calls that no app needs and that attacks on a kernel, or on a neighbour, start with.

A list of what is refused, not of what is allowed: strangers' apps run unchanged. Refused calls answer EPERM, or ENOSYS
where a caller then tries another way (`io_uring`, `clone3`). Calls of another architecture end the process.

`CLOSED` is a second filter, for replicas that may call nothing and have no network of their own: Landlock knows TCP
only, so that every other way out has to be refused here.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from kasbah.agent.confine.kernel import ARCHITECTURE, NUMBERS, call, number

UNKNOWN = ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "userfaultfd", "open_tree_attr")
"""Answered with ENOSYS. `clone3` takes its flags by pointer, where a filter cannot look: libc falls back to `clone`."""

NOT_FILTERED = frozenset(
    {
        "capset",
        "clone",
        "prlimit64",
        "seccomp",
        "sendmmsg",
        "sendmsg",
        "sendto",
        "socket",
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
    }
)
"""Numbers we know because we use them ourselves, or refuse only in part."""

REFUSED = tuple(name for name in NUMBERS if name not in NOT_FILTERED and name not in UNKNOWN)
"""Answered with EPERM."""

NAMESPACE_FLAGS = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""

X32_BIT = 0x4000_0000
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, KILL_PROCESS, FAIL = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
NUMBER_OFFSET, ARCHITECTURE_OFFSET, FIRST_ARGUMENT_OFFSET = 0, 4, 16
SET_MODE_FILTER = 1

UNIX, INET, NETLINK, INET6 = 1, 2, 16, 10
STREAM, KIND_OF_SOCKET, TCP = 1, 0xF, 6
FAST_OPEN = 0x2000_0000
"""MSG_FASTOPEN: connects while it sends, past the hook by which Landlock sees connections."""

FLAGS = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
"""Which argument holds the flags."""


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _refuse(name: str, error: int) -> list[bytes]:
    wanted = number(name)
    return [] if wanted is None else [_step(EQUAL, wanted, 0, 1), _step(RETURN, FAIL | error)]


def _refuse_by_argument(name: str, test: bytes) -> list[bytes]:
    """Refuse `name` where `test`, made of its first argument, falls through; else load the number again."""
    wanted = number(name)
    assert wanted is not None
    body = [_step(LOAD, FIRST_ARGUMENT_OFFSET), test, _step(RETURN, FAIL | errno.EPERM), _step(LOAD, NUMBER_OFFSET)]
    return [_step(EQUAL, wanted, 0, len(body)), *body]


def program() -> bytes:
    """The filter for this machine, as the kernel takes it."""
    assert ARCHITECTURE is not None
    steps = [
        _step(LOAD, ARCHITECTURE_OFFSET),
        _step(EQUAL, ARCHITECTURE.audit, 1, 0),
        _step(RETURN, KILL_PROCESS),
        _step(LOAD, NUMBER_OFFSET),
        _step(AT_LEAST, X32_BIT, 0, 1),
        _step(RETURN, FAIL | errno.ENOSYS),
        *_refuse_by_argument("clone", _step(ANY_BIT, NAMESPACE_FLAGS, 0, 1)),
        # Limits of another process: a replica runs as the same user as its neighbours and the agent.
        *_refuse_by_argument("prlimit64", _step(EQUAL, 0, 1, 0)),
    ]
    for name in UNKNOWN:
        steps += _refuse(name, errno.ENOSYS)
    for name in REFUSED:
        steps += _refuse(name, errno.EPERM)
    return b"".join([*steps, _step(RETURN, ALLOW)])


def closed_program() -> bytes:
    """The filter for a replica that may call nothing: of sockets it has Unix ones, TCP ones, on which Landlock keeps it
    from connecting, and netlink ones, on which it can only ask. EACCES is what a firewall answers too."""
    refuse, allow = _step(RETURN, FAIL | errno.EACCES), _step(RETURN, ALLOW)
    sockets = [
        _step(LOAD, _argument(0)),
        _step(EQUAL, UNIX, 10),
        _step(EQUAL, NETLINK, 9),
        _step(EQUAL, INET, 1),
        _step(EQUAL, INET6, 0, 6),
        _step(LOAD, _argument(1)),
        _step(AND, KIND_OF_SOCKET),
        _step(EQUAL, STREAM, 0, 3),
        _step(LOAD, _argument(2)),
        _step(EQUAL, 0, 2),
        _step(EQUAL, TCP, 1),
        refuse,
        allow,
    ]
    steps = [_step(LOAD, NUMBER_OFFSET), *_where("socket", sockets)]
    for name, place in FLAGS.items():
        steps += _where(name, [_step(LOAD, _argument(place)), _step(ANY_BIT, FAST_OPEN, 0, 1), refuse, allow])
    return b"".join([*steps, allow])


def _argument(place: int) -> int:
    """Where the lower half of an argument is: the one with this place, from 0."""
    return FIRST_ARGUMENT_OFFSET + 8 * place


def _where(name: str, body: list[bytes]) -> list[bytes]:
    """`body` for this system call, past it for others."""
    wanted = number(name)
    assert wanted is not None
    return [_step(EQUAL, wanted, 0, len(body)), *body]


class Filter:
    """A filter, ready to be entered: made once, before any fork."""

    def __init__(self, steps: bytes) -> None:
        self._steps = ctypes.create_string_buffer(steps, len(steps))
        self._header = struct.pack("HxxxxxxQ", len(steps) // 8, ctypes.addressof(self._steps))

    def enter(self) -> None:
        """Put this process, for good, under the filter. Needs no-new-privileges."""
        call("seccomp", SET_MODE_FILTER, 0, self._header)
