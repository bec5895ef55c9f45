"""Takes usage from a site, each batch once: a batch is counted in the transaction that remembers its number."""

from __future__ import annotations

from dataclasses import replace

from kasbah.control.usecases.work import Work
from kasbah.domain.ids import SiteId
from kasbah.domain.observed import UsageBatch


def report_usage(work: Work, site: SiteId, batch: UsageBatch) -> None:
    """Count the batch, unless its number was counted before."""
    record = next(one for one in work.tx.sites.all() if one.id == site)
    if batch.sequence <= record.usage_sequence:
        return
    work.tx.usage.add(batch.usage)
    work.tx.sites.save(replace(record, usage_sequence=batch.sequence))
