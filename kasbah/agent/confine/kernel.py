"""System calls that Python does not offer, by name, and errors that say which step failed.

Numbers are those of x86_64 and aarch64; on another machine `ARCHITECTURE` is None and nothing here can be used.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How the kernel names a machine in seccomp (`audit`), and which column of NUMBERS is its own."""

    audit: int
    column: int


ARCHITECTURE = {
    "x86_64": Architecture(audit=0xC000003E, column=0),
    "aarch64": Architecture(audit=0xC00000B7, column=1),
}.get(os.uname().machine)

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "seccomp": (317, 277),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "sysfs": (139, None),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "uselib": (134, None),
    "vhangup": (153, 58),
}


class StepFailed(OSError):
    """A step of confining failed; `str()` names it."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def number(name: str) -> int | None:
    """The number of a system call on this machine, or None where it has none."""
    return NUMBERS[name][ARCHITECTURE.column] if ARCHITECTURE else None


def checked(result: int, step: str) -> int:
    """`result`, or StepFailed where it says that the last call into libc failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise StepFailed(code, os.strerror(code), step)
    return result


def call(name: str, *arguments: object) -> int:
    """Make a system call by name. Raises StepFailed."""
    wanted = number(name)
    if wanted is None:
        raise StepFailed(38, "this machine has no such system call", name)
    return checked(libc.syscall(ctypes.c_long(wanted), *arguments), name)


def control(option: int, value: int, step: str) -> int:
    """`prctl(option, value, 0, 0, 0)`. Raises StepFailed."""
    rest = (ctypes.c_ulong(0),) * 3
    return checked(libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *rest), step)


def name_process(name: str) -> None:
    """What `ps` and `top` call this process, of at most 15 characters."""
    libc.prctl(ctypes.c_int(PR_SET_NAME), name.encode())


def keep_orphans() -> None:
    """Be the parent of all descendants whose own parent ends. Raises StepFailed."""
    control(PR_SET_CHILD_SUBREAPER, 1, "keeping orphans")
