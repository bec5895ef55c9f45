from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.replica import Exit
from kasbah.domain.rollout import RolloutState
from kasbah.domain.service import RESERVED_NAMES, Service, name_error
from kasbah.domain.usage import Usage


@pytest.mark.parametrize("name", ["a", "web", "web-2", "a" * 40, "x1"])
def test_a_name_is_a_host_label(name: str) -> None:
    assert name_error(name) is None


@pytest.mark.parametrize(
    "name", ["", "Web", "2web", "-web", "web-", "web--x", "web_x", "wéb", "a" * 41, "web.x", "web\n", " web", "we b"]
)
def test_anything_else_is_none_and_says_what_one_is(name: str) -> None:
    assert "lower-case letters" in (name_error(name) or "")


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_the_site_s_own_hosts_are_not_given_away(name: str) -> None:
    assert "reserved" in (name_error(name) or "")


@given(st.from_regex(r"[a-z0-9-]{1,45}", fullmatch=True))
def test_a_name_never_has_what_separates_names(name: str) -> None:
    """`NAME--PROJECT` is told apart again."""
    if name_error(name) is None:
        assert "--" not in f"{name}x"
        assert not name.endswith("-")


def test_a_service_has_no_revision_it_was_not_given() -> None:
    service = Service(id=ServiceId("sv-1"), project=ProjectId("pr-1"), name="web", hosts=())
    assert service.revision("rv-1") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exit", "words"),
    [
        (Exit(code=3), "exited with code 3"),
        (Exit(signal="SIGKILL"), "killed by SIGKILL"),
        (Exit(code=1, signal="SIGTERM", reason="it did not listen"), "it did not listen"),
    ],
)
def test_an_exit_in_words(exit: Exit, words: str) -> None:
    assert str(exit) == words


def test_three_states_end_a_rollout() -> None:
    assert [one.value for one in RolloutState if one.ended] == ["done", "failed", "superseded"]


def test_a_later_epoch_is_later_whatever_the_generation() -> None:
    def state(epoch: int, generation: int) -> DesiredState:
        return DesiredState(
            installation=InstallationId("in-1"),
            epoch=epoch,
            generation=generation,
            site=SiteId("st-1"),
            issued_at=datetime(2026, 3, 1, tzinfo=UTC),
            base_domain="localhost",
        )

    assert state(1, 2).version > state(1, 1).version
    assert state(2, 1).version > state(1, 9).version


COUNTS = st.integers(0, 10**9)
USAGES = st.builds(Usage, requests=COUNTS, failed=COUNTS, bytes_in=COUNTS, bytes_out=COUNTS, milliseconds=COUNTS)


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_in_any_order(first: Usage, second: Usage, third: Usage) -> None:
    assert first + second == second + first
    assert (first + second) + third == first + (second + third)
    assert first + Usage() == first
