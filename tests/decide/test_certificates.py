"""Which certificate serves which host: the times are data, so each case is a moment in a certificate's life."""

from __future__ import annotations

from dataclasses import replace

import pytest
from certificate_files import DAY, NOW
from hypothesis import given
from hypothesis import strategies as some

from kasbah.decide.certificates import choose, covers, fault
from kasbah.domain.certificate import Certificate

GOOD = Certificate(
    file="shop",
    digest="d1",
    names=("shop.example.org",),
    not_before=NOW - 10 * DAY,
    not_after=NOW + 80 * DAY,
    fits_key=True,
)
EXPIRED = replace(GOOD, digest="d2", not_after=NOW - DAY)
EARLY = replace(GOOD, digest="d3", not_before=NOW + DAY)
STRANGER = replace(GOOD, digest="d4", fits_key=False)
NAMELESS = replace(GOOD, digest="d5", names=())
BROKEN = Certificate(file="shop", problem="shop.crt holds no PEM certificate: write it again, whole")
FAULTY = {
    "it expired on 2026-02-28 12:00 UTC: renew it": EXPIRED,
    "it is not valid before 2026-03-02 12:00 UTC": EARLY,
    "shop.key is not its key": STRANGER,
    "it names no host as a subjectAltName": NAMELESS,
    "holds no PEM certificate": BROKEN,
}


def test_a_good_one_serves_without_a_word() -> None:
    chosen = choose([GOOD], [], NOW)
    assert (dict(chosen.hosts), chosen.kept, chosen.notes) == ({"shop.example.org": GOOD}, (GOOD,), ())


@pytest.mark.parametrize("said", FAULTY)
def test_what_is_not_sound_does_not_begin_to_serve(said: str) -> None:
    chosen = choose([FAULTY[said]], [], NOW)
    assert (dict(chosen.hosts), chosen.kept) == ({}, ())
    (note,) = chosen.notes
    assert note.startswith("shop.crt is refused: ")
    assert said in note
    assert note.endswith("it serves nothing")


@pytest.mark.parametrize("said", FAULTY)
def test_the_one_before_goes_on(said: str) -> None:
    chosen = choose([FAULTY[said]], [GOOD], NOW)
    assert (dict(chosen.hosts), chosen.kept) == ({"shop.example.org": GOOD}, (GOOD,))
    (note,) = chosen.notes
    assert said in note
    assert note.endswith("the one before it goes on, until 2026-05-20 12:00 UTC")


def test_one_that_expires_while_it_serves_goes_on_and_is_told() -> None:
    for days, said in ((60, ""), (70, "renew it"), (79, "renew it"), (80, "shop.crt serves, though it expired on")):
        chosen = choose([GOOD], [GOOD], NOW + days * DAY)
        assert dict(chosen.hosts) == {"shop.example.org": GOOD}
        assert said in " ".join(chosen.notes)
        assert bool(chosen.notes) == bool(said)


def test_a_file_that_is_gone_is_withdrawn() -> None:
    assert dict(choose([], [GOOD], NOW).hosts) == {}


def test_of_two_for_one_host_the_one_that_lasts_longer_serves() -> None:
    old = replace(GOOD, file="a-old", digest="d6", not_after=NOW + 20 * DAY)
    wide = replace(old, names=("shop.example.org", "www.example.org"))
    for found in ([old, GOOD], [GOOD, old]):
        chosen = choose(found, [], NOW)
        assert dict(chosen.hosts) == {"shop.example.org": GOOD}
        assert chosen.notes == ("a-old.crt serves nothing: other files are good for longer; remove it",)
    assert dict(choose([wide, GOOD], [], NOW).hosts) == {"shop.example.org": GOOD, "www.example.org": wide}


def test_only_so_many_hosts_are_served() -> None:
    wide = replace(GOOD, names=tuple(f"s{number}.example.org" for number in range(1_001)))
    chosen = choose([wide], [], NOW)
    assert len(chosen.hosts) == 1_000
    assert chosen.notes == ("1001 hosts have certificates, and 1000 are served: use wildcards",)


@pytest.mark.parametrize(
    ("names", "host", "yes"),
    [
        (("shop.example.org",), "shop.example.org", True),
        (("shop.example.org",), "a.shop.example.org", False),
        (("*.example.org",), "shop.example.org", True),
        (("*.example.org",), "a.shop.example.org", False),
        (("*.example.org",), "example.org", False),
        ((), "localhost", False),
    ],
)
def test_what_a_name_covers(names: tuple[str, ...], host: str, yes: bool) -> None:
    assert covers(names, host) is yes


days = some.integers(-100, 100).map(lambda number: NOW + number * DAY)
certificates = some.builds(
    Certificate,
    file=some.sampled_from(["a", "b", "c"]),
    digest=some.sampled_from(["1", "2", "3", "4"]),
    names=some.lists(some.sampled_from(["x.org", "y.org", "*.z.org"]), unique=True).map(tuple),
    not_before=days,
    not_after=days,
    fits_key=some.booleans(),
    problem=some.sampled_from(["", "it is broken"]),
)
folders = some.lists(certificates, unique_by=lambda one: one.file)


@given(found=folders, before=folders, now=days)
def test_what_always_holds(found: list[Certificate], before: list[Certificate], now: object) -> None:
    chosen = choose(found, before, now)  # type: ignore[arg-type]
    sound = [one for one in found if not fault(one, now)]  # type: ignore[arg-type]
    files = {one.file for one in found}
    assert set(sound) <= set(chosen.kept), "what is sound is kept"
    assert set(chosen.kept) <= {*sound, *before}, "nothing else begins to serve"
    assert {one.file for one in chosen.kept} == files & {one.file for one in (*sound, *before)}
    assert set(chosen.hosts.values()) <= set(chosen.kept)
    assert set(chosen.hosts) == {name for one in chosen.kept for name in one.names}, "each host is served"
    assert all(name in one.names for name, one in chosen.hosts.items())
    assert len(chosen.notes) >= len(files) - len(sound), "of each that is refused something is said"
    again = choose(found, chosen.kept, now)  # type: ignore[arg-type]
    assert again.hosts == chosen.hosts
