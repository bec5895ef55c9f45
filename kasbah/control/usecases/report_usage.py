"""Takes usage from a site, each batch once: a batch is counted in the transaction that remembers its number."""

from __future__ import annotations

from dataclasses import astuple, replace

from kasbah.control.usecases.work import Work
from kasbah.domain.ids import SiteId
from kasbah.domain.observed import UsageBatch
from kasbah.errors import Invalid

MOST = 2**53
"""Above what any minute holds, and far below what a store can add up."""


def report_usage(work: Work, site: SiteId, batch: UsageBatch) -> None:
    """Count the batch, unless its number was counted before."""
    record = next(one for one in work.tx.sites.all() if one.id == site)
    counts = [count for _, one in batch.usage for count in astuple(one)] + [count for _, count in batch.entries]
    if not all(0 <= number < MOST for number in (batch.sequence, *counts)):
        raise Invalid("a batch of usage holds numbers from 0 to 2^53", where="usage")
    if batch.sequence <= record.usage_sequence:
        return
    work.tx.usage.add(batch.usage)
    work.tx.usage.enter((replace(key, site=key.site or site), count) for key, count in batch.entries)
    work.tx.sites.save(replace(record, usage_sequence=batch.sequence))
