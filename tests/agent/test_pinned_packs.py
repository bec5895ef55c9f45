"""Packs that the owner of a site's machine pins there: the site asks them beside the law, and says what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_captured_control import CONTROL, IDENTITY, INTERNAL, PERSONAL, Captured, charter, law

from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import DESIRED_STATE
from kasbah.api.signing import DESIRED, sign
from kasbah.domain.law import Pack
from kasbah.domain.observed import TurnedAway

STRICT = Pack(
    name="house",
    title="Ours",
    version=1,
    policies='@id("house.none") @title("x") @advice("x") @cite("x") @verified("2026-01-01")\n'
    "forbid (principal, action, resource) when { principal.label.level >= 2 };\n",
)
FRANCE = (charter("FR", version=2),)


class Strict(Captured):
    """A site whose machine's owner pinned a pack."""

    packs: tuple[Pack, ...] = (STRICT,)

    def start(self) -> None:
        self.word = LastWord(self.folder / "word.json", SiteClock(self.folder / "time.json", self.clock), self.packs)
        self.ledger = Ledger(self.folder, self.word.judge)

    def tell_nothing(self) -> None:
        """Have the site told to run nothing."""
        told = self.ledger.told
        assert told is not None
        self.generation += 1
        body = DESIRED_STATE.dump_json(replace(told, generation=self.generation, services=()))
        self.ledger.accept(body, sign(CONTROL, DESIRED, body))


@pytest.fixture
def site(tmp_path: Path) -> Strict:
    made = Strict(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


def test_what_they_refuse_is_refused_whatever_the_law_allows(site: Strict) -> None:
    assert site.tell(INTERNAL, charters=FRANCE) == ["claims"]
    assert site.tell(PERSONAL, charters=FRANCE) == []
    assert site.word.refused == {"claims": "a pack that this site's own owner pinned refuses it here: house.none"}


def test_a_refusal_is_remembered_while_it_would_be_the_same(site: Strict) -> None:
    """Whoever was refused and goes elsewhere would else be sent here again, and again be refused."""
    site.tell(PERSONAL, charters=FRANCE)
    site.tell_nothing()
    (one,) = site.word.turned_away
    assert (one.service, one.label) == ("sv-claims", PERSONAL)
    assert "house.none" in one.reason
    site.packs = ()
    site.start()
    assert site.word.turned_away == ()
    assert site.tell(PERSONAL, charters=FRANCE) == ["claims"]


def test_a_site_that_has_yet_to_hear_of_law_and_facts_turns_nobody_away(site: Strict) -> None:
    site.tell(PERSONAL, charters=(), lawbook=1)
    assert site.word.refused
    assert site.word.turned_away == (), "no facts yet"
    site.tell(PERSONAL, charters=FRANCE, lawbook=2)
    assert site.word.turned_away == (), "the second lawbook is on its way"
    site.word.take_law(IDENTITY, law(2))
    site.runs()
    assert [type(one) for one in site.word.turned_away] == [TurnedAway]
