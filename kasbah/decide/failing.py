"""Do more requests of a new revision fail than failed before it? Answered only when chance is no likely reason.

The share of failures seen in a few requests says little about the true one: compared is the lower end of what the true
share may be, the Wilson score interval's at 95 % (E. B. Wilson, "Probable inference", JASA 22, 1927).
"""

from __future__ import annotations

from math import sqrt

from kasbah.domain.usage import Usage

LEAST_FAILURES = 5
"""Fewer prove nothing: a client that sends nonsense can cause as many."""
NORMAL_QUANTILE = 1.96


def fails_more(new: Usage, before: Usage, *, tolerance: int) -> str | None:
    """Why the new revision is not to be trusted, or None. `tolerance` is in percent of the requests."""
    if new.failed < LEAST_FAILURES:
        return None
    usual = before.failed / before.requests if before.requests else 0.0
    if at_least(new.failed, new.requests) <= usual + tolerance / 100:
        return None
    return f"{new.failed} of its {new.requests} requests failed; before it, {before.failed} of {before.requests} did"


def at_least(failed: int, requests: int) -> float:
    """The smallest share of failures, 0 to 1, that is likely to be behind `failed` of `requests`."""
    share, spread = failed / requests, NORMAL_QUANTILE**2 / requests
    centre = share + spread / 2
    margin = NORMAL_QUANTILE * sqrt(share * (1 - share) / requests + spread / (4 * requests))
    return max((centre - margin) / (1 + spread), 0.0)
