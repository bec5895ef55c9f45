"""Services that call each other: each gets a key of its own, which opens what it says it calls and nothing else."""

from __future__ import annotations

import hashlib

from installed import Installed

from kasbah.domain.service import Key


async def own_key(installed: Installed, name: str) -> Key | None:
    """What the site knows of a service's own key."""
    desired = await installed.agent.desired()
    assert desired is not None
    service = next(one for one in desired.services if one.name == name)
    return next((key for key in desired.keys if key.id == f"ky-{service.id}"), None)


async def test_a_service_gets_a_key_that_opens_what_it_calls(installed: Installed) -> None:
    agent = installed.agent
    for name in ("search", "notes"):
        await installed.serving(name)
    await installed.serving("shop", calls=["search"])
    assert await own_key(installed, "search") is None
    key = await own_key(installed, "shop")
    assert key is not None
    assert key.services == ((await agent.service("search")).id,)

    shop = await agent.service("shop")
    (use,) = shop.revisions[0].secrets
    assert use.variable == "KASBAH_KEY"
    given = await agent.client.get(f"/agent/v1/secrets/{use.secret}/{use.version}", headers=agent.headers)
    assert given.text.startswith("ksb_")
    assert hashlib.sha256(given.content).hexdigest() == key.sha256
    listed = await installed.api.get("/keys")
    assert "ky-sv" not in listed.text, "it is nobody's to revoke: it ends with the service"
    assert given.text not in repr(await agent.desired())


async def test_it_opens_a_service_that_comes_later_and_ends_with_the_call(installed: Installed) -> None:
    await installed.serving("shop", calls=["search"])
    key = await own_key(installed, "shop")
    assert key is not None
    assert key.services == ()
    await installed.serving("search")
    later = await own_key(installed, "shop")
    assert later is not None
    assert later.services == ((await installed.agent.service("search")).id,)
    await installed.agent.report()
    await installed.api.delete("/services/shop")
    desired = await installed.agent.desired()
    assert desired is not None
    assert not [one for one in desired.keys if one.id == later.id]
