"""Where packages come from at this site, as hosts and ports: what the agent's environment says to the package managers,
else what these say themselves. An index may keep its files on hosts of their own: it is asked.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from urllib.parse import urljoin, urlsplit

import httpx
import structlog
import uv

from kasbah.agent.build.environment import words
from kasbah.domain.egress import destination

log = structlog.get_logger()

FRESH_SECONDS, RETRY_SECONDS = 600.0, 60.0
"""An index that answered is asked again after the first, one that did not after the second."""
ASK_SECONDS, TRIES = 10.0, 3
LONGEST_PAGE = 4 * 2**20
MOST_HOSTS = 16
"""Of one index."""
PORTS = {"https": 443, "http": 80}
PROXIES = re.compile(r"(HTTPS?|ALL)_PROXY", re.IGNORECASE)
IN_PLACE = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
"""Each stands in for the index that uv would ask. The first that is there counts."""
BESIDE = re.compile(r"UV_INDEX|UV_EXTRA_INDEX_URL|UV_FIND_LINKS")
UVS_OWN = re.compile(r"default package index \(by default: <(https://[^>\s]+)>\)")
WELL_KNOWN = "pip"
"""A package that an index of Python packages has, whatever else it has: its files lie where others do."""
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
LINK = re.compile(r"""(?:"url"\s*:\s*|href\s*=\s*)["']([^"'#]+)""", re.IGNORECASE)


class Indexes:
    """The indexes of one site, whose builds have this environment. What they answered is remembered for ten minutes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._asked: dict[str, tuple[float, frozenset[str]]] = {}
        """When each index is to be asked again, and where its files were."""
        self._own: tuple[str, str] | None = None

    async def ends(self) -> tuple[str, ...]:
        """Each HOST:PORT that a package manager has to reach, proxies among them."""
        if self._own is None:
            self._own = await _said(uv.find_uv_bin(), "help", "pip", "install"), await self._npm()
        of_uv, of_npm = self._own
        found = UVS_OWN.search(of_uv)
        indexes = of_python(self._environment, found.group(1) if found else "")
        files = await asyncio.gather(*(self._files(index) for index in indexes))
        return tuple(sorted({*ends([*indexes, of_npm, *proxies(self._environment)]), *frozenset().union(*files)}))

    async def _npm(self) -> str:
        """Npm's registry: by the environment, the machine's settings, or its own."""
        npm = shutil.which("npm", path=self._environment.get("PATH"))
        return "" if npm is None else (await _said(npm, "config", "get", "registry", **self._environment)).strip()

    async def _files(self, index: str) -> frozenset[str]:
        """Where an index keeps files; what it said before, where it does not answer."""
        due, known = self._asked.get(index, (float("-inf"), frozenset[str]()))
        if time.monotonic() < due:
            return known
        lasts = FRESH_SECONDS
        try:
            async with asyncio.timeout(ASK_SECONDS), httpx.AsyncClient(follow_redirects=True) as client:
                page, text = await _page(client, f"{index.rstrip('/')}/{WELL_KNOWN}/", tries=TRIES)
            known = frozenset(
                islice(dict.fromkeys(ends(urljoin(page, link) for link in LINK.findall(text))), MOST_HOSTS)
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            log.warning("a package index does not say where its files are", problem=str(error) or "no answer")
            lasts = RETRY_SECONDS
        self._asked[index] = (time.monotonic() + lasts, known)
        return known


def of_python(environment: Mapping[str, str], own: str) -> tuple[str, ...]:
    """The addresses of Python's indexes by these settings; `own` is the one that uv asks where they name none.

    >>> of_python({"UV_INDEX": "b=https://b.example/simple /opt/wheels"}, "https://a.example/simple")
    ('https://a.example/simple', 'https://b.example/simple')
    """
    first = next((environment[name] for name in IN_PLACE if environment.get(name)), own)
    values = [first, *(value for name, value in environment.items() if BESIDE.fullmatch(name))]
    named = (word for value in values for word in words(value))
    return tuple(dict.fromkeys(word for word in named if word.startswith(("http://", "https://"))))


def proxies(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The proxies that these settings name, as addresses."""
    named = (value for name, value in environment.items() if PROXIES.fullmatch(name) and value)
    return tuple(value if "://" in value else f"http://{value}" for value in named)


def ends(addresses: Iterable[str]) -> Iterator[str]:
    """The host and port of each of these that is an address; hosts by IPv4 only, as builds call the outside."""
    for address in addresses:
        with suppress(ValueError):
            parts = urlsplit(address)
            port = parts.port or PORTS.get(parts.scheme)
            if port is not None and parts.hostname and ":" not in parts.hostname:
                destination(found := f"{parts.hostname}:{port}")
                yield found


async def _page(client: httpx.AsyncClient, address: str, *, tries: int) -> tuple[str, str]:
    """Where a page was in the end, and what it says. Networks stumble: it is asked for so many times. Raises
    HTTPError."""
    while True:
        try:
            return await _read(client, address)
        except httpx.HTTPError as error:
            tries -= 1
            if tries == 0 or (isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error):
                raise


async def _read(client: httpx.AsyncClient, address: str) -> tuple[str, str]:
    """As much of a page as one reads. Raises HTTPError."""
    async with client.stream("GET", address, headers={"accept": ACCEPT}) as answer:
        answer.raise_for_status()
        read = bytearray()
        async for part in answer.aiter_bytes():
            read += part
            if len(read) > LONGEST_PAGE:
                break
        return str(answer.url), read.decode("utf-8", "replace")


async def _said(*argv: str, **environment: str) -> str:
    """What a program prints. "" where it cannot be run or does not come to an end."""
    with suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd="/",
            env={"PATH": os.defpath, "HOME": "/", "NO_COLOR": "1", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return (await process.communicate())[0].decode("utf-8", "replace")
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    return ""
