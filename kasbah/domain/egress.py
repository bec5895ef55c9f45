"""What a service may call: destinations as its file writes them, read and checked.

api.example.com:443    a host, on one port        10.0.0.0/8        a network, on any port
api.example.com        a host, on any port        service:NAME      another service, through the gateway
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError, ip_address

SERVICE = "service:"
HOST = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One entry: exactly one of `service`, `host` (a name) and `network` is set. `port` None: any."""

    service: str | None = None
    host: str | None = None
    network: str | None = None
    port: int | None = None


def covers(known: Destination, asked: Destination) -> bool:
    """Whether all that `asked` stands for is in `known`. A name is in no network: what it means may change."""
    if known.port is not None and known.port != asked.port:
        return False
    if known.network is not None and asked.network is not None:
        return IPv4Network(asked.network).subnet_of(IPv4Network(known.network))
    return known.host is not None and known.host == asked.host


def meets(known: Destination, asked: Destination) -> bool:
    """Whether something that `asked` stands for is in `known`."""
    if known.port is not None and asked.port is not None and known.port != asked.port:
        return False
    if known.network is not None and asked.network is not None:
        return IPv4Network(asked.network).overlaps(IPv4Network(known.network))
    return known.host is not None and known.host == asked.host


def met(known: Iterable[str], asked: Iterable[str]) -> bool:
    """Whether something that one of the entries `asked` stands for is in one of those that are `known`."""
    wanted = [destination(entry) for entry in asked]
    return any(meets(destination(entry), one) for entry in known for one in wanted)


def destination(text: str) -> Destination:
    """The destination that an entry means. Raises ValueError, which says what is wrong with it."""
    if text.startswith(SERVICE):
        return Destination(service=_matching(NAME, text.removeprefix(SERVICE), text, "service:NAME"))
    if "://" in text:
        raise ValueError(f"{text!r} is the address of a page; write the host and its port, like api.example.com:443")
    if _is_ipv6(text):
        raise ValueError(f"{text!r}: replicas call the outside by IPv4; write a host's name or an IPv4 address")
    where, colon, port = text.partition(":")
    number = _port(port, text) if colon else None
    if "/" in where or re.fullmatch(r"[0-9.]+", where):
        return Destination(network=_network(where, text), port=number)
    host = _matching(HOST, where.lower(), text, "HOST, HOST:PORT, a network like 10.0.0.0/8, or service:NAME")
    return Destination(host=host.rstrip("."), port=number)


def text_of(known: Destination) -> str:
    """An entry that means this host or network."""
    return f"{known.host or known.network}{'' if known.port is None else f':{known.port}'}"


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text.partition("/")[0].strip("[]").partition("]")[0]).version == 6
    except ValueError:
        return text.startswith("[")


def _port(text: str, entry: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise ValueError(f"{entry!r}: {text!r} is no port; ports are 1 to 65535")
    return int(text)


def _network(text: str, entry: str) -> str:
    try:
        return str(IPv4Network(text))
    except (AddressValueError, NetmaskValueError) as error:
        raise ValueError(f"{entry!r}: {text} is no IPv4 address or network ({error})") from None
    except ValueError:
        inside = IPv4Network(text, strict=False)
        raise ValueError(f"{entry!r}: {text} is an address inside a network; do you mean {inside}?") from None


def _matching(pattern: re.Pattern[str], text: str, entry: str, form: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{entry!r} is no destination; write {form}")
    return text
