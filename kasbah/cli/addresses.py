"""Addresses as people type them (HOST:PORT), countries and domains: checked before anything is started."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from kasbah.errors import Invalid

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_CODES = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
    CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
    GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
    KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
    MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
    SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
    UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES = frozenset(_CODES.split())
"""ISO 3166-1 alpha-2, the officially assigned codes."""


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
