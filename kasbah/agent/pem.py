"""What does a certificate say of itself? Reads PEM, and refuses what the gateway could not use.

What a key holds is in no error.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from kasbah.domain.certificate import Certificate

LEAST_RSA_BITS = 2_048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""What Envoy can sign with."""
NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class CertificateError(Exception):
    """Why a certificate cannot be used, and the next step."""


def read_pair(file: str, chain: bytes, key: bytes) -> Certificate:
    """The certificate in `chain`, whose key should be `key`. Raises CertificateError."""
    leaf = _leaf(file, chain)
    public = _public_half(file, key)
    return Certificate(
        file=file,
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        fits_key=public == leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def _leaf(file: str, chain: bytes) -> x509.Certificate:
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        leaf.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise CertificateError(f"{file}.crt holds no PEM certificate: write it again, whole") from None
    return leaf


def _public_half(file: str, key: bytes) -> bytes:
    try:
        found = load_pem_private_key(key, password=None)
    except TypeError:
        raise CertificateError(f"{file}.key is encrypted: put it there without a passphrase, mode 0600") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{file}.key holds no PEM key: write it again, whole") from None
    strong = (isinstance(found, rsa.RSAPrivateKey) and found.key_size >= LEAST_RSA_BITS) or (
        isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name in CURVES
    )
    if not strong:
        raise CertificateError(
            f"{file}.key is of a kind the gateway cannot use: take RSA of {LEAST_RSA_BITS} bits or more, or P-256"
        )
    return found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The hosts it vouches for. A wildcard that is no whole label is none."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return ()
    told = (name.lower().rstrip(".") for name in extension.value.get_values_for_type(x509.DNSName))
    return tuple(dict.fromkeys(name for name in told if len(name) <= 253 and NAME.fullmatch(name)))
