"""Medians, percentiles and ratios of what was measured in turns. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed."""
    if not values:
        raise ValueError("there are no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    return (min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair: what a crowded machine does to one round it does to both of its halves."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True) if other > 0]


def middle_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of the ratios; None where nothing can be compared."""
    found = ratios(ours, theirs)
    return median(found) if found else None
