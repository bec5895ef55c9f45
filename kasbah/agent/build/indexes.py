"""Where packages come from at this site: what the agent's environment says to the package managers, else their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

PYPI = ("pypi.org:443", "files.pythonhosted.org:443")
NPM = ("registry.npmjs.org:443",)
PORTS = {"https": 443, "http": 80}
PROXIES = re.compile(r"(HTTPS?|ALL)_PROXY", re.IGNORECASE)
NAMED = re.compile(r"(PIP|UV|NPM_CONFIG)_\w*(INDEX|FIND_LINKS|REGISTRY)\w*", re.IGNORECASE)
IN_PLACE_OF_PYPI = re.compile(r"PIP_INDEX_URL|UV_DEFAULT_INDEX|UV_INDEX_URL")
IN_PLACE_OF_NPM = re.compile(r"NPM_CONFIG_REGISTRY", re.IGNORECASE)


def indexes(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The package indexes and proxies, each HOST:PORT, that these settings name; where they name none in its place,
    PyPI and npm's own registry.

    >>> indexes({"PIP_INDEX_URL": "https://me:secret@pypi.example/simple", "NPM_CONFIG_REGISTRY": "http://npm.example"})
    ('npm.example:80', 'pypi.example:443')
    """
    told = {name: value for name, value in environment.items() if value}
    found = {end for name, value in told.items() if NAMED.fullmatch(name) for end in _ends(value)}
    found |= {end for name, value in told.items() if PROXIES.fullmatch(name) for end in _ends(value, "http://")}
    found |= set(() if any(map(IN_PLACE_OF_PYPI.fullmatch, told)) else PYPI)
    found |= set(() if any(map(IN_PLACE_OF_NPM.fullmatch, told)) else NPM)
    return tuple(sorted(found))


def _ends(value: str, scheme: str = "") -> Iterator[str]:
    """The hosts and ports of the addresses in a setting; of what is no address, nothing."""
    for word in re.split(r"[\s,]+", value):
        _, _, named = word.rpartition("=") if "=" in word.partition("://")[0] else ("", "", word)
        try:
            address = urlsplit(named if "://" in named else scheme + named)
            port = _port(address)
        except ValueError:
            continue
        if port is not None and address.hostname and ":" not in address.hostname:
            yield f"{address.hostname}:{port}"


def _port(address: SplitResult) -> int | None:
    return address.port or PORTS.get(address.scheme)
