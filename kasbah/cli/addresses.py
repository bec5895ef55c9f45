"""Addresses as people type them (HOST:PORT), countries and domains: checked before anything is started."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from kasbah.domain.country import COUNTRIES
from kasbah.domain.crossing import address_error
from kasbah.errors import Invalid

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens. `host` is an IP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> Address:
        """Where a client on this machine reaches it: a wildcard is no address to call."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_address(text: str, *, option: str) -> Address:
    """HOST:PORT. Raises Invalid that names the option.

    >>> parse_address("localhost:8080", option="--api")
    Address(host='127.0.0.1', port=8080)
    """
    host, colon, port = text.rpartition(":")
    host = {"localhost": "127.0.0.1"}.get(host, host.removeprefix("[").removesuffix("]"))
    try:
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(port)
        return Address(str(ipaddress.ip_address(host)), int(port))
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no HOST:PORT",
            where=option,
            hint="write an IP address and a port, such as 127.0.0.1:8080; port 0 takes a free one",
            code="usage",
        ) from error


def parse_tls(text: str | None, certificates: object) -> Address | None:
    """Where TLS is spoken. Raises Invalid for certificates without it."""
    if text is None and certificates is not None:
        raise Invalid(
            "certificates are for TLS", where="--certificates", code="usage", hint="say where: --tls HOST:PORT"
        )
    return None if text is None else parse_address(text, option="--tls")


def parse_peers(text: str | None, reached_at: str | None, *, tunnel: bool = False) -> str | None:
    """Where other sites' gateways are listened to. Raises Invalid where they could not reach that."""
    if tunnel and text is not None:
        raise Invalid(
            "a site that others can dial needs no tunnels",
            where="--tunnel",
            code="usage",
            hint="give --peers where they can, --tunnel where they cannot",
        )
    problem = None if reached_at is None else address_error(reached_at)
    if problem is not None or (text is None and reached_at is not None):
        raise Invalid(
            problem or "an address for other sites is of no use alone",
            where="--peers-address",
            code="usage",
            hint="such as gateway.example.org:9443, beside --peers HOST:PORT",
        )
    address = None if text is None else parse_address(text, option="--peers")
    if address is not None and reached_at is None and ipaddress.ip_address(address.host).is_unspecified:
        raise Invalid(
            f"{text} is no address that other sites could reach",
            where="--peers",
            code="usage",
            hint="add --peers-address HOST:PORT, where they do",
        )
    return None if address is None else str(address)


def parse_country(text: str) -> str:
    """A country's two letters, in capitals. Raises Invalid for what is none."""
    if text.upper() not in COUNTRIES:
        raise Invalid(
            f"{text!r} is no country code",
            where="--country",
            hint="write the two letters of ISO 3166-1, such as MA, FR or SN",
            code="usage",
        )
    return text.upper()


def parse_domain(text: str) -> str:
    """A domain, in small letters. Raises Invalid for what is none."""
    domain = text.lower().rstrip(".")
    if len(domain) > 200 or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise Invalid(f"{text!r} is no domain", where="--base-domain", hint="such as apps.example.org", code="usage")
    return domain
