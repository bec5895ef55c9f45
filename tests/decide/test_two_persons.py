"""When one person is not enough, and who is a second one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kasbah.decide.two_persons import needing_two, refusal
from kasbah.domain.charter import Lawbook, Limit
from kasbah.domain.ids import InstallationId
from kasbah.domain.law import Pack

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BASE, HOUSE = (Pack(name=name, title=name, version=1, policies="") for name in ("base", "house"))
MARKED = Lawbook(installation=InstallationId("in-1"), version=1, home="MA", packs=(BASE, HOUSE), two_person=("house",))


@pytest.mark.parametrize(
    ("new", "needed"),
    [
        (replace(MARKED, version=2), ()),
        (replace(MARKED, packs=(replace(BASE, version=2), HOUSE)), ()),
        (replace(MARKED, packs=(BASE, replace(HOUSE, policies="//"))), ("house",)),
        (replace(MARKED, packs=(BASE,), two_person=()), ("house",)),
        (replace(MARKED, two_person=()), ("house",)),
        (replace(MARKED, two_person=("base", "house")), ("base",)),
        (replace(MARKED, home="FR"), ("house",)),
        (replace(MARKED, limit=Limit(services=99)), ("house",)),
        (replace(MARKED, stale_after={3: timedelta(hours=1)}), ("house",)),
    ],
    ids=["nothing", "another", "text", "out", "unmarked", "marked", "home", "limit", "stale"],
)
def test_what_needs_a_second_person(new: Lawbook, needed: tuple[str, ...]) -> None:
    assert needing_two(MARKED, new) == needed


def test_without_a_mark_one_person_is_enough() -> None:
    plain = replace(MARKED, two_person=())
    assert needing_two(plain, replace(plain, packs=(BASE,), home=None)) == ()


MAKERS = {"root": None, "author": "root", "child": "author", "grandchild": "child", "peer": "root", "loop": "loop"}


@pytest.mark.parametrize(
    ("approver", "words"),
    [
        ("author", "yourself"),
        ("child", "made your token"),
        ("grandchild", "made your token"),
        ("peer", ""),
        ("root", ""),
        ("loop", ""),
        ("stranger", ""),
    ],
)
def test_who_is_a_second_person(approver: str, words: str) -> None:
    found = refusal("author", approver, MAKERS, proposed_at=NOW, approver_since=NOW - timedelta(days=1))
    assert bool(found) is bool(words)
    assert words in found


def test_nobody_is_made_up_for_it() -> None:
    found = refusal("author", "peer", MAKERS, proposed_at=NOW, approver_since=NOW)
    assert "younger than the proposal" in found
