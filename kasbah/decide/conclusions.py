"""What follows from the facts about a place? Conclusions are drawn here and declared by nobody.

Who says that a site is "sovereign" says nothing that a rule could hold: who can compel its operator is a fact, and that
this is nobody abroad follows from it. What follows from a fact that is not known is not known either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kasbah.domain.law import Geography, Place

Attribute = bool | str | list[str]
GDPR = "gdpr"


def attributes(place: Place, geography: Geography) -> dict[str, Attribute]:
    """The place as policies see it: what is known of it, and what follows. What is not known is left out."""
    declared: Mapping[str, Attribute | frozenset[str] | None] = {
        "kind": place.kind.value,
        "active": place.active,
        "country": place.country,
        "domestic": place.domestic,
        "operatorHome": place.operator_home,
        "exposure": place.exposure,
        "administeredFrom": place.administered_from,
        "certificates": place.certificates,
        "customerKeys": place.customer_keys,
        "confidential": place.confidential,
        "durableLogs": place.durable_logs,
        "inEea": None if place.country is None else place.country in geography.eea,
        "adequateUnder": frozenset(_adequate(place, geography)),
        "exposureAtHome": _exposed_within(place, _legal_area(place, geography)),
        "exposureInEea": _exposed_within(place, geography.eea),
    }
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in declared.items()
        if value is not None
    }


def _adequate(place: Place, geography: Geography) -> set[str]:
    """The regimes under which its country counts as adequate. Under the GDPR its own area does too."""
    found = {regime for regime, countries in geography.adequate.items() if place.country in countries}
    return found | ({GDPR} if place.country in geography.eea else set())


def _legal_area(place: Place, geography: Geography) -> frozenset[str]:
    """The jurisdictions that are no others' than its country's: those of the EEA stand for each other."""
    if place.country is None:
        return frozenset()
    return geography.eea if place.country in geography.eea else frozenset({place.country})


def _exposed_within(place: Place, area: frozenset[str]) -> bool | None:
    """Whether all who can compel the operator are in this area. That nobody can is no fact but a missing one."""
    return place.exposure <= area if place.exposure and area else None


def at_home(place: Place, home: str | None) -> Place:
    """The place, seen from the installation's own country; as it was seen where the law names none."""
    if home is None:
        return place
    domestic = None if place.country is None else place.country == home
    return place if place.domestic is domestic else replace(place, domestic=domestic)
