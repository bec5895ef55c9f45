"""A secret: a value that belongs to a project, kept sealed, and given to replicas as environment or as a file.

A revision names a secret with its version, so that a new value reaches replicas by a rollout like any other change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kasbah.domain.ids import SecretId

LARGEST = 64 * 1_024
"""Bytes. A value in the environment must fit, with everything else there, into what the kernel passes to a program."""


class Delivery(StrEnum):
    """How a replica gets a secret: as the variable's value, or as a file whose path the variable holds."""

    ENV = "env"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUse:
    """One secret in one variable of a revision's environment."""

    variable: str
    secret: SecretId
    version: int
    delivery: Delivery = Delivery.ENV
