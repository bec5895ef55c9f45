"""A user namespace: in one, an ordinary user may make namespaces of the other kinds.

Inside, we are who we are outside, and nobody else has a name there. Its powers reach nothing that was outside before.
"""

from __future__ import annotations

import os
from pathlib import Path

from kasbah.agent.confine.kernel import StepFailed, call

NEW_USER = 0x1000_0000

SWITCHES = {
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
    "user.max_user_namespaces": "0",
}
"""Settings of a machine, and the value of each that keeps user namespaces from ordinary users."""


def enter(others: int) -> None:
    """Enter a new one, and with it a new namespace of each of these other kinds. Raises StepFailed, which names the
    setting that forbids it where there is one. Needs a single thread."""
    user, group = os.getuid(), os.getgid()
    try:
        call("unshare", NEW_USER | others)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        said = "".join(f" (the machine has {name} = {value})" for name, value in SWITCHES.items() if _is(name, value))
        raise StepFailed(error.errno or 1, (error.strerror or str(error)) + said, "a user namespace") from None


def _is(name: str, value: str) -> bool:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip() == value
    except OSError:
        return False
