"""Secrets of ours: how they are made and what is kept of them. 256 bits each; only their SHA-256 is stored."""

from __future__ import annotations

import base64
import hashlib
import secrets
from enum import StrEnum


class Secret(StrEnum):
    """What a secret opens, told by its first letters: services (`ksb_`), the API (`kst_`), a site's part (`kss_`)."""

    KEY = "ksb_"
    TOKEN = "kst_"
    SITE = "kss_"


def make_secret(kind: Secret) -> str:
    """A new secret: its prefix and 43 URL-safe characters."""
    return kind.value + secrets.token_urlsafe(32)


def secret_from(kind: Secret, raw: bytes) -> str:
    """The secret that these 32 bytes make."""
    return kind.value + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def sha256_of(secret: str) -> str:
    """What is kept of a secret. It is random, so a plain digest tells nothing about it."""
    return hashlib.sha256(secret.encode()).hexdigest()
