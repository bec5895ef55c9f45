"""Which of the keys that a site was told of still open anything?

The gateway refuses a key from its end on by itself, by the clock of the machine, with no agent too. One that is behind
would keep it open: what has ended by the site's own time is not handed to the gateway at all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from kasbah.domain.desired import DesiredState
from kasbah.domain.service import Key


def with_open_keys(desired: DesiredState, now: datetime) -> DesiredState:
    """The desired state without the keys that have ended; the same one where none has."""
    kept = tuple(key for key in desired.keys if opens(key, now))
    return desired if len(kept) == len(desired.keys) else replace(desired, keys=kept)


def opens(key: Key, now: datetime) -> bool:
    """Whether its end is to come, or it has none."""
    return key.expires_at is None or now < key.expires_at
