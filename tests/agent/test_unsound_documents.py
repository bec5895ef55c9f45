"""What a site does with a desired state that cannot be judged: it keeps nothing from ending."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from test_captured_control import IDENTITY, NOW, PERSONAL, Captured, charter, law
from test_captured_deploys import CLAIMS, CODE

from kasbah.errors import Invalid

FOR_A_DAY = (charter("FR", version=2, until=NOW.date()),)
UNSOUND = replace(CLAIMS, label=PERSONAL, revisions=(replace(CODE, egress=("::no destination::",)),))


@pytest.fixture
def site(tmp_path: Path) -> Captured:
    made = Captured(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    assert made.tell(PERSONAL, charters=FOR_A_DAY) == ["claims"]
    return made


def test_it_is_not_taken_and_what_has_an_end_ends(site: Captured) -> None:
    with pytest.raises(Invalid, match="cannot be judged"):
        site.tell(PERSONAL, services=(UNSOUND,), charters=FOR_A_DAY)
    assert site.runs() == ["claims"]
    site.start()
    assert site.runs() == ["claims"], "nor kept"
    site.clock.advance(timedelta(days=1))
    assert site.runs() == []


def test_an_error_in_the_answer_is_a_no(site: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("nobody expected this")

    monkeypatch.setattr("kasbah.agent.last_word.accept", fails)
    site.clock.advance(timedelta(days=1))
    assert site.runs() == []


def test_a_full_disk_keeps_nothing_from_ending(site: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("kasbah.agent.last_word.replace_whole", full)
        site.word.take_law(IDENTITY, law(2))
        site.clock.advance(timedelta(days=1))
        assert site.runs() == []
    assert site.word.law_version == 2
    site.runs()
    site.start()
    site.runs()
    assert site.word.law_version == 2, "and is kept once there is room again"
