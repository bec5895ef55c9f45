"""What must each site be? Renders its desired state from the store; a new generation only where it says something new.

The document is signed over its exact bytes and stored in the transaction that changed what it says, so a site never
sees half a change, and two changes never share a generation.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.sealing import Vault
from kasbah.api.signing import DESIRED, sign
from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import DesiredDocument, Installation, RevisionRecord, ServiceRecord, SiteRecord
from kasbah.control.usecases.service_keys import callers_keys
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, ProjectId, ServiceId
from kasbah.domain.service import Key, Service

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_LABEL = 63


def publish(tx: Transaction, key: Ed25519PrivateKey, vault: Vault, base_domain: str, now: datetime) -> set[str]:
    """Give every site whose desired state changed its next generation; the topics to announce."""
    installation = tx.installations.get()
    assert installation is not None, "the installation is made before anything is written"
    touched = set()
    for site in tx.sites.all():
        blank = _render(tx, installation, site, vault, base_domain)
        contents = Digest("sha256:" + hashlib.sha256(DESIRED_STATE.dump_json(blank)).hexdigest())
        last = tx.sites.desired(site.id)
        if last is not None and (last.epoch, last.contents) == (installation.epoch, contents):
            continue
        generation = last.generation + 1 if last is not None and last.epoch == installation.epoch else 1
        body = DESIRED_STATE.dump_json(replace(blank, generation=generation, issued_at=now))
        tx.sites.save_desired(
            DesiredDocument(
                site=site.id,
                epoch=installation.epoch,
                generation=generation,
                contents=contents,
                body=body,
                signature=sign(key, DESIRED, body),
            )
        )
        touched.add(f"desired/{site.id}")
    return touched


def _render(
    tx: Transaction, installation: Installation, site: SiteRecord, vault: Vault, base_domain: str
) -> DesiredState:
    """The site's desired state without its place in history."""
    projects = {project.id: project.name for project in tx.installations.projects()}
    revisions: dict[ServiceId, list[RevisionRecord]] = defaultdict(list)
    for revision in tx.revisions.all():
        revisions[revision.service].append(revision)
    services = tx.services.all()
    here = [one for one in services if one.placement is not None and site.id in one.placement.chosen]
    return DesiredState(
        installation=installation.id,
        epoch=installation.epoch,
        generation=0,
        site=site.id,
        issued_at=NEVER,
        base_domain=base_domain,
        services=tuple(_service(one, revisions[one.id], projects, base_domain) for one in here),
        keys=(
            *(Key(id=one.id, project=one.project, sha256=one.sha256, services=one.services) for one in tx.keys.all()),
            *callers_keys(vault, services, {one: tuple(found) for one, found in revisions.items()}),
        ),
    )


def _service(
    record: ServiceRecord, revisions: Sequence[RevisionRecord], projects: Mapping[ProjectId, str], base_domain: str
) -> Service:
    """A service as a site is asked to run it: with the revision under trial, those that serve, and those that did."""
    wanted = record.in_use
    return Service(
        id=record.id,
        project=record.project,
        name=record.name,
        hosts=(
            host(record.name, projects[record.project], base_domain),
            *(domain for domain in record.domains if not is_below(domain, base_domain)),
        ),
        access=record.access,
        label=record.label,
        scaling=record.scaling,
        sleep=record.sleep,
        revisions=tuple(one.contents for one in revisions if one.proven or one.id in wanted),
        shares=record.shares,
        trial=record.trial,
        order=record.order,
    )


def host(name: str, project: str, base_domain: str) -> str:
    """Where a service answers: `NAME.BASE` in the project `default`, `NAME--PROJECT.BASE` in others."""
    return f"{name}.{base_domain}" if project == "default" else f"{name}--{project}.{base_domain}"


def host_error(name: str, project: str) -> str | None:
    """Why a service cannot answer at its host, or None where it can: resolvers refuse a longer label."""
    label = host(name, project, "").removesuffix(".")
    if len(label) <= LONGEST_LABEL:
        return None
    return f"{label!r}, where it would answer, has {len(label)} characters: a host's label may have {LONGEST_LABEL}"


def is_below(domain: str, base_domain: str) -> bool:
    """Whether a domain is one of those that services have by their names: nobody may have it as a domain of his own.
    The installation may get another base domain later, so it is asked each time."""
    return domain.endswith(f".{base_domain}")
