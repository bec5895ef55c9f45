"""How sites send requests on to each other: who meets whom, and what was decided about each class of requests.

A request crosses once at the most: from the gateway that its caller reached to one whose site serves it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from kasbah.domain.ids import InstallationId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.service import Access

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*")


def address_error(address: str) -> str | None:
    """Why other sites cannot dial this address, HOST:PORT with an IP address or a name; None where they can."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        return f"{address!r} has no port: write HOST:PORT"
    if "%" in host:
        return f"{host!r} names an interface of one machine: write an address that other sites reach"
    try:
        if ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_unspecified:
            return f"{address!r} stands for every address of a machine: name one that other sites reach"
    except ValueError:
        if not _NAME.fullmatch(host):
            return f"{host!r} is neither an IP address nor a name"
    return None


def spiffe_id(installation: InstallationId, site: SiteId) -> str:
    """The name in a site's certificate, under which its gateway is known to those of other sites.

    >>> spiffe_id(InstallationId("in-1"), SiteId("st-a"))
    'spiffe://in-1/site/st-a'
    """
    return f"spiffe://{installation}/site/{site}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another site, as this one's gateway meets it.

    `identity` is the SPIFFE id that its certificate must name; `key`, where it is known, the SHA-256 of its public key
    (SubjectPublicKeyInfo, hexadecimal). `address` is where its gateway takes what others send, HOST:PORT; "" where it
    cannot be dialled. `tunnel`: it dials, and takes what is sent to it through the tunnels that it holds.
    """

    site: SiteId
    name: str
    identity: str
    address: str = ""
    tunnel: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another site, which is to be measured: how long a round trip to its gateway at `address` takes."""

    site: SiteId
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What was decided about the requests of one class: their label and the sites that serve them.

    `to` are the other sites that serve them, the first choice first; `entries` those that may take them from callers
    and send them here, where they are in the clear as they pass. `id` names the decision: two sites that decided the
    same have the same id.
    """

    id: str
    label: Label
    to: tuple[SiteId, ...] = ()
    entries: tuple[SiteId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """A service that runs elsewhere, as a site takes requests for it: it sends them on, in the lane with this id.
    `declared` is the most that was ever declared of its data."""

    id: ServiceId
    project: ProjectId
    name: str
    hosts: tuple[str, ...]
    access: Access
    revisions: tuple[RevisionId, ...]
    lane: str
    declared: Label | None = None
