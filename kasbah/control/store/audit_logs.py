"""What the control plane knows of audit logs, its own and the sites', as the store keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLog:
    """What is known of an audit log, `control` or a site's id: its newest checkpoint (`note`), and the newest one that
    a witness has cosigned. `trouble` says how it was found not to have grown; `offered` is then the checkpoint that was
    shown instead, signed by `offered_key`. `epoch` is the control plane's own."""

    log: str
    public_key: str
    note: str
    size: int
    signed_at: datetime
    cosigned: str = ""
    cosigned_size: int = 0
    trouble: str = ""
    epoch: int = 0
    offered: str = ""
    offered_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBreak:
    """A break in a site's log that a person accepted: what was known until then, why it was refused, and what was taken
    in its place. `witnessed` is the control plane's own log as this one had cosigned it."""

    log: str
    number: int
    public_key: str
    note: str
    cosigned: str
    cosigned_size: int
    witnessed: str
    trouble: str
    accepted_key: str
    accepted_note: str
    accepted_at: datetime
    accepted_by: str
    reason: str
