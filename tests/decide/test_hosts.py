"""A host keeps the label of what came to it: nobody gets its callers for less without a deployer's signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kasbah.decide.hosts import Host, at_hosts, seen
from kasbah.decide.signed import Signature, Signatures
from kasbah.domain.attestation import Attestation
from kasbah.domain.desired import DesiredState
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.service import Service

NOW = datetime(2026, 11, 27, tzinfo=UTC)
INSTALLATION, PROJECT = InstallationId("in-1"), ProjectId("pr-1")
PUBLIC, RESTRICTED = Label(level=Level.PUBLIC), Label(level=Level.RESTRICTED)
ANNE = Deployer(
    installation=INSTALLATION,
    name="anne",
    key="ed25519:anne",
    evidence="x",
    issued_at=NOW,
    expires_at=NOW + timedelta(days=1),
)


def service(label: Label, name: str = "web", host: str = "web.x", id: str = "sv-1") -> Service:
    return Service(id=ServiceId(id), project=PROJECT, name=name, hosts=(host,), label=label)


def told(*services: Service) -> DesiredState:
    return DesiredState(
        installation=INSTALLATION,
        epoch=1,
        generation=1,
        site=SiteId("st-1"),
        issued_at=NOW,
        base_domain="x",
        services=services,
    )


def signed(
    label: Label | None = None, name: str = "web", domains: tuple[str, ...] = (), at: datetime = NOW
) -> Signatures:
    said = Attestation(
        installation=INSTALLATION,
        project=PROJECT,
        service=name,
        contents=Digest("sha256:x"),
        label=label or UNLABELLED,
        domains=domains,
        signed_at=at,
    )
    return Signatures(
        installation=INSTALLATION,
        contents=lambda one: one.source,
        signed=lambda *_: None,
        all_signed=lambda _: () if label is None else (Signature(key=ANNE.key, attestation=said),),
        deployers=(ANNE,),
    )


HELD = seen(told(service(RESTRICTED)), {}, signed())


def of_hosts(remembered: Mapping[str, Host]) -> dict[str, Host]:
    """What is remembered of hosts alone: services and sources have a slash."""
    return {host: one for host, one in remembered.items() if not host.startswith("/")}


def test_another_service_at_the_host_has_no_lower_label() -> None:
    other = service(PUBLIC, id="sv-2")
    assert at_hosts(other, PUBLIC, HELD, signed()).level is Level.RESTRICTED
    assert of_hosts(seen(told(other), HELD, signed())) == of_hosts(HELD)


def test_its_deployer_may_sign_a_lower_one() -> None:
    again = service(PUBLIC, id="sv-2")
    assert at_hosts(again, PUBLIC, HELD, signed(PUBLIC)) == PUBLIC
    assert of_hosts(seen(told(again), HELD, signed(PUBLIC))) == {
        "web.x": Host(project=PROJECT, service="web", label=PUBLIC, signed_at=NOW)
    }
    assert at_hosts(again, PUBLIC, HELD, signed(RESTRICTED)) != PUBLIC, "he signed another"


def test_the_signature_of_another_service_says_nothing_of_this_host() -> None:
    other = service(PUBLIC, name="shop", id="sv-2")
    assert at_hosts(other, PUBLIC, HELD, signed(PUBLIC, name="shop")).level is Level.RESTRICTED
    own = signed(PUBLIC, name="shop", domains=("web.x",))
    assert at_hosts(other, PUBLIC, HELD, own) == PUBLIC, "but where the host is a domain of its own"


def test_whose_a_host_is_changes_by_no_word_of_the_control_plane() -> None:
    """Told first as sensitive, and refused, another service is not at home there when it is told as public."""
    posing = seen(told(service(UNLABELLED, name="shop", id="sv-2")), HELD, signed())
    assert (posing["web.x"].service, posing["web.x"].label.level) == ("web", Level.SENSITIVE)
    shop = service(PUBLIC, name="shop", id="sv-2")
    assert at_hosts(shop, PUBLIC, posing, signed(PUBLIC, name="shop")).level is Level.SENSITIVE


def test_an_older_signature_lowers_nothing() -> None:
    """It was public once: what its deployer signed then is not worth anything now."""
    later = signed(RESTRICTED, at=NOW + timedelta(hours=1))
    held = seen(told(service(RESTRICTED)), {}, later)
    assert at_hosts(service(PUBLIC, id="sv-2"), PUBLIC, held, signed(PUBLIC)).level is Level.RESTRICTED
    newer = signed(PUBLIC, at=NOW + timedelta(hours=2))
    assert at_hosts(service(PUBLIC), PUBLIC, held, newer) == PUBLIC


def test_the_first_label_of_what_nobody_labelled_is_signed() -> None:
    held = seen(told(service(UNLABELLED)), {}, signed())
    assert at_hosts(service(PUBLIC), PUBLIC, held, signed()).level is Level.SENSITIVE
    assert at_hosts(service(PUBLIC), PUBLIC, held, signed(PUBLIC)) == PUBLIC


def test_who_may_sign_less_only_may_not_lower_it() -> None:
    held = seen(told(service(replace(RESTRICTED, level=Level.VITAL))), {}, signed())
    small = replace(signed(PUBLIC), deployers=(replace(ANNE, max_level=Level.SENSITIVE),))
    assert at_hosts(service(PUBLIC), PUBLIC, held, small).level is Level.VITAL


def test_a_label_only_rises_by_itself() -> None:
    higher = seen(told(service(UNLABELLED)), HELD, signed())
    assert higher["web.x"].label.level is Level.SENSITIVE
    assert at_hosts(service(UNLABELLED, host="new.x"), UNLABELLED, HELD, signed()) == UNLABELLED
