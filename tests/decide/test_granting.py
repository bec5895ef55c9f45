"""What grants allow and until when; when a label falls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.grants import Grants, in_force, kept, lowers, used_until
from kasbah.domain.grant import Approval, Declassification
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import UNLABELLED, Label, Level, combine, covers

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
INSTALLATION, WEB, SHOP, DEFAULT = InstallationId("in-1"), ServiceId("sv-1"), ServiceId("sv-2"), ProjectId("pr-1")
CASA, PARIS = SiteId("st-1"), SiteId("st-2")


def approval(name: str, *, days: float = 1, since: datetime = NOW, **more: object) -> Approval:
    plain: dict[str, object] = {"services": (WEB,), "projects": (), "sites": ()}
    return Approval(
        installation=INSTALLATION,
        name=name,
        evidence="a file",
        issued_at=since,
        expires_at=since + days * DAY,
        **(plain | more),  # type: ignore[arg-type]
    )


def test_who_is_approved_and_where() -> None:
    held = in_force(
        [approval("a"), approval("b", services=(), projects=(DEFAULT,)), approval("c", sites=(PARIS,))], NOW
    )
    assert set(held.approved(WEB, DEFAULT, CASA)) == {"a", "b"}
    assert set(held.approved(WEB, DEFAULT, PARIS)) == {"a", "b", "c"}
    assert set(held.approved(SHOP, DEFAULT, PARIS)) == {"b"}
    assert not held.approved(SHOP, ProjectId("pr-2"), PARIS)


@pytest.mark.parametrize(
    ("moment", "holds"),
    [(NOW - timedelta(seconds=1), False), (NOW, True), (NOW + DAY - timedelta(seconds=1), True), (NOW + DAY, False)],
    ids=["before", "first", "last", "after"],
)
def test_a_grant_holds_from_its_day_until_its_end(moment: datetime, holds: bool) -> None:
    assert bool(in_force([approval("a")], moment).approvals) is holds


@pytest.mark.parametrize(
    ("allowed", "days"),
    [
        (lambda names: True, None),
        (lambda names: "a" in names, 1),
        (lambda names: {"a", "b"} <= names, 1),
        (lambda names: "b" in names, 5),
        (lambda names: bool(names & {"a", "b"}), 1),
    ],
    ids=["none", "one", "both", "other", "either"],
)
def test_a_yes_ends_with_the_first_approval_that_it_rests_on(allowed: object, days: int | None) -> None:
    approved = {"a": NOW + DAY, "b": NOW + 5 * DAY}
    assert used_until(approved, allowed) == (None if days is None else NOW + days * DAY)  # type: ignore[arg-type]


LABELS = st.builds(
    Label,
    level=st.sampled_from(Level),
    categories=st.lists(st.sampled_from(["personal", "health"]), unique=True).map(tuple),
    regimes=st.lists(st.sampled_from(["gdpr", "ma-0908"]), unique=True).map(tuple),
)


@given(LABELS, LABELS)
def test_what_was_declared_only_grows_and_saying_less_is_seen(declared: Label, asked: Label) -> None:
    grown = kept(declared, asked)
    assert grown is not None
    assert covers(grown, declared)
    assert covers(grown, asked)
    assert lowers(declared, asked) is (combine(asked, declared) != combine(asked, asked))
    assert not lowers(grown, grown)


def test_what_nobody_declared_is_lowered_by_nobody() -> None:
    assert kept(None, UNLABELLED) is None
    assert not lowers(None, Label(level=Level.PUBLIC))
    internal = Label(level=Level.INTERNAL)
    assert kept(internal, UNLABELLED) == internal
    assert lowers(Label(level=Level.VITAL), UNLABELLED)


@given(LABELS, LABELS)
def test_a_declassification_goes_as_low_as_it_says_and_no_lower(to: Label, asked: Label) -> None:
    one = Declassification(
        installation=INSTALLATION, service=WEB, to=to, evidence="a file", issued_at=NOW, expires_at=NOW + DAY
    )
    held = Grants(declassifications=(one,))
    assert (held.lowered(WEB, asked) is not None) is covers(asked, to)
    assert held.lowered(SHOP, asked) is None
