"""The keys that services here call others with: made at this site, so that the control plane does not know them.

A key belongs to a service and to what runs as it: another revision has another key. What a revision may open with its
key is what its deployer signed that it calls, and for data of no higher level than he is named for. The site states
that with the key with which its gateway proves itself, by which other sites know it (its charter names it); the control
plane carries it there, and can state nothing in a site's place.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from dataclasses import replace

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kasbah.agent.identity import Identity as SiteFiles
from kasbah.agent.keyring import KEY
from kasbah.agent.paths import Paths
from kasbah.api.agent import Identity
from kasbah.api.attesting import OWN_KEY, contents_of, digest_of
from kasbah.api.joining import key_fingerprint
from kasbah.api.owner import read_document, write_document
from kasbah.api.sealing import load_or_make_vault
from kasbah.api.secret_kinds import Secret, secret_from, sha256_of
from kasbah.decide.callers import Stated, own_level
from kasbah.decide.signed import Signatures
from kasbah.domain.caller import OwnKey, StatedKey
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, RevisionId, SiteId
from kasbah.domain.revision import Revision
from kasbah.domain.secret import SecretUse
from kasbah.domain.service import OWN_KEY_VERSION, Service
from kasbah.errors import Invalid

CONTEXT = b"kasbah own key v1\n"
ALGORITHM = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
"""The same statement has the same signature, so that saying it again is no news."""
MOST_READ = 20_000


class OwnKeys:
    """See the module. `stated` is what others are told; the keys are made from what seals this site's secrets."""

    def __init__(self, paths: Paths) -> None:
        self._vault = load_or_make_vault(paths.secrets / KEY)
        self._files = SiteFiles(paths.identity)
        self._values: dict[tuple[RevisionId, Digest], str | None] = {}
        self._read: dict[StatedKey, tuple[str, OwnKey] | None] = {}
        self._signed: dict[OwnKey, StatedKey] = {}
        self.stated: tuple[StatedKey, ...] = ()

    def look(self, identity: Identity, told: DesiredState, known: Signatures) -> tuple[Stated, ...]:
        """What holds of the services here that call others; the keys of what else ran here are not known any more."""
        found: list[OwnKey] = []
        values: dict[tuple[RevisionId, Digest], str | None] = {}
        for service in told.services:
            for revision in service.revisions:
                if not revision.calls or not any(map(makes_its_own, revision.secrets)):
                    continue
                key, starts = self._key(service, known.contents(revision)), _as_started(revision)
                values[starts] = key if values.get(starts, key) == key else None
                found.append(OwnKey(
                    installation=identity.installation, site=told.site, service=service.id, project=service.project,
                    name=service.name, sha256=sha256_of(key), calls=revision.calls,
                    up_to=own_level(service, revision, known),
                ))  # fmt: skip
        self._values = values
        self._signed = {one: self._signed.get(one) or self._sign(one) for one in found}
        self.stated = tuple(self._signed.values())
        return tuple(Stated(said=one, proven=True) for one in found)

    def hear(self, identity: Identity, told: DesiredState, charters: Mapping[SiteId, Charter]) -> tuple[Stated, ...]:
        """What other sites state, as this one was told of it; proven is what a site said whose key its charter
        names."""
        found = []
        for one in told.own_keys:
            read = self._verified(one)
            if read is None:
                continue
            fingerprint, said = read
            charter = charters.get(said.site)
            known = charter is not None and fingerprint == charter.gateway_key != ""
            if said.installation == identity.installation and said.site != told.site:
                found.append(Stated(said=said, proven=known))
        return tuple(found)

    def value(self, use: SecretUse, revision: Revision) -> str | None:
        """The key that a revision is started with; None where it is none of ours, or where it could be one of two that
        are told with one id."""
        return self._values.get(_as_started(revision)) if makes_its_own(use) else None

    def _key(self, service: Service, contents: Digest) -> str:
        context = f"own key of {service.id} {service.project} {service.name} {contents}"
        made = self._vault.derive(context)
        return secret_from(Secret.KEY, made)

    def _sign(self, said: OwnKey) -> StatedKey:
        """The statement; without a signature where this site has no key yet, and no others to tell."""
        document = write_document(said)
        plain = StatedKey(service=said.service, key="", signed=Signed(document=document, signature=""))
        if not self._files.key.exists():
            return plain
        key = serialization.load_pem_private_key(self._files.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "it is made here"
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        signature = base64.b64encode(key.sign(CONTEXT + document.encode(), ALGORITHM)).decode()
        return StatedKey(
            service=said.service,
            key=base64.b64encode(public).decode(),
            signed=Signed(document=document, signature=signature),
        )

    def _verified(self, stated: StatedKey) -> tuple[str, OwnKey] | None:
        if stated not in self._read:
            if len(self._read) >= MOST_READ:
                self._read.clear()
            self._read[stated] = read_stated(stated)
        return self._read[stated]


def makes_its_own(use: SecretUse) -> bool:
    """Whether this is a key that the site makes, and not one that the control plane made before."""
    return use.variable == OWN_KEY and use.version >= OWN_KEY_VERSION


@functools.lru_cache(maxsize=10_000)
def _as_started(revision: Revision) -> tuple[RevisionId, Digest]:
    """As what a revision is known that is about to start: its id, and all of it but what a site limits, so that what
    was told with the same id a moment before or after is given nothing of it."""
    return revision.id, digest_of(contents_of(replace(revision, egress=None, calls=())))


def read_stated(stated: StatedKey) -> tuple[str, OwnKey] | None:
    """The fingerprint of the key that signed it, "" where none did, and what it says; None where it is not sound."""
    try:
        said = read_document(stated.signed.document, OwnKey)
        if not stated.key:
            return "", said
        key = serialization.load_der_public_key(base64.b64decode(stated.key, validate=True))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return None
        signature = base64.b64decode(stated.signed.signature, validate=True)
        key.verify(signature, CONTEXT + stated.signed.document.encode(), ALGORITHM)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, Invalid):
        return None
    return key_fingerprint(key), said
