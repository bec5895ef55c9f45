"""Where one build happens and what it works with: its folders, its environment, its log, and the way to run a tool.

The environment is made up, not inherited: of the agent's own, only what says how to reach package indexes goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.build.buildlog import BuildLog
from kasbah.agent.build.process import run
from kasbah.errors import BuildFailed

PASSED_ON = re.compile(
    r"UV_\w+|PIP_\w+|NPM_CONFIG_\w+|(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS|NETRC|PATH|TMPDIR|TZ",
    re.IGNORECASE,
)
"""How indexes are reached, and where compilers are."""

OURS = re.compile(
    r"UV_(CACHE_DIR|PROJECT\w*|PYTHON|PYTHON_\w+|SYSTEM_PYTHON|NO_CACHE|WORKING_DIR\w*|WORKING_DIRECTORY|RUN_\w+"
    r"|COMPILE_BYTECODE|LINK_MODE|FROZEN|LOCKED|NO_SYNC|NO_PROJECT|OFFLINE|TARGET|PREFIX)"
)
"""What would change how we build, not where from."""

FROM_PIP = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS"}
"""uv does not read pip's settings; a machine that has them means them."""

HINTS = (
    (r"No space left on device|ENOSPC", "the site's disk is full: free some space and deploy again"),
    (
        r"dns error|error sending request|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|UnknownIssuer|failed to lookup"
        r"|Temporary failure in name resolution|operation timed out|tcp connect error",
        "the site cannot reach the package index: check its network, HTTPS_PROXY and SSL_CERT_FILE",
    ),
    (
        r"No solution found|not found in the package registry|No matching version|E404|ERESOLVE",
        "a dependency does not exist or conflicts with another: check its name and version",
    ),
    (r"Failed to build|failed to build|gyp ERR", "a dependency needs a compiler or a library that the site lacks"),
    (r"EUSAGE|can only install packages when", "the lock file is not up to date: run `npm install` and deploy again"),
    (r"[Tt]he lockfile|uv\.lock", "the lock file does not fit pyproject.toml: run `uv lock` and deploy again"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """One build's place: `folder` holds everything below; `app` is the source, `env` what was installed for it."""

    folder: Path
    cache: Path
    log: BuildLog

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def home(self) -> Path:
        """The tools' home folder, gone when the build is done."""
        return self.folder / "home"

    @property
    def record(self) -> Path:
        """The process group at work."""
        return self.folder / "building"

    async def run(
        self, argv: Sequence[str], *, doing: str, env: Mapping[str, str] | None = None, hint: str = ""
    ) -> None:
        """Run a tool in the source folder. Raises BuildFailed, with the last lines it printed, where it fails; `hint`
        is the next step, where it is known better than from what was printed."""
        variables = {**tool_environment(self.home), **(env or {})}
        try:
            status = await run(argv, cwd=self.app, env=variables, log=self.log, record=self.record)
        except FileNotFoundError as error:
            raise self.failed(f"{doing} failed: {argv[0]} was not found", hint="install it on the site") from error
        if status != 0:
            ended = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            raise self.failed(f"{doing} failed: {Path(argv[0]).name} {ended}", hint=hint or self._hint())

    def failed(self, message: str, *, hint: str = "") -> BuildFailed:
        """The error for a build that ends here."""
        return BuildFailed(message, hint=hint, tail=self.log.tail)

    def _hint(self) -> str:
        text = "\n".join(self.log.tail)
        return next((hint for pattern, hint in HINTS if re.search(pattern, text)), "see the last lines below")


def tool_environment(home: Path) -> dict[str, str]:
    """The environment of a build's tools."""
    passed = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name) and not OURS.match(name)}
    for pip, uv in FROM_PIP.items():
        if pip in passed:
            passed.setdefault(uv, ",".join(passed[pip].split()) if uv == "UV_FIND_LINKS" else passed[pip])
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", **passed, "HOME": str(home), "LANG": "C.UTF-8", "NO_COLOR": "1"}
