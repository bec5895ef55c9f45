"""Privileges: a replica keeps none and can gain none.

As root each replica becomes a user of its own. Where it cannot, it stays the site's user: for root this means owning
root's files without the power to pass over permissions, which is why Landlock decides what it may open.
"""

from __future__ import annotations

import errno
import os
import struct

from kasbah.agent.confine.kernel import StepFailed, call, control

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x2008_0522
PAST_ANY_CAPABILITY = 64


def drop_capabilities(user: int | None = None) -> None:
    """Give up every capability, those that an exec as root would bring back included, and become `user`."""
    for capability in range(PAST_ANY_CAPABILITY):
        try:
            control(PR_CAPBSET_DROP, capability, f"dropping capability {capability}")
        except StepFailed as failure:
            if failure.errno == errno.EINVAL:  # past the last one this kernel knows
                break
            if failure.errno != errno.EPERM:  # an ordinary user has none to drop
                raise
            break
    control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, "clearing ambient capabilities")
    if user is not None:
        become(user)
    call("capset", struct.pack("Ii", CAPABILITY_VERSION_3, 0), struct.pack("IIIIII", *([0] * 6)))


def become(user: int) -> None:
    """Be this user, and the group of the same number, and in no other group. For good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def forbid_new() -> None:
    """From here on no exec grants anything: set-user-id programs run as their caller."""
    control(PR_SET_NO_NEW_PRIVS, 1, "no-new-privileges")
