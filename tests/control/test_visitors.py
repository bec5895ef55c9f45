"""Who follows a log or runs a command may go on for as long as he might begin it anew."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from holder import Holder
from installed import Installed

from kasbah.api.agent import MOST_VISITORS, VISITORS, Visitor
from kasbah.api.signing import parse_public, read_ticket


@pytest.fixture
async def visitor(installed: Installed, admin: Holder) -> tuple[Holder, Visitor]:
    """Somebody who may run commands in a service up to internal, and has begun one."""
    holder = await admin.make("debugger", {"actions": ["service.exec", "service.read"]}, max_level="internal")
    await installed.serving(data={"level": "internal"})
    door = await holder.ask("POST", "/services/web/exec-door", json={"program": "sh"})
    identity = await installed.agent.introduce()
    ticket = read_ticket(parse_public(identity.public_key), door.json()["ticket"], now=installed.clock.now())
    assert ticket.holder == holder.id
    return holder, Visitor(holder=ticket.holder, act=ticket.act, object=ticket.object)


async def ask(installed: Installed, *visitors: Visitor) -> tuple[Visitor, ...]:
    agent = installed.agent
    answer = await agent.client.post("/agent/v1/visitors", content=VISITORS.dump_json(visitors), headers=agent.headers)
    assert answer.status_code == 200, answer.text
    return VISITORS.validate_json(answer.content)


async def test_who_may_stays(installed: Installed, visitor: tuple[Holder, Visitor]) -> None:
    _, known = visitor
    logs = Visitor(holder=known.holder, act="logs.read", object=known.object)
    nobody = Visitor(holder="tk-0000000000000000", act=known.act, object=known.object)
    nameless = Visitor(holder="debugger", act=known.act, object=known.object)
    upload = Visitor(holder=known.holder, act="blob.put", object=known.object)
    nowhere = Visitor(holder=known.holder, act=known.act, object="sv-0000000000000000")
    assert await ask(installed, known, logs, nobody, nameless, upload, nowhere) == (known,)
    assert await ask(installed) == ()


@pytest.mark.parametrize("by", ["off", "revoked", "expired", "label", "deleted"])
async def test_who_may_no_more_does_not(
    installed: Installed, admin: Holder, visitor: tuple[Holder, Visitor], by: str
) -> None:
    holder, known = visitor
    if by == "expired":
        short: Any = {"actions": ["service.exec", "service.read"]}
        holder = await admin.make("short", short, expires_in_seconds=60)
        known = Visitor(holder=holder.id, act=known.act, object=known.object)
    assert await ask(installed, known) == (known,)
    match by:
        case "off":
            await admin.ask("POST", f"/tokens/{holder.id}/disable")
        case "revoked":
            await admin.ask("DELETE", f"/tokens/{holder.id}")
        case "expired":
            installed.clock.advance(timedelta(seconds=61))
        case "label":
            await installed.deploy(data={"level": "restricted"})
        case "deleted":
            await admin.ask("DELETE", "/services/web")
    assert await ask(installed, known) == ()


async def test_more_than_a_site_has_are_not_asked_about(installed: Installed, visitor: tuple[Holder, Visitor]) -> None:
    many = VISITORS.dump_json((visitor[1],) * (MOST_VISITORS + 1))
    agent = installed.agent
    answer = await agent.client.post("/agent/v1/visitors", content=many, headers=agent.headers)
    assert answer.status_code == 400
