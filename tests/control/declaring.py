"""What an owner says of places, signed and sent."""

from __future__ import annotations

from datetime import date
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from installed import START, Installed

from kasbah.api.owner import CHARTER, load, sign_document
from kasbah.domain.charter import Charter, Fact, Facts
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.site import SiteKind

TODAY = START.date()


def said(value: Any, until: date | None = None) -> Fact[Any]:
    return Fact(value=value, source="a contract", since=TODAY, until=until)


async def charter(installed: Installed, name: str = "paris", **more: Any) -> Charter:
    installation = (await installed.get("/installation"))["id"]
    plain: dict[str, Any] = {
        "installation": InstallationId(installation),
        "site": SiteId(f"st-{name}"),
        "name": name,
        "version": 1,
        "kind": SiteKind.SOVEREIGN,
        "facts": Facts(country=said("FR")),
    }
    return Charter(**(plain | more))


async def declare(
    installed: Installed, charter: Charter, *, key: Ed25519PrivateKey | None = None, context: bytes = CHARTER
) -> tuple[int, Any]:
    signed = sign_document(key or load(installed.control.folder.owner_key), context, charter)
    body = {"document": signed.document, "signature": signed.signature}
    answer = await installed.api.put(f"/sites/{charter.name}", json=body)
    return answer.status_code, answer.json()
