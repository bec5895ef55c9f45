"""A deployer's signature: what of a revision is signed, how it is written, and how it is read again.

The same text is made where a file is deployed, where the revision is kept and at each site, so that nobody signs, or
takes, what somebody else says of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from kasbah.api.manifest import HealthSection, ResolvedService
from kasbah.api.owner import read_signed, sign_as
from kasbah.domain.attestation import Attestation, Attested
from kasbah.domain.ids import Digest, RevisionId, SecretId
from kasbah.domain.revision import Deadlines, Health, Resources, Revision, Runtime
from kasbah.domain.secret import SecretUse
from kasbah.errors import Invalid

ATTESTATION = b"kasbah attestation v1\n"
DEPLOYER_KEY = "deployer.key"
"""The file's name in the data folder, or beside the client's context."""
OWN_KEY = "KASBAH_KEY"
"""The variable that brings a service's own key: it follows from what the service calls."""

REVISION = TypeAdapter(Revision)
NOT_YET = RevisionId("")
FOLLOWS = {"id", "source_size"}
"""What follows from the rest."""


def revision_of(config: ResolvedService, source: str, source_size: int) -> Revision:
    """The revision that a configuration and a source make, before it is known which secrets its variables bring."""
    secrets = (
        SecretUse(variable=one, secret=SecretId(""), version=0, delivery=config.secret(one).deliver)
        for one in sorted(config.secrets)
    )
    return Revision(
        id=NOT_YET,
        source=Digest(source),
        source_size=source_size,
        runtime=Runtime(config.runtime),
        command=config.command,
        env=tuple(sorted(config.env.items())),
        secrets=tuple(secrets),
        port=config.port,
        protocol=config.protocol,
        health=_health(config.health),
        resources=Resources(cpu=config.resources.cpu, memory=config.resources.memory),
        deadlines=Deadlines(**{name: getattr(config.deadlines, name) for name in Deadlines.__dataclass_fields__}),
        calls=tuple(sorted(set(config.calls))),
        egress=config.egress,
        volumes=tuple(one.to_domain() for one in sorted(config.volumes, key=lambda one: one.name)),
    )


def contents_of(revision: Revision) -> str:
    """What its deployer decided, as the text that its digest is of. What has its default is left out: a field that a
    later version adds changes nothing."""
    secrets = tuple(replace(one, secret=SecretId(""), version=0) for one in revision.secrets if one.variable != OWN_KEY)
    parts = REVISION.dump_python(
        replace(revision, secrets=secrets), mode="json", exclude=FOLLOWS, exclude_defaults=True
    )
    return dumps(parts)


def dumps(parts: object) -> str:
    """JSON as it is signed."""
    return json.dumps(parts, sort_keys=True, separators=(",", ":"))


def read_contents(text: str) -> Revision:
    """The revision that such a text is of, without what it leaves out. Raises Invalid."""
    try:
        found = REVISION.validate_python({**json.loads(text), "id": "", "source_size": 0}, strict=False)
    except (ValueError, TypeError, RecursionError, ValidationError) as error:
        raise Invalid(
            "these are no contents of a revision", hint="bring client and control plane up to date"
        ) from error
    if contents_of(found) != text:
        raise Invalid("these contents hold more than is known here", hint="bring the client up to date")
    return found


def digest_of(contents: str) -> Digest:
    """The digest of such a text."""
    return Digest("sha256:" + hashlib.sha256(contents.encode()).hexdigest())


def attest(key: Ed25519PrivateKey, attestation: Attestation) -> Attested:
    """The attestation, signed with a deployer's key."""
    return sign_as(key, ATTESTATION, attestation)


def read_attestation(attested: Attested) -> Attestation | None:
    """What was signed with the key that it names; None where it was not. Whose key that is, is not asked here."""
    found = read_signed(attested, ATTESTATION, Attestation)
    return None if found is None or found.signed_at.tzinfo is None else found


def _health(section: HealthSection) -> Health:
    ready, live = section.readiness, section.liveness
    return Health(
        startup=section.startup.to_domain(),
        readiness=ready.to_domain() if ready else None,
        liveness=live.to_domain() if live else None,
    )
