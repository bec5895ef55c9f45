"""What a site proves itself with: its key, its certificate and its authority's, in the data folder.

DATA/agent/identity/site.key   made here, and never elsewhere (0600)
DATA/agent/identity/site.crt   from the authority, once a person has approved the key
DATA/agent/identity/ca.crt     the authority, the one whose fingerprint was in the token

A certificate is renewed when a third of its life is over, so that a site that was cut off for long still has one.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kasbah.agent.files import replace_whole
from kasbah.api.joining import key_fingerprint
from kasbah.errors import Invalid

RENEWED_AT = 1 / 3


@dataclass(frozen=True, slots=True)
class Identity:
    """The files in a folder."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "site.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "site.crt"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def complete(self) -> bool:
        """Whether this site has joined, or was given a certificate otherwise."""
        return self.key.exists() and self.certificate.exists() and self.authority.exists()

    def request(self) -> str:
        """A signing request for the key, which is made here where there is none yet, PEM."""
        key = self._key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a site of Kasbah")])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def fingerprint(self) -> str:
        """By this the key is known."""
        return key_fingerprint(self._key().public_key())

    def take(self, certificate: str, authority: str) -> None:
        """Keep a certificate for our key. Raises Invalid for any other."""
        given = x509.load_pem_x509_certificate(certificate.encode())
        if key_fingerprint(given.public_key()) != self.fingerprint():
            raise Invalid("the certificate is for another key than ours", hint="join anew")
        replace_whole(self.authority, authority)
        replace_whole(self.certificate, certificate)

    def due(self, now: datetime) -> bool:
        """Whether there is no certificate yet, or it is to be renewed."""
        if not self.certificate.exists():
            return True
        held = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        life = held.not_valid_after_utc - held.not_valid_before_utc
        return now >= held.not_valid_before_utc + life * RENEWED_AT

    def client(self) -> ssl.SSLContext:
        """How the control plane is dialled: it must have a certificate from our authority, as we have."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        return context

    def _key(self) -> ec.EllipticCurvePrivateKey:
        if not self.key.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            replace_whole(self.key, pem.decode())
            return made
        key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"{self.key} holds another kind of key", hint="put the right one back, or join anew")
        return key
