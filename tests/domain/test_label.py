from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kasbah.domain.label import UNLABELLED, Label, Level, combine

WORDS = st.lists(st.sampled_from(["personal", "health", "financial"]), unique=True).map(lambda one: tuple(sorted(one)))
LABELS = st.builds(Label, level=st.sampled_from(Level), categories=WORDS, regimes=WORDS, declared=st.booleans())


def test_unlabelled_means_sensitive() -> None:
    assert (UNLABELLED.level, UNLABELLED.declared) == (Level.SENSITIVE, False)


@given(LABELS, LABELS, LABELS)
def test_what_is_made_from_several_is_at_least_as_sensitive_as_each(first: Label, second: Label, third: Label) -> None:
    both = combine(first, second)
    for one in (first, second):
        assert both.level >= one.level
        assert set(one.categories) <= set(both.categories)
        assert set(one.regimes) <= set(both.regimes)
        assert one.declared or not both.declared
    assert both == combine(second, first)
    assert combine(both, third) == combine(first, combine(second, third))
    assert combine(first, first) == first
