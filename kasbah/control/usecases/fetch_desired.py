"""Gives a site its desired state, if it is newer than the one it has."""

from __future__ import annotations

from kasbah.api.agent import Identity
from kasbah.api.signing import public_text
from kasbah.control.store.records import DesiredDocument, SiteRecord
from kasbah.control.usecases.work import Work


def fetch_desired(work: Work, site: SiteRecord, known: tuple[int, int]) -> DesiredDocument | None:
    """The site's newest desired state, or None where `known` (epoch, generation) is not older."""
    document = work.tx.sites.desired(site.id)
    return document if document is not None and document.version > known else None


def identify(work: Work, site: SiteRecord) -> Identity:
    """Who the site is here, and the key it pins."""
    installation = work.tx.installations.get()
    assert installation is not None, "the installation is made before anything is served"
    return Identity(
        installation=installation.id,
        site=site.id,
        site_name=site.name,
        public_key=public_text(work.key),
        owner_key=installation.owner_key or "",
    )


def desired_topic(site: SiteRecord) -> str:
    """What is announced when the site's desired state changed."""
    return f"desired/{site.id}"
