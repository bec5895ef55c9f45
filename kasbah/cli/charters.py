"""Charters of sites, as `kasbah sites apply` and `approve` write and sign them: what a file says, as the next version
of what was said before. Apart from the other commands of `kasbah sites`, which need none of what this imports.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter

from kasbah.api.owner import CHARTER, sign_document, write_document
from kasbah.api.sites_file import SiteSection, SitesFile
from kasbah.cli.client import Client, Document, site_path
from kasbah.clock import SystemClock
from kasbah.decide.charters import faults
from kasbah.decide.opening import CERTIFICATES
from kasbah.domain.charter import Charter
from kasbah.domain.ids import InstallationId, SiteId, make_id
from kasbah.errors import Invalid, NotFound
from kasbah.packs import parse

CHARTERS = TypeAdapter(Charter)


def read(file: Path) -> Mapping[str, SiteSection]:
    """What a file says of sites, by name. Raises Invalid, naming the line of all that is wrong."""
    return parse(file, SitesFile).sites


def of_file(client: Client, file: Path, wanted: Mapping[str, SiteSection]) -> Sequence[Charter]:
    """The charters that make of the sites what the file says. Raises Invalid where one of them cannot be."""
    installation = InstallationId(client.get("/installation")["id"])
    charters = [_charter(client, installation, name, section) for name, section in wanted.items()]
    _check(file, charters)  # all of them, before the first is sent
    return charters


def plan(client: Client, charters: Sequence[Charter]) -> Document:
    """What they would do."""
    return client.post("/sites/plan", {"documents": [write_document(one) for one in charters]})


def naming(client: Client, name: str, key: str) -> Charter:
    """What is said of a site now, and that its agent has this key. Raises NotFound where nothing is said of it."""
    known = _charter_of(client, name)
    return replace(known, version=known.version + 1, gateway_key=key)


def signed(owner: Ed25519PrivateKey, charter: Charter) -> Document:
    """A charter as it is sent, with the owner's signature."""
    made = sign_document(owner, CHARTER, charter)
    return {"document": made.document, "signature": made.signature}


def _charter(client: Client, installation: InstallationId, name: str, section: SiteSection) -> Charter:
    """What the file says of a site, as the next version of what was said of it; the same where that is no news."""
    today = SystemClock().now().date()
    known = _known(client, name)
    if known is None:
        site = SiteId(make_id("site", secrets.token_bytes(10)))
        facts = section.facts(today)
        return Charter(
            installation=installation,
            site=site,
            name=name,
            version=1,
            kind=section.kind,
            facts=facts,
            hosts=section.hosts,
        )
    facts = section.facts(today, known.facts)
    news = (section.kind, facts, section.hosts) != (known.kind, known.facts, known.hosts)
    return Charter(
        installation=installation,
        site=known.site,
        name=name,
        version=known.version + news,
        kind=section.kind,
        facts=facts,
        gateway_key=known.gateway_key,
        hosts=section.hosts,
    )


def _check(file: Path, charters: Sequence[Charter]) -> None:
    """Refuse what cannot be, all of it at once."""
    today = SystemClock().now().date()
    wrong = [f"{one.name}: {fault.why}" for one in charters for fault in faults(one, today, CERTIFICATES)]
    if wrong:
        raise Invalid("; ".join(wrong), where=str(file), hint="mend the file and try again", code="contradictory_facts")


def _known(client: Client, name: str) -> Charter | None:
    try:
        return _charter_of(client, name)
    except NotFound:
        return None


def _charter_of(client: Client, name: str) -> Charter:
    return CHARTERS.validate_json(client.get(site_path(name, "charter"))["document"])
