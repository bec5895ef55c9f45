"""What proves this site to others: read from files that joining writes and renews, and the last sound ones kept.

    DATA/agent/identity/site.crt   the certificate, then those between it and the authority; PEM
    DATA/agent/identity/site.key   its key
    DATA/agent/identity/ca.crt     the installation's authority, which vouches for every site

Files that are not sound, as between two of them being written, change nothing. The key is in no log or error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography import x509

from kasbah.agent.pem import CertificateError, read_pair

log = structlog.get_logger()

SITE, AUTHORITY = "site", "ca.crt"


@dataclass(frozen=True, slots=True)
class Proof:
    """The authority's certificates, this site's with those between, and its key, as PEM."""

    authority: bytes = field(repr=False)
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


class SiteIdentity:
    """The files in `folder`. `problem` says why what is there now cannot be used, "" where it can or nothing is."""

    def __init__(self, folder: Path) -> None:
        self.problem = ""
        self._folder = folder
        self._seen: object = None

    async def renew(self, show: Callable[[Proof], Awaitable[None]]) -> bool:
        """Look at the files, and `show` what changed; whether it did. What cannot be shown is tried again."""
        seen = self._stamps()
        if seen == self._seen or None in seen:
            return False
        try:
            await show(await asyncio.to_thread(self._read))
        except Exception as error:  # whatever the gateway and the files have against it
            told = f"this site's identity in {self._folder} cannot be used: {error}"
            if told != self.problem:
                log.warning("identity", problem=told)
            self.problem = told
            return False
        self._seen, self.problem = seen, ""
        return True

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(self._folder / name) for name in (f"{SITE}.crt", f"{SITE}.key", AUTHORITY))

    def _read(self) -> Proof:
        found = Proof(
            authority=(self._folder / AUTHORITY).read_bytes(),
            chain=(self._folder / f"{SITE}.crt").read_bytes(),
            key=(self._folder / f"{SITE}.key").read_bytes(),
        )
        if not read_pair(SITE, found.chain, found.key).fits_key:
            raise CertificateError("site.key is not the key of site.crt")
        try:
            x509.load_pem_x509_certificates(found.authority)
        except ValueError:
            raise CertificateError(f"{AUTHORITY} holds no PEM certificate") from None
        return found


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns)
