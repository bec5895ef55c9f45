"""Sites as the API shows and takes them: what their owner says of them, and what they report."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from kasbah.api.shape import Shape
from kasbah.domain.site import SiteKind, SiteState


class FactView(Shape):
    """A fact about a site, as its owner said it."""

    name: str
    value: str = Field(description="What was said, as people write it.")
    source: str = Field(description="Who says so.")
    since: date
    until: date | None = Field(description="The last day it holds; none where it holds until somebody says otherwise.")
    holds: bool = Field(description="Whether it holds today: one that does not is not known.")


class PackPinned(Shape):
    """A pack that the site's own owner pinned there."""

    name: str
    version: int
    digest: str = Field(description="Of its rules.")


class SiteView(Shape):
    """A site: what its owner says of it, and what it reports of itself."""

    id: str
    name: str
    kind: SiteKind
    country: str | None
    state: SiteState
    version: int = Field(description="Of what its owner says of it.")
    signed: bool = Field(description="Whether the owner of the installation has signed it.")
    facts: list[FactView]
    hosts: list[str] = Field(description="Where it is called, for a place that runs nothing of ours.")
    connected: bool
    seen_at: datetime | None
    gateway: str
    gateway_error: str
    tls: str = Field(description="Where the gateway speaks TLS; empty where it does not.")
    tls_names: list[str] = Field(description="The hosts it has certificates for.")
    peers_address: str = Field(
        description="Where it takes what other sites' gateways send; empty where no site can dial it."
    )
    tunnel: bool = Field(description="Whether it takes that by tunnels that it holds to the others.")
    notes: list[str] = Field(description="What the site's owner should look after.")
    packs: list[PackPinned] = Field(description="The packs that the site's own owner added there to the law.")
    isolation: list[str]
    isolation_missing: dict[str, str]
    egress: str
    cpus: float
    memory: int
    runtimes: list[str]
    epoch: int
    desired_generation: int
    applied_generation: int


class SignedCharter(Shape):
    """What the owner of the installation says of a site, as it was signed: the exact text, and the signature."""

    document: str = Field(max_length=1_000_000)
    signature: str = Field(max_length=200)


class CharterRequest(SignedCharter):
    """What the owner says of a site now."""

    even_so: bool = Field(default=False, description="Take it although it ends more than the law's limit permits.")


class NamedCharter(SignedCharter):
    """What the owner says of the site called `name`."""

    name: str = Field(max_length=60)


class SitesRequest(Shape):
    """What the owner says of several sites, all of which is taken, or none."""

    charters: list[NamedCharter] = Field(max_length=1_000)
    even_so: bool = Field(default=False, description="Take it although it ends more than the law's limit permits.")


class SitesPlanRequest(Shape):
    """What would be said of sites: charters as they would be signed."""

    documents: list[Annotated[str, Field(max_length=1_000_000)]] = Field(max_length=1_000)


class CharterAnswer(Shape):
    """A site as it is declared now, and whether that is news."""

    outcome: Literal["created", "changed", "unchanged"]
    site: SiteView


class SitesAnswer(Shape):
    """Each of the sites, as it is declared now."""

    sites: list[CharterAnswer]


class DrainRequest(Shape):
    """Whether a site takes work: `undo` gives it back what it may have."""

    undo: bool = False
