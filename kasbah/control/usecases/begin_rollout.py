"""Writes a new rollout of a revision that is kept, and takes its first step. Whatever is under way was ended before."""

from __future__ import annotations

from kasbah.control.store.records import RevisionRecord, RolloutRecord, ServiceRecord
from kasbah.control.usecases.advance import commit, decide, snapshot
from kasbah.control.usecases.quotas import REVISIONS_KEPT
from kasbah.control.usecases.work import Work, new_id
from kasbah.decide.keeping import surplus_revisions
from kasbah.domain.attestation import Attested
from kasbah.domain.ids import RevisionId, RolloutId
from kasbah.domain.revision import Revision
from kasbah.domain.rollout import Cause, RolloutRules, RolloutState

ROLLOUTS_KEPT = 20


def keep_revision(work: Work, service: ServiceRecord, contents: Revision, attested: Attested | None) -> None:
    """Keep the revision as the service's newest, as it was signed now; one that is known keeps what is known of it."""
    kept = work.tx.revisions.of(service.id)
    known = work.tx.revisions.get(service.id, contents.id)
    work.tx.revisions.put(
        RevisionRecord(
            service=service.id,
            id=contents.id,
            number=max((one.number for one in kept), default=0) + 1,
            created_at=known.created_at if known else work.now,
            contents=contents,
            proven=known is not None and known.proven,
            attested=attested or (None if known is None else known.attested),
        )
    )


def begin_rollout(
    work: Work, service: ServiceRecord, revision: RevisionId, *, rules: RolloutRules, cause: Cause = Cause.DEPLOY
) -> RolloutRecord:
    """The rollout, as it is after its first step."""
    last = next(iter(work.tx.rollouts.last((service.id,))), None)
    rollout = RolloutRecord(
        id=RolloutId(new_id("rollout")),
        service=service.id,
        number=last.number + 1 if last else 1,
        revision=revision,
        state=RolloutState.WAITING,
        started_at=work.now,
        changed_at=work.now,
        rules=rules,
        cause=cause,
        before=service.shares,
    )
    work.tx.rollouts.add(rollout)
    seen = snapshot(work, rollout)
    assert seen is not None, "the rollout, its service and its revision were written just now"
    begun = commit(work, seen, decide(seen, work.now)) or rollout
    _prune(work, begun)
    return begun


def _prune(work: Work, rollout: RolloutRecord) -> None:
    """Keep the newest revisions, those with a share, and those that this rollout is between."""
    service = work.tx.services.get(rollout.service)
    used = {share.revision for share in (*rollout.before, *(service.shares if service else ()))} | {rollout.revision}
    revisions = [one.id for one in work.tx.revisions.of(rollout.service)]
    work.tx.revisions.drop(rollout.service, surplus_revisions(revisions, used, keep=REVISIONS_KEPT))
    work.tx.rollouts.trim(rollout.service, ROLLOUTS_KEPT)
