"""What of the agent's environment goes on to a build's tools: how indexes are reached, and where compilers are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

PASSED_ON = re.compile(
    r"UV_\w+|PIP_\w+|NPM_CONFIG_\w+|(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS|NETRC|PATH|TZ",
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


def passed_on() -> dict[str, str]:
    """What of the agent's environment is the tools' too."""
    passed = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name) and not OURS.match(name)}
    for pip, uv in FROM_PIP.items():
        if pip in passed:
            passed.setdefault(uv, ",".join(passed[pip].split()) if uv == "UV_FIND_LINKS" else passed[pip])
    return passed


def words(value: str) -> Iterator[str]:
    """What a setting names: several are parted by blanks or commas, and each may have a name of its own before it.

    >>> list(words("own=https://a.example/x?y=1, /opt/wheels"))
    ['https://a.example/x?y=1', '/opt/wheels']
    """
    for word in re.split(r"[\s,]+", value):
        yield word.partition("=")[2] if "=" in word.partition("://")[0] else word
