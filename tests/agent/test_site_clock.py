"""A site's time: never before what the control plane signed, whatever its machine's clock is set to, and whenever it
was started."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from test_captured_control import ALL, IDENTITY, NOW, OWNER, PERSONAL, Captured, charter, law

from kasbah.agent.site_clock import SiteClock
from kasbah.api.owner import DECLASSIFICATION, LAWBOOK, sign_document
from kasbah.clock import ManualClock
from kasbah.decide.skew import skew_note
from kasbah.domain.charter import Lawbook
from kasbah.domain.desired import SignedGrant
from kasbah.domain.grant import Declassification, GrantKind
from kasbah.domain.ids import KeyId, ProjectId, ServiceId
from kasbah.domain.label import Label, Level
from kasbah.domain.service import Key

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PUBLIC = Label(level=Level.PUBLIC)


class Machine:
    """A machine's clock, and the site's on it, which is started again and again."""

    def __init__(self, file: Path) -> None:
        self.own = ManualClock(NOW)
        self._file = file
        self.start()

    def start(self) -> None:
        self.clock = SiteClock(self._file, self.own)

    @property
    def now(self) -> datetime:
        return self.clock.now()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "time.json")


def test_it_is_the_machines_until_something_later_is_signed(machine: Machine) -> None:
    assert machine.now == NOW
    machine.clock.take(NOW - HOUR)
    assert machine.now == NOW
    machine.clock.take(NOW + HOUR)
    assert machine.now == NOW + HOUR
    machine.clock.take(NOW)
    assert machine.now == NOW + HOUR, "what is older moves nothing back"


def test_a_signed_time_goes_on_while_the_machines_clock_is_set_back(machine: Machine) -> None:
    machine.clock.take(NOW)
    machine.own.set(-DAY)
    assert machine.now == NOW
    machine.own.advance(HOUR)
    assert machine.now == NOW + HOUR, "time passes for who is cut off, too"


def test_it_is_kept_over_restarts(machine: Machine) -> None:
    machine.clock.take(NOW)
    machine.own.advance(2 * HOUR)
    machine.clock.keep()
    machine.own.set(-DAY)
    machine.start()
    assert machine.now == NOW + 2 * HOUR
    assert machine.clock.even() == machine.own.even(), "how long something takes is measured as before"


def test_a_machine_that_was_ahead_for_a_moment_is_forgotten(machine: Machine) -> None:
    machine.clock.take(NOW)
    machine.own.set(DAY)
    assert machine.now == NOW + DAY
    machine.clock.heard()
    machine.clock.keep(at_once=True)
    machine.own.set(-DAY)
    machine.start()
    assert machine.now == NOW


def test_what_was_heard_is_kept_once_a_minute(machine: Machine) -> None:
    machine.clock.heard()
    for _ in range(50):
        machine.own.advance(timedelta(seconds=1))
        machine.clock.heard()
        machine.clock.keep()
    machine.start()
    assert machine.clock.heard_at == NOW, "the first word is written at once"
    machine.own.advance(timedelta(seconds=10))
    machine.clock.heard()
    machine.clock.keep()
    machine.start()
    assert machine.clock.heard_at == NOW + timedelta(minutes=1)


def test_what_was_heard_is_never_in_the_future(machine: Machine) -> None:
    machine.own.set(DAY)
    machine.clock.heard()
    machine.own.set(-DAY)
    machine.start()
    assert machine.clock.heard_at == NOW


def test_what_was_heard_grows_old_though_a_clock_that_was_ahead_is_set_right(machine: Machine) -> None:
    machine.clock.take(NOW)
    machine.own.set(HOUR)
    machine.clock.heard()
    machine.own.advance(timedelta(minutes=5))
    machine.own.set(-HOUR)
    assert machine.clock.heard_at == NOW
    machine.own.advance(timedelta(minutes=1))
    assert machine.clock.heard_at == NOW, "it stays when it was"


def test_nor_is_it_younger_after_a_restart(machine: Machine) -> None:
    machine.own.set(HOUR)
    machine.clock.heard()
    machine.own.advance(timedelta(minutes=5))
    machine.clock.keep()
    machine.own.set(-HOUR)
    machine.start()
    assert machine.clock.heard_at == NOW
    machine.own.set(-DAY)
    machine.own.advance(timedelta(minutes=1))
    assert machine.clock.heard_at == machine.now - timedelta(minutes=6)


def test_it_grows_old_while_no_agent_runs_though_the_clock_is_behind(machine: Machine) -> None:
    machine.clock.take(NOW)
    machine.own.set(-HOUR)
    machine.clock.heard()
    machine.own.advance(timedelta(minutes=5))
    machine.clock.keep()
    machine.own.set(timedelta(minutes=20))
    machine.start()
    assert machine.clock.heard_at == machine.now - timedelta(minutes=25)


def test_it_is_no_younger_for_a_clock_that_is_set_back_while_no_agent_runs(machine: Machine) -> None:
    machine.clock.heard()
    machine.own.advance(timedelta(minutes=5))
    machine.clock.keep()
    machine.own.set(-DAY)
    machine.start()
    assert machine.clock.heard_at == machine.now - timedelta(minutes=5)


@pytest.mark.parametrize("kept", ["", "{}", '{"signed": "yesterday", "heard": null}', '{"signed": 7, "heard": 7}',
                                  '{"signed": "2026-11-26T12:00:00", "heard": null}', "[" * 100_000, "[]",
                                  '{"signed": null, "heard": null, "age": 1e300}',
                                  '{"signed": null, "heard": null, "age": 0, "own": "2026-11-26T12:00:00"}',
                                  '{"signed": null, "heard": null, "age": 0, "own": null}'])  # fmt: skip
def test_what_cannot_be_read_is_not_there(tmp_path: Path, kept: str) -> None:
    (tmp_path / "time.json").write_text(kept)
    machine = Machine(tmp_path / "time.json")
    assert (machine.now, machine.clock.heard_at) == (NOW, None)


@pytest.mark.parametrize(
    ("off", "says"),
    [
        pytest.param(timedelta(seconds=20), None, id="by seconds"),
        pytest.param(HOUR, "1 h 0 min ahead", id="ahead"),
        pytest.param(-HOUR - timedelta(seconds=5), "1 h 0 min behind", id="behind"),
        pytest.param(timedelta(seconds=90), "2 min ahead", id="by a minute and a half"),
        pytest.param(timedelta(seconds=-40), "less than a minute behind", id="by less than a minute"),
    ],
)
def test_a_clock_that_is_off_is_said(machine: Machine, off: timedelta, says: str | None) -> None:
    machine.own.set(off)
    machine.clock.take(NOW, just_now=True)
    notes = machine.clock.notes()
    assert notes == () if says is None else says in notes[0], notes


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_how_far_it_is_behind_is_found_at_a_poll(machine: Machine, off: timedelta) -> None:
    machine.own.set(off)
    machine.clock.take(NOW, just_now=True)
    machine.own.advance(HOUR)
    assert machine.clock.behind == -off
    machine.clock.take(machine.own.now() - timedelta(seconds=20), just_now=True)
    assert machine.clock.behind == timedelta(), "it was set, and seconds are no matter"


def test_how_far_it_is_behind_is_known_after_a_restart_from_what_was_signed(machine: Machine) -> None:
    machine.own.set(-HOUR)
    machine.clock.take(NOW, just_now=True)
    machine.clock.keep(at_once=True)
    machine.start()
    assert machine.clock.behind == HOUR
    machine.own.set(2 * HOUR)
    assert machine.clock.behind == timedelta(), "of one that is ahead nothing is known before a poll"


def test_a_time_far_ahead_that_was_signed_is_said_as_long_as_it_counts(machine: Machine) -> None:
    machine.clock.take(NOW + 30 * DAY, just_now=True)
    machine.clock.take(NOW, just_now=True)  # the control plane's clock was set right again
    assert machine.now == NOW + 30 * DAY
    (note,) = machine.clock.notes()
    assert "720 h 0 min ahead of this machine's clock" in note
    assert "time.json" in note


def test_a_note_is_a_question_of_the_difference_alone() -> None:
    assert skew_note(timedelta(), NOW, None, "f") == ""
    assert skew_note(timedelta(), NOW, NOW - HOUR, "f") == ""


# --- what the site decides by it --------------------------------------------------------------------------------------


def lowered(until: timedelta) -> SignedGrant:
    grant = Declassification(
        installation=IDENTITY.installation, service=ServiceId("sv-claims"), to=PUBLIC, evidence="anonymised",
        issued_at=NOW, expires_at=NOW + until,
    )  # fmt: skip
    return SignedGrant(kind=GrantKind.DECLASSIFICATION, signed=sign_document(OWNER, DECLASSIFICATION, grant))


@pytest.fixture
def site(tmp_path: Path) -> Captured:
    made = Captured(tmp_path / "ledger")
    made.word.take_law(IDENTITY, law(1))
    return made


def test_a_grant_that_has_expired_is_not_good_again_when_the_clock_is_set_back(site: Captured) -> None:
    site.tell(PERSONAL)
    assert site.tell(PUBLIC, grants=(lowered(HOUR),)) == ["claims"]
    site.clock.advance(2 * HOUR)
    assert site.runs() == []
    site.site_clock.keep(at_once=True)
    site.clock.set(-DAY)
    assert site.runs() == []
    site.start()
    assert site.runs() == [], "nor after a restart"


def test_a_key_that_has_ended_does_not_open_again_when_the_clock_is_set_back(site: Captured) -> None:
    def keys() -> list[str]:
        site.ledger.rejudge()
        assert site.ledger.desired is not None
        return [one.id for one in site.ledger.desired.keys]

    lasting = Key(id=KeyId("ky-lasting"), project=ProjectId("pr-1"), sha256="0" * 64)
    site.tell(PUBLIC, keys=(lasting, replace(lasting, id=KeyId("ky-ending"), expires_at=NOW + HOUR)))
    assert keys() == ["ky-lasting", "ky-ending"]
    site.clock.advance(HOUR)
    assert keys() == ["ky-lasting"]
    site.clock.set(-DAY)
    assert keys() == ["ky-lasting"]


def test_a_clock_that_is_behind_is_moved_on_by_the_desired_state(site: Captured) -> None:
    site.tell(PERSONAL)
    site.clock.set(-DAY)
    assert site.tell(PUBLIC, grants=(lowered(HOUR),), issued_at=NOW + 2 * HOUR) == []


def test_a_clock_that_is_ahead_ends_things_early(site: Captured) -> None:
    site.tell(PERSONAL)
    assert site.tell(PUBLIC, grants=(lowered(HOUR),)) == ["claims"]
    site.clock.set(2 * HOUR)
    assert site.runs() == []
    site.clock.set(-2 * HOUR)
    assert site.runs() == ["claims"], "and harms nothing once it is right"


def an_hour_old_at_most(folder: Path) -> Captured:
    """A site whose law lets personal data run for an hour after the last word."""
    book = Lawbook(installation=IDENTITY.installation, version=1, home="FR", packs=ALL, stale_after={2: HOUR})
    site = Captured(folder / "ledger")
    site.word.take_law(IDENTITY, sign_document(OWNER, LAWBOOK, book))
    return site


def test_how_old_the_last_word_is_is_not_made_younger_by_the_clock(tmp_path: Path) -> None:
    site = an_hour_old_at_most(tmp_path)
    assert site.tell(PERSONAL, charters=(charter("FR"),)) == ["claims"]
    site.site_clock.take(NOW, just_now=True)
    site.site_clock.heard()
    site.clock.set(-DAY)
    site.clock.advance(timedelta(minutes=59))
    assert site.runs() == ["claims"], "not before"
    site.clock.advance(timedelta(minutes=2))
    assert site.runs() == []


def test_the_last_word_goes_stale_though_a_clock_that_was_ahead_is_set_right(tmp_path: Path) -> None:
    site = an_hour_old_at_most(tmp_path)
    assert site.tell(PERSONAL, charters=(charter("FR"),)) == ["claims"]
    site.clock.set(DAY)
    site.site_clock.take(NOW, just_now=True)
    site.site_clock.heard()
    assert site.runs() == ["claims"], "what is ahead does not make the last word old"
    site.clock.set(-DAY)
    site.clock.advance(timedelta(minutes=59))
    assert site.runs() == ["claims"], "not before"
    site.clock.advance(timedelta(minutes=2))
    assert site.runs() == []


def test_the_last_word_goes_stale_while_no_agent_runs_though_the_clock_is_behind(tmp_path: Path) -> None:
    site = an_hour_old_at_most(tmp_path)
    assert site.tell(PERSONAL, charters=(charter("FR"),)) == ["claims"]
    site.site_clock.take(NOW, just_now=True)
    site.clock.set(-DAY)
    site.site_clock.heard()
    site.clock.set(HOUR + timedelta(seconds=1))
    site.start()
    assert site.runs() == []


def test_what_was_heard_counts_after_a_restart(tmp_path: Path) -> None:
    site = an_hour_old_at_most(tmp_path)
    site.tell(PERSONAL, charters=(charter("FR"),))
    site.clock.advance(2 * HOUR)
    site.site_clock.heard()
    site.start()
    assert site.runs() == ["claims"], "the desired state is older, the last word is not"
    site.clock.advance(HOUR + timedelta(seconds=1))
    assert site.runs() == []
