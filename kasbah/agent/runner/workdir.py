"""A replica's private folder: a working copy of its source, a home, and a folder for temporary files.

    REPLICA/app    the working copy, where it starts; what it writes there is its own and gone with it
    REPLICA/home   HOME
    REPLICA/tmp    TMPDIR, and its /tmp where the kernel lets it have one
    REPLICA/secrets    what it was given as files; nobody else may read them
    REPLICA/etc    files that stand in for the machine's own, where the replica has a user of its own

The folder itself is the site's; where the replica has a user of its own, the first three inside are that user's.

The source itself is never written to. A source of more than 32 MiB is not copied: its files are links to the read-only
originals, in folders of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LARGEST_COPY = 32 * 2**20
MOST_COPIED_FILES = 5_000
LINKED_FOLDERS = frozenset({"node_modules", ".venv"})
"""Installed dependencies: read, not written, and large. A link keeps their own relative imports working."""

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"

RM = "/bin/rm"

CLONE = 0x4004_9409
"""FICLONE: share the blocks until one side writes, on file systems that can."""


@dataclass(frozen=True, slots=True)
class Workdir:
    """The private folder of one replica."""

    root: Path
    owner: int | None = None
    """The replica's own user and group, where it has one."""

    @property
    def app(self) -> Path:
        return self.root / "app"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def make(self) -> None:
        """Make the empty folders."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.app, self.home, self.tmp):
            folder.mkdir(mode=0o700, exist_ok=True)
            if self.owner is not None:
                os.chown(folder, self.owner, self.owner)
        if self.owner is not None:
            self.root.chmod(0o711)
            name_user(self.root, self.owner, self.home)

    @property
    def stand_ins(self) -> tuple[tuple[Path, Path], ...]:
        """Files of the machine, each with the one of this folder that the replica sees instead."""
        return stand_ins(self.root)

    def lead(self, hosts: Mapping[str, str]) -> None:
        """Names that it is led to for as long as it lives, beside those that `know` tells it of."""
        (self.root / "etc").mkdir(exist_ok=True)
        (self.root / "etc" / "led").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))

    def know(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Tell it where these hosts are, in an /etc/hosts of its own. It sees later changes too."""
        led = self.root / "etc" / "led"
        write_hosts(self.root, names, led.read_text() if led.exists() else "")

    def _keep(self, files: Mapping[str, bytes]) -> None:
        folder = self.root / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, contents in files.items():
            with open(self.secret(name), "wb", opener=_private) as file:
                file.write(contents)
        if self.owner is not None:
            give(folder, self.owner)

    def secret(self, name: str) -> Path:
        """Where the file that a variable names is."""
        return self.root / "secrets" / name

    def place(self, volumes: Mapping[Path, Path], *, linked: bool) -> None:
        """Make the places of volumes in the working copy: links to them, or empty folders to mount them over. What the
        source has there is left out."""
        for place, volume in volumes.items():
            above = self.app
            for part in place.relative_to(self.app).parts[:-1]:
                above = above / part
                if not above.is_symlink() and above.is_dir():
                    continue
                above.mkdir(mode=0o700)  # a file or a link there is an error
                self._own(above)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            if linked:
                place.symlink_to(volume)
            else:
                place.mkdir(mode=0o700)
                self._own(place)

    def _own(self, folder: Path) -> None:
        if self.owner is not None:
            os.chown(folder, self.owner, self.owner)

    def fill(self, source: Path, files: Mapping[str, bytes]) -> None:
        """Make the working copy of `source`, and the files that the replica alone may read."""
        if files:
            self._keep(files)
        _copy_folder(str(source), str(self.app), copied=_is_small(source))
        if self.owner is not None:
            give(self.app, self.owner)


def name_user(root: Path, owner: int, home: Path) -> None:
    """Give the user of a private folder a name: programs that look up who they are fail where there is none."""
    folder = root / "etc"
    folder.mkdir(exist_ok=True)
    (folder / "passwd").write_text(f"{PASSWD}app:x:{owner}:{owner}:an app:{home}:/bin/sh\n")
    (folder / "group").write_text(f"{GROUP}app:x:{owner}:\n")
    for path in (folder, folder / "passwd", folder / "group"):
        path.chmod(0o755 if path == folder else 0o644)


def write_hosts(root: Path, names: Mapping[str, tuple[str, ...]], more: str = "") -> None:
    """Say in a private folder where these hosts are."""
    hosts = root / "etc" / "hosts"
    hosts.parent.mkdir(exist_ok=True)
    lines = [f"{address} {name}\n" for name, addresses in names.items() for address in addresses]
    hosts.write_text("".join(["127.0.0.1 localhost\n::1 localhost\n", *lines, more]))  # in place: it is mounted
    hosts.chmod(0o644)


def stand_ins(root: Path) -> tuple[tuple[Path, Path], ...]:
    """Files of the machine, each with the one of this private folder that is seen instead."""
    ours = ((Path("/etc") / name, root / "etc" / name) for name in ("passwd", "group", "hosts"))
    return tuple((theirs, own) for theirs, own in ours if own.exists())


def remove(folder: Path) -> None:
    """Delete a folder and all below it, whatever permissions a replica left behind, and however deep it went."""
    try:
        shutil.rmtree(folder, onerror=_loosen)
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        os.waitpid(os.posix_spawn(RM, [RM, "-rf", "--", str(folder)], {}), 0)


def _is_small(source: Path) -> bool:
    """Whether a folder is worth copying; stops counting as soon as it is not."""
    size = files = 0
    folders = [str(source)]
    while folders and size <= LARGEST_COPY and files <= MOST_COPIED_FILES:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
                elif entry.name not in LINKED_FOLDERS:
                    folders.append(entry.path)
    return size <= LARGEST_COPY and files <= MOST_COPIED_FILES


def _copy_folder(source: str, target: str, *, copied: bool) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            goal = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), goal)
            elif entry.is_dir() and entry.name not in LINKED_FOLDERS:
                os.mkdir(goal, 0o700)
                _copy_folder(entry.path, goal, copied=copied)
            elif entry.is_dir() or not copied:
                os.symlink(entry.path, goal)
            elif entry.is_file():
                _copy_file(entry.path, goal, entry.stat())


def give(folder: Path, owner: int) -> None:
    """Make a folder and all below it this user's; links are not followed. The folder itself last: it says that all of
    it is done."""
    for _, folders, files, here in os.fwalk(folder, topdown=False):
        for name in (*folders, *files):
            os.chown(name, owner, owner, dir_fd=here, follow_symlinks=False)
    os.chown(folder, owner, owner, follow_symlinks=False)


def _copy_file(source: str, target: str, facts: os.stat_result) -> None:
    """Copy contents, permissions (ours to write) and times: compiled Python is valid only for its source's time."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.ioctl(writer, CLONE, reader)
        except OSError:
            while os.sendfile(writer, reader, None, LARGEST_COPY):
                pass
        os.fchmod(writer, stat.S_IMODE(facts.st_mode) & 0o777 | 0o600)
        os.utime(writer, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    finally:
        os.close(reader)
        os.close(writer)


def _loosen(_function: object, path: str, _error: object) -> None:
    """Give ourselves back the permissions that a replica took from its folders; the next pass deletes them."""
    for folder in (os.path.dirname(path), path):
        if os.path.isdir(folder) and not os.path.islink(folder):
            os.chmod(folder, 0o700)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o400)
