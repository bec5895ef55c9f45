"""What a deployer signs before he follows a sensitive service's log, or runs a command inside a replica of it."""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.domain.ids import Digest, InstallationId, ProjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """That he is about to do this: an act on a service, by its name in a project of one installation. `words` is the
    digest of the command and its arguments (of none for a log), `ticket` that of the ticket it is done with, which ends
    within minutes."""

    installation: InstallationId
    project: ProjectId
    service: str
    act: str
    words: Digest
    ticket: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedErrand:
    """An errand whose signature is that of this key, as was verified."""

    key: str
    errand: Errand
