"""Sites as tests declare them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from kasbah.control.store.records import SiteRecord
from kasbah.domain.charter import Charter, Fact, Facts
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.site import SiteKind


def standing_in(site: SiteRecord, country: str | None) -> SiteRecord:
    """The site as if its owner had said that it stands there; nobody, where it is None."""
    said = None if country is None else Fact(value=country, source="a test", since=date(1970, 1, 1))
    return replace(site, charter=replace(site.charter, facts=replace(site.charter.facts, country=said)))


def charter_of(installation: InstallationId, site: SiteId, name: str, country: str | None) -> Charter:
    """What an owner would say of own premises in this country; of none in particular, where it is None."""
    said = None if country is None else Fact(value=country, source="a test", since=date(1970, 1, 1))
    return Charter(
        installation=installation,
        site=site,
        name=name,
        version=1,
        kind=SiteKind.ON_PREM,
        facts=Facts(country=said),
    )
