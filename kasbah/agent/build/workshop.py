"""Where one build happens and what it works with: its folders, its environment, its log, and the way to run a tool.

    REVISION/app, env     the source, and what was installed for it: the tools may write there
    REVISION/work         the tools' home and /tmp, gone when the build is done
    REVISION/...          ours: the versions resolved, and what says that a build is complete

Tools run in a sandbox (`sandbox.py`). What they leave behind is anybody's: it is looked at as it stands, never by way
of a link. The environment is made up, not inherited: of the agent's own, only what says how to reach package indexes
goes on.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from kasbah.agent.build.buildlog import BuildLog
from kasbah.agent.build.environment import passed_on, words
from kasbah.agent.build.launch import SYSTEM_PATH
from kasbah.agent.build.process import run
from kasbah.agent.build.sandbox import Sandbox
from kasbah.agent.build.shares import NO_LIMIT, Share
from kasbah.agent.runner.workdir import give, name_user, write_hosts
from kasbah.api.quantities import format_size
from kasbah.errors import BuildFailed

DISK_FULL = "the site's disk is full: free some space"
OUT_OF_REACH = "the site cannot reach the package index: check its network, HTTPS_PROXY and SSL_CERT_FILE"
TOO_LARGE = "have it do with less, such as by building fewer things at once, or give the agent a larger --build-memory"

HINTS = (
    (r"No space left on device|ENOSPC", DISK_FULL),
    (
        r"dns error|error sending request|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|UnknownIssuer|failed to lookup"
        r"|Temporary failure in name resolution|operation timed out|tcp connect error",
        OUT_OF_REACH,
    ),
    (
        r"No solution found|not found in the package registry|No matching version|E404|ERESOLVE",
        "a dependency does not exist or conflicts with another: check its name and version",
    ),
    (r"Failed to build|failed to build|gyp ERR", "a dependency needs a compiler or a library that the site lacks"),
    (r"EUSAGE|can only install packages when", "the lock file is not up to date: run `npm install` and deploy again"),
    (r"[Tt]he lockfile|uv\.lock", "the lock file does not fit pyproject.toml: run `uv lock` and deploy again"),
)

LARGEST_LOCK = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """One build's place: `folder` holds everything below; `app` is the source, `env` what was installed for it.
    `readable` is what tools read beside what every replica reads."""

    folder: Path
    cache: Path
    log: BuildLog
    sandbox: Sandbox
    share: Share = NO_LIMIT
    readable: tuple[Path, ...] = ()

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def work(self) -> Path:
        """The tools' own folder."""
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def tmp(self) -> Path:
        return self.work / "tmp"

    @property
    def record(self) -> Path:
        """The process group at work."""
        return self.folder / "building"

    def furnish(self) -> None:
        """Make the folders that tools write to, and what the sandbox needs."""
        for folder in (self.app, self.env, self.home, self.tmp, self.settings, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        os.utime(self.cache)  # it is of use now
        for name, value in passed_on().items():
            if _is_file(value):
                shutil.copyfile(value, self.settings / name)
        if (user := self.sandbox.user) is not None:
            self.folder.chmod(0o711)
            name_user(self.work, user, self.home)
            if self.sandbox.names is not None:
                write_hosts(self.work, self.sandbox.names)
            for folder in (self.home, self.tmp, self.settings):
                give(folder, user)
            if self.cache.stat().st_uid != user:  # given to it before, or another's of before
                give(self.cache, user)

    @property
    def settings(self) -> Path:
        """Copies of the files that the agent's environment names: certificates, credentials for an index."""
        return self.work / "settings"

    def hand_over(self, folder: Path) -> None:
        """Let tools write to what we made."""
        if self.sandbox.user is not None:
            give(folder, self.sandbox.user)

    def take_back(self) -> None:
        """No tool writes to what was built any more. Raises BuildFailed where it is not there."""
        for folder in (self.app, self.env):
            if folder.is_symlink() or not folder.is_dir():
                raise self.failed(f"the build has put something else in the place of {folder.name}")
            if self.sandbox.user is not None:
                give(folder, os.getuid())

    async def run(
        self, argv: Sequence[str], *, doing: str, env: Mapping[str, str] | None = None, hint: str = ""
    ) -> None:
        """Run a tool, named by its whole path, in the source folder and in the sandbox. Raises BuildFailed, with the
        last lines it printed, where it fails; `hint` is the next step, where it is known better than from what was
        printed."""
        inside = self.sandbox.command(
            argv,
            cwd=self.app,
            private=self.work,
            writable=(self.app, self.env, self.cache),
            readable=self._reads(),
            groups=self.share.groups,
        )
        await self._run(inside, Path(argv[0]), doing=doing, env=env or {}, hint=hint)

    async def run_ours(self, argv: Sequence[str], *, doing: str, env: Mapping[str, str]) -> None:
        """Run a tool that runs nothing of the source's, as what we are, in an empty folder. Raises BuildFailed."""
        await self._run(argv, Path(argv[0]), doing=doing, env=env, hint="")

    async def _run(self, argv: Sequence[str], tool: Path, *, doing: str, env: Mapping[str, str], hint: str) -> None:
        variables, user = {**self._environment(), **env}, self.sandbox.user
        if not tool.exists():
            raise self.failed(f"{doing} failed: {tool} was not found", hint="install it on the site")
        ended_before = self.share.ended
        status = await run(argv, cwd=self.work, env=variables, log=self.log, record=self.record, user=user)
        if status != 0:
            ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            found, passing = self._hint()
            if self.share.ended > ended_before:
                ended = f"needed more than the {format_size(self.share.memory)} of memory that a build may have here"
                hint, passing = TOO_LARGE, False
            raise BuildFailed(
                f"{doing} failed: {tool.name} {ended}", hint=hint or found, tail=self.log.tail, passing=passing
            )

    def _environment(self) -> dict[str, str]:
        """The environment of a build's tools."""
        passed = passed_on()
        copied = {name: str(self.settings / name) for name in passed if (self.settings / name).exists()}
        ours = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "LANG": "C.UTF-8", "NO_COLOR": "1"}
        return {"PATH": ":".join(SYSTEM_PATH), **passed, **copied, **ours}

    def _reads(self) -> tuple[Path, ...]:
        """What tools read of the machine beside what replicas do: their own programs, and folders that the agent's
        environment names."""
        return tuple(dict.fromkeys((*self.readable, *_named(passed_on().values()))))

    def keep(self, made: Path, name: str) -> Path:
        """Keep a file that a tool made under this name, out of the tools' reach. Raises BuildFailed where it is
        none."""
        kept = self.folder / name
        work = kept.with_suffix(".new")
        try:
            work.write_bytes(_contents(made))
        except OSError as error:
            raise self.failed(f"{made.name} is not a file of this build: {error.strerror}") from error
        os.replace(work, kept)
        return kept

    def failed(self, message: str, *, hint: str = "") -> BuildFailed:
        """The error for a build that ends here."""
        return BuildFailed(message, hint=hint, tail=self.log.tail)

    def _hint(self) -> tuple[str, bool]:
        """The next step, and whether it may go well another time without one."""
        text = "\n".join(self.log.tail)
        hint = next((hint for pattern, hint in HINTS if re.search(pattern, text)), "see the last lines below")
        passing = hint in (DISK_FULL, OUT_OF_REACH)
        if hint == OUT_OF_REACH and self.sandbox.names is not None:
            reached = ", ".join(sorted(self.sandbox.names)) or "none by name"
            hint = (
                "its data may not be just anywhere, so its build reaches package indexes only "
                f"({reached}): put what else it needs into the source or into an index"
            )
        return hint, passing


def _contents(made: Path) -> bytes:
    """What is in a file that a tool made; a link, a pipe or a device is none. Raises OSError."""
    with os.fdopen(os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is something else")
        contents = file.read(LARGEST_LOCK + 1)
    if len(contents) > LARGEST_LOCK:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST_LOCK} bytes")
    return contents


def _is_file(value: str) -> bool:
    return value.startswith("/") and os.path.isfile(value)


def _named(values: Iterable[str]) -> Iterator[Path]:
    """The folders that settings name, by path or as a file: URL; the machine's programs are read by all anyway.

    >>> list(_named(["/usr/lib,https://x/usr/lib", "own=file:///usr/lib"]))
    [PosixPath('/usr/lib'), PosixPath('/usr/lib')]
    """
    for value in values:
        for named in words(value):
            url = named.startswith("file://")
            for path in [unquote(named.removeprefix("file://"))] if url else named.split(":"):
                if path.startswith("/") and path.strip("/") and os.path.isdir(path):
                    yield Path(path)
