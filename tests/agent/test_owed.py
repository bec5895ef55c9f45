"""What the law took from a site is erased as soon as nothing works with it, and nothing else is for that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kasbah.agent.owed import Owed
from kasbah.domain.desired import DesiredState, Standby
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.service import Service
from kasbah.loop import Loop

CLAIMS, NOTES = (
    Service(id=ServiceId(f"sv-{name}"), project=ProjectId("pr-1"), name=name, hosts=(f"{name}.x",))
    for name in ("claims", "notes")
)
STATE = DesiredState(
    installation=InstallationId("in-1"),
    epoch=1,
    generation=1,
    site=SiteId("st-1"),
    issued_at=datetime(2026, 3, 1, tzinfo=UTC),
    base_domain="x",
    services=(CLAIMS, NOTES),
)
LEFT = replace(STATE, services=(NOTES,))


class House(Loop):
    """Counts how often it is to be kept."""

    def __init__(self) -> None:
        self.kept = 0
        super().__init__("house", self._never, period=timedelta(hours=1))

    async def _never(self) -> None:
        raise AssertionError("it does not run here")

    def nudge(self) -> None:
        self.kept += 1


def test_it_waits_for_what_still_ends_and_is_done_once() -> None:
    house = House()
    owed, both = Owed(house), {CLAIMS.id, NOTES.id}
    owed.settle(replace(STATE, withdrawn="1.1"), (), both)
    assert house.kept == 0, "what an agent finds as it starts is no news"
    withdrawn = replace(LEFT, withdrawn="1.2")
    owed.settle(withdrawn, (), both)
    assert house.kept == 0
    owed.settle(withdrawn, (), {NOTES.id})
    owed.settle(withdrawn, (), {NOTES.id})
    assert house.kept == 1


def test_what_the_site_itself_refuses_is_erased_too() -> None:
    house = House()
    owed = Owed(house)
    owed.settle(STATE, (), {CLAIMS.id})
    owed.settle(LEFT, ("claims",), set())
    assert house.kept == 1
    owed.settle(LEFT, (), set())
    assert house.kept == 1, "it is refused no more"


def test_sources_that_were_wanted_are_told_once() -> None:
    owed = Owed(House())
    source = Digest("sha256:" + "a" * 64)
    kept = Standby(
        id=CLAIMS.id, project=CLAIMS.project, name="claims", source=source, label=Label(level=Level.INTERNAL)
    )
    assert owed.settle(replace(STATE, standby=(kept,)), (), set()) == frozenset()
    assert owed.settle(STATE, (), set()) == {source}
    assert owed.settle(STATE, (), set()) == frozenset()


def test_what_moves_or_is_deleted_waits_for_its_turn() -> None:
    house = House()
    owed = Owed(house)
    owed.settle(STATE, (), {CLAIMS.id})
    owed.settle(LEFT, (), set())
    assert house.kept == 0
