from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.quotas import Amount, Claim, Kind, boundless, exceeds, use
from kasbah.domain.ids import Digest
from kasbah.domain.project import UNLIMITED, Quota

GIB = 2**30
WEB = Claim(
    service="web",
    replicas=3,
    cpu=0.5,
    memory=GIB,
    sources=frozenset({(Digest("sha256:a"), 10), (Digest("sha256:b"), 5)}),
)
API = Claim(service="api", replicas=2, cpu=1.0, memory=2 * GIB, sources=frozenset({(Digest("sha256:a"), 10)}))
FREE = Claim(service="free", replicas=4, cpu=None, memory=None)


@pytest.mark.parametrize(
    ("kind", "claims", "amount"),
    [
        (Kind.SERVICES, (WEB, API), Amount(much=2)),
        (Kind.REPLICAS, (WEB, API), Amount(much=5)),
        (Kind.CPU, (WEB, API), Amount(much=3.5)),
        (Kind.CPU, (WEB, FREE), Amount(boundless=4, much=1.5)),
        (Kind.CPU, (replace(WEB, cpu=0.1),), Amount(much=0.3)),
        (Kind.MEMORY, (WEB, API), Amount(much=7 * GIB)),
        (Kind.DISK, (WEB, API), Amount(much=15)),
        (Kind.DISK, (), Amount()),
    ],
)
def test_what_services_claim_adds_up_and_a_source_counts_once(kind, claims, amount) -> None:
    assert use(kind, claims) == amount


BIGGER = replace(WEB, replicas=4)
RICHER = replace(WEB, cpu=0.6)


@pytest.mark.parametrize(
    ("quota", "now", "then", "kinds"),
    [
        (UNLIMITED, (), (WEB, API, FREE), ()),
        (Quota(services=1), (), (WEB,), ()),
        (Quota(services=1), (WEB,), (WEB, API), ("services",)),
        (Quota(services=0), (), (WEB,), ("services",)),
        (Quota(replicas=3), (WEB,), (BIGGER,), ("replicas",)),
        (Quota(replicas=4), (WEB,), (BIGGER,), ()),
        (Quota(cpu=1.5), (WEB,), (RICHER,), ("cpu",)),
        (Quota(memory=3 * GIB), (), (WEB,), ()),
        (Quota(memory=3 * GIB - 1), (), (WEB,), ("memory",)),
        (Quota(disk=14), (API,), (WEB, API), ("disk",)),
        (Quota(services=0, replicas=0, disk=1), (), (WEB,), ("services", "replicas", "disk")),
        # Passed already: nothing grows, and whoever makes it less is welcome.
        (Quota(replicas=1), (WEB,), (WEB,), ()),
        (Quota(replicas=1), (BIGGER,), (WEB,), ()),
        (Quota(replicas=1), (WEB,), (BIGGER,), ("replicas",)),
        (Quota(replicas=1), (WEB, API), (RICHER, API), ()),
        # Without a limit of its own, no quota admits it, and giving it one helps.
        (Quota(cpu=1_000), (), (FREE,), ("cpu",)),
        (Quota(cpu=1), (FREE,), (FREE,), ()),
        (Quota(cpu=1), (FREE,), (replace(FREE, replicas=5),), ("cpu",)),
        (Quota(cpu=1), (FREE,), (replace(FREE, cpu=2.0),), ()),
        (Quota(cpu=10), (FREE,), (FREE, API), ("cpu",)),
        (Quota(replicas=10), (), (FREE,), ()),
    ],
)
def test_what_a_quota_refuses(quota, now, then, kinds) -> None:
    assert tuple(one.kind for one in exceeds(quota, now, then)) == kinds


def test_a_refusal_says_who_claims_how_much() -> None:
    (excess,) = exceeds(Quota(cpu=2), (WEB, FREE), (WEB, FREE, API))
    assert excess.limit == 2
    assert excess.used == Amount(boundless=4, much=1.5)
    assert excess.asked == Amount(boundless=4, much=3.5)
    assert excess.claimed == (("free", None), ("api", 2.0), ("web", 1.5))
    assert boundless(Kind.CPU, (WEB, FREE)) == ("free",)


CLAIMS = st.lists(
    st.builds(
        Claim,
        service=st.sampled_from(["a", "b", "c"]),
        replicas=st.integers(1, 5),
        cpu=st.none() | st.sampled_from([0.1, 0.5, 2.0]),
        memory=st.none() | st.integers(1, 10),
        sources=st.frozensets(st.sampled_from([(Digest("sha256:a"), 3), (Digest("sha256:b"), 4)])),
    ),
    max_size=4,
)
LIMITS = st.none() | st.integers(0, 12)
QUOTAS = st.builds(Quota, services=LIMITS, replicas=LIMITS, cpu=LIMITS, memory=LIMITS, disk=LIMITS)


@given(QUOTAS, CLAIMS)
def test_what_stays_as_it_is_is_never_refused(quota, now) -> None:
    assert exceeds(quota, now, now) == ()


@given(QUOTAS, CLAIMS, st.data())
def test_taking_away_is_never_refused(quota, now, data) -> None:
    then = [one for one in now if data.draw(st.booleans())]
    assert exceeds(quota, now, then) == ()


@given(QUOTAS, CLAIMS)
def test_from_nothing_exactly_what_is_within_every_limit_is_admitted(quota, then) -> None:
    within = all(
        limit is None or (use(kind, then).boundless == 0 and use(kind, then).much <= limit)
        for kind in Kind
        for limit in [getattr(quota, kind)]
    )
    assert (exceeds(quota, (), then) == ()) == within


@given(QUOTAS, CLAIMS, CLAIMS, CLAIMS)
def test_no_way_in_steps_leads_past_a_limit(quota, first, second, third) -> None:
    """Whatever is admitted step by step from nothing is within the limits."""
    now: list[Claim] = []
    for then in (first, second, third):
        if not exceeds(quota, now, then):
            now = then
    assert exceeds(quota, (), now) == ()
