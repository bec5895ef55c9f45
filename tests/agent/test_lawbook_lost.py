"""The line drops between a desired state and the lawbook that it names: the lawbook is asked for until it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import SIGNED, Link
from kasbah.agent.meter import Meter
from kasbah.api.agent import DESIRED_STATE, IDENTITY, SIGNATURE_HEADER, Identity
from kasbah.api.owner import LAWBOOK, sign_document
from kasbah.api.signing import DESIRED, public_text, sign
from kasbah.clock import ManualClock
from kasbah.domain.charter import Lawbook
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.errors import Unavailable
from kasbah.packs import shipped

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OWNER, CONTROL = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
IDENTITY_HERE = Identity(
    installation=InstallationId("in-1"),
    site=SiteId("st-a"),
    site_name="a",
    public_key=public_text(CONTROL),
    owner_key=public_text(OWNER),
)


class Control(httpx.AsyncBaseTransport):
    """A control plane with one desired state, under lawbook 3. `lost` lawbooks do not arrive."""

    def __init__(self) -> None:
        self.lost = 1
        self.waits: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, request.url.params
        if path.endswith("/identity"):
            return httpx.Response(200, content=IDENTITY.dump_json(IDENTITY_HERE))
        if path.endswith("/lawbooks/3"):
            self.lost -= 1
            if self.lost >= 0:
                raise httpx.ReadError("the line is cut")
            book = Lawbook(installation=InstallationId("in-1"), version=3, home="FR", packs=shipped())
            return httpx.Response(200, content=SIGNED.dump_json(sign_document(OWNER, LAWBOOK, book)))
        self.waits.append(query["wait"])
        if query["generation"] == "1":
            return httpx.Response(204)
        state = DesiredState(
            installation=InstallationId("in-1"),
            epoch=1,
            generation=1,
            site=SiteId("st-a"),
            issued_at=NOW,
            base_domain="x",
            lawbook=3,
        )
        body = DESIRED_STATE.dump_json(state)
        return httpx.Response(200, content=body, headers={SIGNATURE_HEADER: sign(CONTROL, DESIRED, body)})


async def test_a_lawbook_that_did_not_come_is_asked_for_again_at_once(tmp_path: Path) -> None:
    control, nudges = Control(), []
    word = LastWord(tmp_path / "word.json", ManualClock(NOW))
    ledger = Ledger(tmp_path, word.judge)
    meter = Meter(tmp_path / "access.log", tmp_path / "usage.db")
    link = Link("http://control", None, ledger, meter, lambda: nudges.append(1), control, word=word)
    await link.introduce()
    with pytest.raises(Unavailable):
        await link.fetch(wait=30)
    assert ledger.told is not None, "what was told is acted on all the same"
    assert (word.law_version, len(nudges)) == (0, 1)
    await link.fetch(wait=30)
    assert (word.law_version, len(nudges)) == (3, 2)
    await link.fetch(wait=30)
    assert control.waits == ["30", "0", "30"], "while the law is owed nothing is waited for"
    await link.close()
    meter.close()
