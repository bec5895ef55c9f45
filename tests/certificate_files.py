"""Certificates for tests: an authority of the test's own, and pairs of files as people put them into a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""What tests that read no clock take for the present."""
DAY = timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(slots=True)
class Authority:
    """Issues certificates, which `certificate` vouches for. They are good for 90 days, ten of which are over."""

    now: datetime = NOW
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    @property
    def certificate(self) -> bytes:
        """The authority's own, PEM."""
        name = _named("authority of a test")
        builder = self._builder(name, self.key, self.now - 30 * DAY, self.now + 900 * DAY)
        return self._signed(builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True))

    def issue(
        self,
        *names: str,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> tuple[bytes, bytes]:
        """A certificate for these hosts, and its key."""
        own = key or new_key()
        begins, ends = not_before or self.now - 10 * DAY, not_after or self.now + 80 * DAY
        builder = self._builder(_named("a service"), own, begins, ends)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return self._signed(builder), pem_of(own)

    def issue_site(self, identity: str) -> tuple[bytes, bytes]:
        """A certificate for a site's gateway, which is a server's and a client's, and its key."""
        own = new_key()
        builder = self._builder(_named("a site"), own, self.now - DAY, self.now + 80 * DAY)
        named = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(named, critical=True).add_extension(uses, critical=False)
        return self._signed(builder), pem_of(own)

    def put(self, folder: Path, file: str, *names: str, **how: datetime) -> None:
        """Issue a certificate into the folder."""
        write_pair(folder, file, *self.issue(*names, **how))  # type: ignore[arg-type]

    def _builder(
        self, subject: x509.Name, key: CertificateIssuerPrivateKeyTypes, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_named("authority of a test"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def write_pair(folder: Path, file: str, certificate: bytes, key: bytes) -> None:
    """As careful people renew: whole files, moved into place."""
    for ending, contents in ((".crt", certificate), (".key", key)):
        fresh = folder / f"{file}{ending}.new"
        fresh.write_bytes(contents)
        fresh.chmod(0o600)
        fresh.replace(folder / f"{file}{ending}")
