"""The installation's certificate authority: proves to sites and their gateways who each other is.

Its key is on the control plane's disk and outside the database. Who takes it over can give himself a name, but no law,
no fact and no lower label: those are the owner's. A site's certificate names it as SPIFFE does, in no host name, so
that a site never passes for the control plane.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kasbah.api.joining import CONTROL_NAME, certificate_fingerprint, key_fingerprint
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.errors import Invalid

LONG = timedelta(days=3650)
SITE_LIFETIME = timedelta(days=90)
"""A site that is cut off for less than this comes back by itself; it renews at a third."""

EARLIER = timedelta(days=1)
"""Clocks differ: a certificate is good before it was made. A site whose clock is behind by less joins, is dialled and
renews as any other; nobody has a certificate of ours from before he was approved."""

USAGES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The authority of one installation."""

    installation: InstallationId
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """What tokens to join say of it."""
        return certificate_fingerprint(self.certificate)

    def for_site(self, csr: x509.CertificateSigningRequest, site: SiteId, now: datetime) -> str:
        """A site's certificate, PEM: for the key in the request, and for no other name than the site's."""
        names = [x509.UniformResourceIdentifier(f"spiffe://{self.installation}/site/{site}")]
        return self._issue(csr.public_key(), site, names, now, SITE_LIFETIME)

    def for_control(self, key: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> str:
        """The control plane's own certificate, PEM."""
        names: list[x509.GeneralName] = [x509.DNSName(CONTROL_NAME)]
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        return self._issue(key.public_key(), CONTROL_NAME, names, now, LONG)

    def _issue(
        self,
        key: object,
        subject: str,
        names: list[x509.GeneralName] | list[x509.UniformResourceIdentifier],
        now: datetime,
        lifetime: timedelta,
    ) -> str:
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)  # type: ignore[arg-type] # what `csr_of` lets pass
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(USAGES), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()


def csr_of(text: str) -> tuple[x509.CertificateSigningRequest, str]:
    """The signing request, and the fingerprint of its key. Raises Invalid: the key is on the curve P-256, and whoever
    asks has shown that he holds it. What else the request says is not looked at: it names nobody."""
    try:
        csr = x509.load_pem_x509_csr(text.encode())
        if not isinstance(csr.public_key(), ec.EllipticCurvePublicKey) or not csr.is_signature_valid:
            raise ValueError("the key is of another kind, or the signature is not its own")
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Invalid(f"this is no signing request for a key of ours: {error}", where="csr") from error
    return csr, key_fingerprint(csr.public_key())


def load_or_make_authority(folder: Path, installation: InstallationId, now: datetime) -> Authority:
    """The authority in `folder` (ca.key, ca.crt), made there where there is none."""
    key = load_or_make_ec_key(folder / "ca.key")
    path = folder / "ca.crt"
    if path.exists():
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        if key_fingerprint(certificate.public_key()) == key_fingerprint(key.public_key()):
            return Authority(installation=installation, key=key, certificate=certificate)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Kasbah {installation}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + LONG)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(installation=installation, key=key, certificate=certificate)


def load_or_make_ec_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in `path` (PEM, 0600), made there where there is none."""
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"{path} holds another kind of key", hint="put the right one back")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key
