"""Signs what is deployed, and the keys of who calls it, with the deployer's key that is at hand: the one named, the
data folder's on a machine where Kasbah was started, or the one that `kasbah deployers key` made for this user.

What is signed is worked out here, from the file and the packed source; the control plane is asked for nothing but the
ids of the installation and of the project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.attesting import (
    DEPLOYER_KEY,
    attest,
    contents_of,
    digest_of,
    read_attestation,
    read_contents,
    revision_of,
)
from kasbah.api.caller_keys import sign_key
from kasbah.api.errands import ERRAND_HEADER, ticket_of, words_of, write_errand
from kasbah.api.manifest import ResolvedService
from kasbah.api.owner import load
from kasbah.api.secret_kinds import Secret, make_secret, sha256_of
from kasbah.api.signing import public_text
from kasbah.cli import context
from kasbah.cli.client import Client, Document
from kasbah.clock import SystemClock
from kasbah.domain.attestation import Attestation, Attested
from kasbah.domain.caller import CallersKey
from kasbah.domain.charter import Signed
from kasbah.domain.errand import Errand
from kasbah.domain.ids import InstallationId, ProjectId
from kasbah.domain.label import Level
from kasbah.domain.revision import Revision
from kasbah.domain.service import Access


def own_path() -> Path:
    """Where this user's own key is, beside what the client remembers of its installation."""
    return context.path().with_name(DEPLOYER_KEY)


def deployer_key(chosen: Path | None) -> Ed25519PrivateKey | None:
    """The key to sign with; None where there is none. Raises Invalid where one cannot be read."""
    if chosen is not None:
        return load(chosen, whose="deployer")
    found = context.find()
    remembered = context.read(context.path())
    beside = [] if remembered is None or found.url != remembered.url else [remembered.token_file.parent / DEPLOYER_KEY]
    path = next((one for one in (*beside, own_path()) if one.exists()), None)
    return None if path is None else load(path, whose="deployer")


def errand(chosen: Path | None, name: str, act: str, door: Document, argv: Sequence[str] = ()) -> dict[str, str]:
    """The header that says that a deployer does this himself, at this door; none, where no key is at hand."""
    key = deployer_key(chosen)
    if key is None or not door.get("project"):
        return {}
    said = Errand(
        installation=InstallationId(door["installation"]),
        project=ProjectId(door["project"]),
        service=name,
        act=act,
        words=words_of(argv),
        ticket=ticket_of(door["ticket"]),
    )
    return {ERRAND_HEADER: write_errand(key, said)}


def key_to_make(client: Client, project: str, body: Document, chosen: Path | None) -> tuple[Document, str]:
    """What is sent to have a key made, and the key: made here, and signed where a deployer's key is at hand."""
    key = make_secret(Secret.KEY)
    signer, made = deployer_key(chosen), {**body, "sha256": sha256_of(key)}
    if signer is None:
        return made, key
    now, lasts = SystemClock().now(), body["expires_in_seconds"]
    said = CallersKey(
        installation=InstallationId(client.get("/installation")["id"]),
        project=ProjectId(client.get(_project_path(project))["id"]),
        sha256=made["sha256"],
        services=tuple(sorted(set(body["services"]))),
        max_level=None if body["max_level"] is None else Level[body["max_level"].upper()],
        expires_at=None if lasts is None else now + timedelta(seconds=lasts),
        signed_at=now,
    )
    return {**made, "attested": _text(sign_key(signer, said))}, key


class Signer:
    """Signs for one project of the installation that `client` speaks to; nothing, where no key is at hand."""

    def __init__(self, client: Client, project: str, chosen: Path | None) -> None:
        self._client = client
        self._project = project
        self._key = deployer_key(chosen)

    @property
    def signs(self) -> bool:
        """Whether there is a key at hand."""
        return self._key is not None

    def deploy(self, name: str, config: ResolvedService, source: str, size: int) -> Document | None:
        """The signature of a service as it is deployed now."""
        if self._key is None:
            return None
        revision = revision_of(config, source, size)
        return self._signed(self._key, Attestation(
            installation=self._ids[0],
            project=self._ids[1],
            service=name,
            contents=digest_of(contents_of(revision)),
            label=config.label,
            domains=config.domains,
            public=config.access is Access.PUBLIC,
            signed_at=SystemClock().now(),
        ))  # fmt: skip

    def change(self, name: str, current: Document, added: dict[str, str], removed: list[str]) -> Document | None:
        """The signature of what serves, with these changes of its environment: only where this very key signed what
        serves, since nobody else is taken at his word for it."""
        before = self._own(name, current)
        if before is None or self._key is None:
            return None
        revision = read_contents(current["contents"])
        env = {**dict(revision.env), **added}
        kept = tuple(sorted((variable, value) for variable, value in env.items() if variable not in removed))
        changed: Revision = replace(revision, env=kept)
        contents = digest_of(contents_of(changed))
        return self._signed(self._key, replace(before, contents=contents, signed_at=SystemClock().now()))

    def _own(self, name: str, current: Document) -> Attestation | None:
        """What this key signed of what serves; None where it did not sign just that."""
        said = current["attested"]
        if self._key is None or said is None or said["key"] != public_text(self._key):
            return None
        signed = Signed(document=said["document"], signature=said["signature"])
        found = read_attestation(Attested(key=said["key"], signed=signed))
        if found is None or found.contents != digest_of(current["contents"]):
            return None
        return found if (found.installation, found.project, found.service) == (*self._ids, name) else None

    @cached_property
    def _ids(self) -> tuple[InstallationId, ProjectId]:
        installation = InstallationId(self._client.get("/installation")["id"])
        return installation, ProjectId(self._client.get(_project_path(self._project))["id"])

    def _signed(self, key: Ed25519PrivateKey, attestation: Attestation) -> Document:
        return _text(attest(key, attestation))


def _project_path(name: str) -> str:
    return f"/projects/{quote(name, safe='')}"


def _text(made: Attested) -> Document:
    return {"key": made.key, **asdict(made.signed)}
