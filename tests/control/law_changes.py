"""A change of the law as its owner makes it, for tests: lawbooks drawn from the one in force, signed and applied."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from installed import Installed

from kasbah.api.owner import LAWBOOK, read_document, sign_document
from kasbah.domain.charter import Lawbook, Signed
from kasbah.domain.law import Pack

RULE = """
@id("house.{name}") @title("{name} is off limits") @advice("Ask the board.") @cite("the board, 2026")
@verified("2026-11-26") @approval("board-{name}")
forbid (principal, action, resource) when {{ principal.label.regimes.contains("house") && {when} }}
unless {{ context.approvals.contains("board-{name}") }};
"""
HOUSE = {"level": "internal", "regimes": ["house"]}


def house(*when: str, version: int = 1) -> Pack:
    """A pack of one's own: each of `when` forbids what it says of data of the regime `house`."""
    rules = [RULE.format(name=f"r{number}", when=one) for number, one in enumerate(when)]
    return Pack(name="house", title="Ours", version=version, policies="".join(rules))


NOTHING, ALL, SECRET = "principal.label.level > 4", "true", 'principal.label.categories.contains("secret-key")'


async def in_force(installed: Installed) -> Lawbook:
    version = (await installed.get("/policy"))["newest"]["version"]
    return read_document((await installed.get(f"/policy/lawbooks/{version}"))["document"], Lawbook)


async def drawn(installed: Installed, *own: Pack, **more: Any) -> Lawbook:
    """The law in force with these packs in the place of those of the same name, as the next version."""
    held, status = await in_force(installed), await installed.get("/policy")
    names = {one.name for one in own}
    packs = (*(one for one in held.packs if one.name not in names), *own)
    return replace(held, version=status["next_version"], packs=packs, **more)


def signed(installed: Installed, lawbook: Lawbook) -> Signed:
    return sign_document(installed.owner, LAWBOOK, lawbook)


async def plan(installed: Installed, lawbook: Lawbook) -> Any:
    return await installed.post("/policy/plan", {"document": signed(installed, lawbook).document})


async def apply(
    installed: Installed, lawbook: Lawbook, *, status: int = 202, even_so: bool = False, based_on: int | None = None
) -> Any:
    newest = (await installed.get("/policy"))["newest"]["version"]
    body = {
        **asdict(signed(installed, lawbook)),
        "based_on": based_on or newest,
        "even_so": even_so,
        "reason": "a test",
    }
    return await installed.post("/policy/lawbooks", body, status=status)


async def settled(installed: Installed) -> Any:
    """The status of the law, once the newest goes nowhere any more."""
    from datetime import timedelta

    from kasbah.control.usecases.roll_law import carry_on

    for _ in range(20):
        status = await installed.get("/policy")
        if status["newest"]["state"] != "rolling":
            return status
        desired = await installed.agent.desired()
        assert desired is not None
        installed.agent.applied = desired.version
        installed.clock.advance(timedelta(seconds=11))
        await installed.agent.report()
        with installed.control.office.write() as work:
            carry_on(work)
    raise AssertionError("the law never settles")
