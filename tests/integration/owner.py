"""The owner of an installation, for tests: signs desired states and tickets for its one site."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.agent import DESIRED_STATE, Identity
from kasbah.api.signing import DESIRED, Ticket, public_text, sign, write_ticket
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE, INSTALLATION = SiteId("st-here"), InstallationId("in-ours")


@dataclass(frozen=True)
class Owner:
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def identity(self) -> Identity:
        return Identity(installation=INSTALLATION, site=SITE, site_name="local", public_key=public_text(self.key))

    def desired(self, generation: int, *, epoch: int = 1, **fields: Any) -> tuple[bytes, str]:
        """A desired state and its signature."""
        known: dict[str, Any] = {"installation": INSTALLATION, "site": SITE, "base_domain": "localhost"} | fields
        document = DESIRED_STATE.dump_json(DesiredState(epoch=epoch, generation=generation, issued_at=NOW, **known))
        return document, sign(self.key, DESIRED, document)

    def ticket(self, act: str, object: str, *, limit: int = 10**6, age: timedelta = timedelta(), **fields: Any) -> str:
        """A ticket made so long ago, good for ten minutes."""
        known: dict[str, Any] = {"site": SITE} | fields
        expires = NOW - age + timedelta(minutes=10)
        return write_ticket(self.key, Ticket(act=act, object=object, expires_at=expires, limit=limit, **known))
