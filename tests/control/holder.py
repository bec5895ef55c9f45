"""Somebody who holds a token, for tests of who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Somebody with a token."""

    client: httpx.AsyncClient
    token: str
    id: str

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    async def code(self, method: str, path: str, **more: Any) -> str:
        """The code of the refusal; "ok" where there is none."""
        answer = await self.ask(method, path, **more)
        return "ok" if answer.is_success else f"{answer.status_code} {answer.json()['error']['code']}"

    async def make(self, name: str, *grants: dict[str, Any], **more: Any) -> Holder:
        """Another, by a token that this one makes."""
        answer = await self.ask("POST", "/tokens", json={"name": name, "grants": list(grants), **more})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Holder(client=self.client, token=made["token"], id=made["id"])
