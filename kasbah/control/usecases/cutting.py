"""Does the law take something from what passes at a site? Then streams that are open there end, as requests end that
were not sent yet.

What is deleted, or served elsewhere from now on, is cut by nobody here: its replicas finish what they have.
"""

from __future__ import annotations

from collections.abc import Iterable

from kasbah.control.store.interface import Transaction
from kasbah.control.usecases.law_now import LawNow
from kasbah.control.usecases.lawful import Places, admissions, label_of
from kasbah.domain.desired import Pass
from kasbah.domain.ids import SiteId
from kasbah.domain.law import Purpose


def taken_by_law(tx: Transaction, law: LawNow, places: Places, site: SiteId, gone: Iterable[Pass]) -> bool:
    """Whether any of what passes no more at this site, or comes no more from another, may not by law; a site that is
    not there any more may have nothing."""
    for service, entry in gone:
        record = tx.services.get(service)
        if record is None or record.deleted_at is not None:
            continue
        if entry not in places:
            return True
        asked = {one: places[one] for one in (site, entry)}
        answers = admissions(law.of(record), label_of(law, record), asked, Purpose.FORWARD)
        if not all(one.allowed for one in answers.values()):
            return True
    return False
