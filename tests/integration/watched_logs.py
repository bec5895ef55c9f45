"""Two audit logs that watch each other: a control plane's and its site's, which speak by the real link."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx

from kasbah.agent.audit.log import SiteLog
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import Link
from kasbah.agent.meter import Meter
from kasbah.clock import ManualClock
from kasbah.control.app import Control
from kasbah.control.store.audit_logs import AuditLog
from kasbah.control.usecases.checkpoint import CONTROL

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLOCK = ManualClock(NOW)


class Watched:
    """A control plane and its site's log, which speak by the real link."""

    def __init__(self, control: Control, folder: Path) -> None:
        self.control = control
        self.folder = folder
        ledger_folder = folder / "ledger"
        ledger_folder.mkdir(parents=True, exist_ok=True)
        transport = httpx.ASGITransport(app=control.asgi)
        self.ledger = Ledger(ledger_folder)
        self.meter = Meter(folder / "access.log", folder / "usage.db")
        token = control.folder.site_token
        self.link = Link("http://control", token, self.ledger, self.meter, lambda: None, transport)

    async def start(self, name: str = "audit") -> SiteLog:
        await self.link.introduce()
        identity = self.ledger.identity
        assert identity is not None
        log = SiteLog(self.folder / name, identity.installation, identity.site, CLOCK.now)
        self.link.audit = log
        return log

    def write(self, name: str) -> None:
        with self.control.office.note() as work:
            work.journal.say("test", name)
        self.sign()

    def sign(self) -> None:
        audit = next(one for one in self.control.running._loops if one.name == "audit")
        audit._work.__self__.sign()  # type: ignore[attr-defined]

    def known(self, log: str = "") -> AuditLog:
        """What the control plane knows of the site's log, or of its own."""
        with self.control.office.store.read() as tx:
            return next(one for one in tx.audit.logs() if (one.log == CONTROL) == (log == CONTROL))
