"""May this be read or run at a site by whoever has a ticket of the control plane's? From level 3 on, only with the
signature of a deployer whom the owner named.

Without that a captured control plane could write itself a ticket, run a command inside a replica of a sensitive
service, and read what lies there: what it may not hand other code for (`decide/signed.py`) it could take by hand.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from kasbah.decide.signed import FROM, not_named
from kasbah.domain.errand import Errand, SignedErrand
from kasbah.domain.grant import Deployer
from kasbah.domain.label import Level


def refusal(
    signed: SignedErrand | None, wanted: Errand | None, level: Level, deployers: Collection[Deployer], now: datetime
) -> str | None:
    """Why it may not; None where it may. `wanted` is what is about to be done (None: the site knows no such service),
    `level` that of the service's data as the site knows it."""
    if level < FROM:
        return None
    if signed is None:
        return "no deployer has signed it"
    if wanted is None or signed.errand != wanted:
        return "its deployer signed something else"
    named = [one for one in deployers if one.issued_at <= now < one.expires_at]
    return not_named(signed.key, wanted.project, level, named)
