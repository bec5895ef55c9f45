"""How is a service's traffic divided while it moves from what served before to a new revision? In whole percents."""

from __future__ import annotations

from kasbah.domain.ids import RevisionId
from kasbah.domain.service import Share

WHOLE = 100


def shift(before: tuple[Share, ...], revision: RevisionId, percent: int) -> tuple[Share, ...]:
    """The shares when `revision` gets `percent`: those of before keep their proportions in what is left. Once nothing
    is left, the greatest of them stays at hand with 0."""
    others = [share for share in before if share.percent > 0 and share.revision != revision]
    if not others:
        return (Share(revision=revision, percent=WHOLE),)
    if percent == WHOLE:
        kept = max(others, key=lambda share: share.percent)
        return (Share(revision=revision, percent=WHOLE), Share(revision=kept.revision, percent=0))
    return (Share(revision=revision, percent=percent), *_scaled(others, WHOLE - percent))


def alone(revision: RevisionId) -> tuple[Share, ...]:
    """All traffic to one revision, with nothing at hand."""
    return (Share(revision=revision, percent=WHOLE),)


def beside(before: tuple[Share, ...], revision: RevisionId) -> tuple[Share, ...]:
    """The shares of before, with `revision` at hand; where nothing served before, it gets everything."""
    if not any(share.percent for share in before):
        return alone(revision)
    if any(share.revision == revision for share in before):
        return before
    return (*before, Share(revision=revision, percent=0))


def _scaled(shares: list[Share], whole: int) -> list[Share]:
    """The same proportions of `whole`, in whole percents: what rounding leaves goes to those it took the most from."""
    total = sum(share.percent for share in shares)
    exact = [share.percent * whole / total for share in shares]
    floors = [int(part) for part in exact]
    by_loss = sorted(range(len(shares)), key=lambda index: floors[index] - exact[index])
    for index in by_loss[: whole - sum(floors)]:
        floors[index] += 1
    return [Share(revision=share.revision, percent=part) for share, part in zip(shares, floors, strict=True)]
