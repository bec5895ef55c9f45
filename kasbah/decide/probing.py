"""When is a replica that starts asked again whether it answers?

Being late costs whoever waits for it, and asking costs the app processor time that it starts with. An app starts much
like the last time, so it is asked most often around then.
"""

from __future__ import annotations

FIRST_SECONDS, LONGEST_SECONDS = 0.002, 0.05
"""The shortest and the longest pause. Even an app that is not expected for long is noticed soon."""
UNKNOWN, EARLY, NEAR = 1 / 32, 1 / 8, 1 / 128
"""What part of a start may pass before it is noticed: with nothing known, before it is likely, and around then."""
UNLIKELY = 1 / 32
"""And what part of the last start: none is over in a moment that never was before."""
NEAR_FROM, NEAR_UNTIL = 0.75, 1.5
"""Around what the last start took: from three quarters of it, as a start on an idle machine may take, to half as much
again. Past that this one is not like the last."""


def pause(passed: float, usual: float | None) -> float:
    """Seconds until a replica that has been starting for `passed` seconds is asked again, where the last start of its
    revision took `usual` seconds (None: it is not known)."""
    if usual is None or passed > usual * NEAR_UNTIL:
        wanted = passed * UNKNOWN
    elif passed >= usual * NEAR_FROM:
        wanted = passed * NEAR
    else:
        wanted = min(max(passed * EARLY, usual * UNLIKELY), usual * NEAR_FROM - passed)
    return min(max(wanted, FIRST_SECONDS), LONGEST_SECONDS)
