"""How a site joins: the token it is given, and what it asks and is told.

    POST /agent/v1/join          JoinRequest, with the token's secret    202 JoinPending: the code that both sides show
    GET  /agent/v1/join/ID       with the token's secret                 200 JoinAnswer once approved; 204 until then
    POST /agent/v1/certificate   CertificateRequest, by a known site     200 CertificateAnswer
    GET  /agent/v1/authority     nobody in particular                    200 the authority's certificate, PEM

The token says which authority and which owner the site will trust, by fingerprint: whoever answers in the control
plane's place cannot make a site trust another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from pydantic import Field

from kasbah.api.shape import Shape
from kasbah.errors import Invalid

PREFIX = "ksj_"
CONTROL_NAME = "kasbah-control"
"""The name in the control plane's certificate, and in no site's: whatever address it is dialled at, this is checked."""

CODE_LETTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What a site is given to join by: a secret that is good once, who it will be, and whom it will trust."""

    secret: str
    site: str
    authority: str
    owner: str

    def text(self) -> str:
        """As it is handed over."""
        fields = {"secret": self.secret, "site": self.site, "authority": self.authority, "owner": self.owner}
        return PREFIX + base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode()


def read_token(text: str) -> JoinToken:
    """The token that somebody handed over. Raises Invalid."""
    try:
        if not text.startswith(PREFIX):
            raise ValueError
        fields = json.loads(base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True))
        return JoinToken(**{name: str(fields[name]) for name in ("secret", "site", "authority", "owner")})
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise Invalid(
            "this is no token to join with", hint="make one with `kasbah sites token NAME`, and copy all of it"
        ) from error


def key_fingerprint(key: PublicKeyTypes) -> str:
    """The SHA-256 of a public key, in hex: by this a site is known."""
    raw = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(raw).hexdigest()


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of a certificate, in hex."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def code_of(fingerprint: str) -> str:
    """What people compare: the first letters of a key's fingerprint, `XXXX-XXXX`."""
    letters = base64.b32encode(bytes.fromhex(fingerprint)).decode()[:CODE_LETTERS]
    return f"{letters[:4]}-{letters[4:]}"


class JoinTokenMade(Shape):
    """A token for a site to join by. It is shown once."""

    site: str
    token: str
    expires_at: datetime


class JoinRequest(Shape):
    """A site asks for its certificate: a signing request for the key that it made, PEM."""

    csr: str = Field(max_length=20_000)


class JoinPending(Shape):
    """A person has to approve the code."""

    id: str
    code: str


class ApproveRequest(Shape):
    """A person has seen this code at the site. `document` and `signature`: the site's charter with the key in it."""

    code: str = Field(max_length=20)
    document: str = Field(max_length=1_000_000)
    signature: str = Field(max_length=200)


class WaitingView(Shape):
    """A site's agent that waits to be approved."""

    site: str
    code: str
    key: str = Field(description="The fingerprint of its key.")
    since: datetime


class CertificateRequest(Shape):
    """A known site asks for a new certificate for its key."""

    csr: str = Field(max_length=20_000)


class CertificateAnswer(Shape):
    """The certificate, and that of the authority, PEM."""

    certificate: str
    authority: str


class JoinAnswer(CertificateAnswer):
    """Who the site is now, and whom it trusts."""

    installation: str
    site: str
    site_name: str
    public_key: str
    owner_key: str
