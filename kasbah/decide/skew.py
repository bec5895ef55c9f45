"""Is a site's clock off, and what should its owner do about it?"""

from __future__ import annotations

from datetime import datetime, timedelta

KEPT_EVERY = timedelta(minutes=1)
"""A site that is cut off and restarted may take what it heard last for so much older than it is."""

TOLERATED = timedelta(seconds=30)
"""Clocks that are kept by NTP are within a second; what a poll takes comes on top of that."""


def skew_note(skew: timedelta, own: datetime, signed: datetime | None, file: str) -> str:
    """What to say of a clock that was `skew` ahead of the control plane's when that was heard last; "": nothing.

    `own` is the machine's time now, `signed` the newest that the control plane signed, kept in `file`: the site goes by
    the later of the two.
    """
    if abs(skew) <= TOLERATED:
        ahead = signed - own if signed is not None else timedelta()
        if ahead <= TOLERATED:
            return ""
        return (
            f"the control plane signed a time {_length(ahead)} ahead of this machine's clock, and this site goes by "
            f"that: where that time was wrong, set the control plane's clock, then move {file} and the desired state "
            f"beside it away and restart the agent"
        )
    if skew > timedelta():
        return (
            f"this machine's clock is {_length(skew)} ahead of the control plane's: what expires ends here so much "
            f"too early; set both by NTP"
        )
    return (
        f"this machine's clock is {_length(-skew)} behind the control plane's, whose time this site goes by: "
        f"connections between sites are still checked by the machine's; set both by NTP"
    )


def _length(span: timedelta) -> str:
    """In words that rest: in minutes where it is some, since each poll finds a second more or less.

    >>> _length(timedelta(hours=1, seconds=5)), _length(timedelta(seconds=40))
    ('1 h 0 min', 'less than a minute')
    """
    hours, minutes = divmod(round(span / timedelta(minutes=1)), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if span >= timedelta(minutes=1) else "less than a minute"
