"""More targets, for `targets.py`, where they are listed: of the law and what its owner signs."""

from __future__ import annotations

from contextlib import suppress

from registry import any_text, target, temporary

from kasbah.agent.own_keys import read_stated
from kasbah.api.attesting import read_attestation, read_contents
from kasbah.api.caller_keys import read_key
from kasbah.api.errands import read_errand
from kasbah.api.owner import read_document
from kasbah.cli.policy_file import lawbook_of
from kasbah.domain.attestation import Attested
from kasbah.domain.caller import StatedKey
from kasbah.domain.charter import Lawbook, Signed
from kasbah.domain.grant import Approval, Declassification, Deployer
from kasbah.domain.ids import InstallationId, ServiceId
from kasbah.domain.law import Pack
from kasbah.errors import Invalid, KasbahError
from kasbah.packs import law_of


@target(
    b"home: MA\npacks:\n  base:\n  gdpr: {version: 1}\nlimit: 10%\n",
    b"packs: {base: {path: ../..}}\nstale_after: {vital: 1s}\n",
    b"packs: " + b"[" * 500,
)
def policy_file(data: bytes) -> None:
    with temporary() as folder:
        file = folder / "policy.yaml"
        file.write_bytes(data)
        with suppress(KasbahError):
            lawbook_of(file, InstallationId("in-1"), 2, ())


@target(b'{"installation": "in-1", "version": 1, "home": null, "packs": []}', b"[" * 500, b'{"expires_at": 1e999}')
def owner_documents(data: bytes) -> None:
    for shape in (Lawbook, Approval, Declassification, Deployer):
        with suppress(Invalid):
            read_document(any_text(data), shape)


@target(b"forbid (principal, action, resource);", b"(" * 5_000, b'@id("house.a")' * 50, b"/*", "\u2028".encode())
def policies(data: bytes) -> None:
    with suppress(Invalid):
        law_of((Pack(name="house", title="Ours", version=1, policies=any_text(data)),))


@target(
    b'{"command":["serve"],"runtime":"command","source":"sha256:a"}',
    b"ed25519:AAAA\n{}\nAAAA",
    b"[" * 5_000,
    b'{"env":[["A","1"]],"secrets":[{"variable":"DB","secret":"","version":0}]}',
)
def attestations(data: bytes) -> None:
    text = any_text(data)
    with suppress(Invalid):
        read_contents(text)
    key, _, rest = text.partition("\n")
    document, _, signature = rest.partition("\n")
    read_attestation(Attested(key=key, signed=Signed(document=document, signature=signature)))


@target(
    b"ed25519:AAAA\n{}\nAAAA",
    b"AAAA\n" + b'{"installation":"in-1","site":"st-1","service":"sv-1","project":"pr-1","name":"a","sha256":"a",'
    b'"calls":["b"],"up_to":4}\nAAAA',
    b"\n" + b"[" * 5_000,
)
def callers(data: bytes) -> None:
    """Who may call, as a deployer signs it of a key, and a site of its services' own."""
    key, _, rest = any_text(data).partition("\n")
    document, _, signature = rest.partition("\n")
    signed = Signed(document=document, signature=signature)
    read_key(Attested(key=key, signed=signed))
    read_stated(StatedKey(service=ServiceId("sv-1"), key=key, signed=signed))
    read_errand(any_text(data))
