"""Who serves a class of requests, and who may pass them on: a table, and what holds whatever the law says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.crossing import decide, lane
from kasbah.domain.crossing import Lane, address_error
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label, Level

LABEL = Label(level=Level.RESTRICTED, categories=("personal",))
A, B, C = (SiteId(f"st-{name}") for name in "abc")
ALL = (A, B, C)
sets = st.frozensets(st.sampled_from(ALL))


def lanes(chosen: tuple[SiteId, ...], place: str, forward: str, dialled: str = "abc") -> dict[str, Lane | None]:
    named = {"a": A, "b": B, "c": C}
    decision = decide(LABEL, chosen, place=[named[one] for one in place], forward=[named[one] for one in forward])
    return {name: lane(decision, site, [named[one] for one in dialled]) for name, site in named.items()}


@pytest.mark.parametrize(
    ("chosen", "place", "forward", "dialled", "to", "entries"),
    [
        pytest.param((B,), "abc", "abc", "abc", {"a": (B,), "b": (), "c": (B,)}, {"b": (A, C)}, id="one site"),
        pytest.param((C, B), "abc", "abc", "abc", {"a": (C, B), "b": (C,), "c": (B,)}, {"b": (A, C)}, id="in order"),
        pytest.param((B,), "abc", "bc", "abc", {"a": None, "b": (), "c": (B,)}, {"b": (C,)}, id="no way through a"),
        pytest.param((B, C), "b", "abc", "abc", {"a": (B,), "b": (), "c": (B,)}, {"b": (A, C)}, id="c may not serve"),
        pytest.param((B,), "abc", "ac", "abc", {"a": (), "b": (), "c": ()}, {"b": ()}, id="none may pass to b"),
        pytest.param((B,), "ac", "abc", "abc", {"a": None, "b": None, "c": None}, {}, id="nobody may serve"),
        pytest.param((), "abc", "abc", "abc", {"a": None, "b": None, "c": None}, {}, id="placed nowhere"),
        pytest.param((B, C), "abc", "abc", "c", {"a": (C,), "b": (C,), "c": ()}, {"b": (A, C)}, id="b is not dialled"),
    ],
)
def test_lanes(
    chosen: tuple[SiteId, ...],
    place: str,
    forward: str,
    dialled: str,
    to: dict[str, tuple[SiteId, ...] | None],
    entries: dict[str, tuple[SiteId, ...]],
) -> None:
    found = lanes(chosen, place, forward, dialled)
    assert {name: None if one is None else one.to for name, one in found.items()} == to
    assert {name: found[name].entries for name in entries} == entries  # type: ignore[union-attr]


@given(chosen=st.lists(st.sampled_from(ALL), unique=True), place=sets, forward=sets, dialled=sets)
def test_nothing_goes_where_the_law_does_not_allow_it(
    chosen: list[SiteId], place: frozenset[SiteId], forward: frozenset[SiteId], dialled: frozenset[SiteId]
) -> None:
    decision = decide(LABEL, chosen, place=place, forward=forward)
    found = {site: lane(decision, site, dialled) for site in ALL}
    for site, one in found.items():
        if one is None:
            continue
        serves = site in chosen and site in place
        assert serves or site in forward, "it is known only where its requests may be"
        assert set(one.to) <= set(chosen) & place & forward & dialled - {site}
        assert not one.to or site in forward
        assert set(one.entries) <= (forward - {site} if serves else set())
        for other in one.to:
            there = found[other]
            assert there is not None
            assert site in there.entries, "who is sent a request takes it"


def test_another_outcome_is_another_decision() -> None:
    first = decide(LABEL, ALL, place=ALL, forward=ALL)
    assert first.id == decide(LABEL, ALL, place=(C, B, A), forward=(C, B, A)).id
    others = (
        decide(LABEL, (B, A, C), place=ALL, forward=ALL),
        decide(LABEL, ALL, place=(A, B), forward=ALL),
        decide(LABEL, ALL, place=ALL, forward=(A, B)),
        decide(Label(level=Level.VITAL), ALL, place=ALL, forward=ALL),
    )
    assert len({first.id, *(one.id for one in others)}) == 5


@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param("192.0.2.1:9443", None, id="IPv4"),
        pytest.param("[2001:db8::1]:9443", None, id="IPv6"),
        pytest.param("gateway.example.org:9443", None, id="name"),
        pytest.param("", "no port", id="nothing"),
        pytest.param("192.0.2.1", "no port", id="no port"),
        pytest.param("192.0.2.1:0", "no port", id="port 0"),
        pytest.param("192.0.2.1:65536", "no port", id="port too great"),
        pytest.param("192.0.2.1:" + "9" * 5_000, "no port", id="port without end"),
        pytest.param("192.0.2.1:٣", "no port", id="port in other digits"),
        pytest.param("0.0.0.0:9443", "every address", id="wildcard"),
        pytest.param("[::]:9443", "every address", id="IPv6 wildcard"),
        pytest.param("[fe80::1%eth0]:9443", "interface", id="an interface"),
        pytest.param("a b:9443", "neither", id="no name"),
        pytest.param("a_b\n.example:9443", "neither", id="a line's end"),
        pytest.param(":9443", "neither", id="no host"),
    ],
)
def test_addresses(address: str, said: str | None) -> None:
    found = address_error(address)
    assert (found is None) if said is None else (found is not None and said in found)
