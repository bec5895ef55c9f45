"""Would sites take this revision, by who signed it? Asked before it is written, so that a deploy that they would refuse
is refused where its deployer sees it. The last word is theirs (`agent/last_word.py`); the question is the same.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.attesting import contents_of, digest_of, read_attestation
from kasbah.control.store.records import RevisionRecord, ServiceRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.lawful import label_of
from kasbah.control.usecases.work import Work
from kasbah.decide.signed import FROM, Deployed, Signature, problem_of
from kasbah.domain.attestation import Attestation, Attested
from kasbah.domain.label import Level, covers
from kasbah.domain.revision import Revision
from kasbah.domain.service import Access
from kasbah.errors import Denied


def vouched(
    work: Work, existing: ServiceRecord | None, service: ServiceRecord, revision: Revision, given: Attested | None
) -> Attested | None:
    """The signature that the revision is kept with: the one it has where that is as good as the one given now. Raises
    Denied where sites would refuse the revision."""
    wanted = _deployed(work, service, revision)
    found = next((one for one in _same(work, service, wanted) if one.attested is not None), None)
    known = None if found is None else found.attested
    level = _asked(work, existing, service)
    for one in ((known,) if _says_who_may_call(work, service) else ()) + (given,):
        if one is not None and _good(work, one, wanted, level, service):
            return one
    if level < FROM or _held(work, existing, service, revision, level):
        return known
    signature = None if given is None else signature_of(given)
    problem = problem_of(signature, wanted, level, work.law.grants.deployers)
    if problem is None:
        assert signature is not None
        problem = f"its deployer signed {_other_than(signature.attestation, service)}"
    raise Denied(
        f"{service.name} has data of level {int(level)}, and sites run that only as a deployer signed it whom the "
        f"owner named: {problem}",
        hint=_next_step(given),
        code="not_signed_by_deployer",
    )


def problem_with(work: Work, service: ServiceRecord, record: RevisionRecord) -> str:
    """Why sites that have not taken the revision yet would refuse it, and the next step; "" where they would not."""
    level = label_of(work.law, service).level
    if level < FROM:
        return ""
    signature = None if record.attested is None else signature_of(record.attested)
    wanted = _deployed(work, service, record.contents)
    problem = problem_of(signature, wanted, level, work.law.grants.deployers)
    if problem is None and service.access is Access.PUBLIC:
        last = _last_word(work, service)
        if last is None or not _opens_as_much(work, last, service):
            return "no deployer has signed that anybody may call it: they would ask for a key; deploy it again"
    return "" if problem is None else f"{problem}; {_next_step(record.attested)}"


def deployer_of(work: Work, attested: Attested | None) -> str:
    """Who signed, by the name that the owner gave him; "" where he is not named now."""
    named = (one.name for one in work.law.grants.deployers if attested is not None and one.key == attested.key)
    return next(named, "")


def signature_of(attested: Attested) -> Signature | None:
    """What was signed; None where it was not."""
    found = read_attestation(attested)
    return None if found is None else Signature(key=attested.key, attestation=found)


def sign_again(work: Work, service: ServiceRecord, revision: Revision, attested: Attested | None) -> None:
    """Keep another signature with a revision that is there already."""
    known = work.tx.revisions.get(service.id, revision.id)
    if known is not None and attested is not None and known.attested != attested:
        work.tx.revisions.put(replace(known, attested=attested))


def _good(work: Work, attested: Attested, wanted: Deployed, level: Level, service: ServiceRecord) -> bool:
    """Whether a signature says this, and who made it is named for this level. Below the first level that needs one it
    is kept with the revision for the day on which its label rises."""
    signature = signature_of(attested)
    if problem_of(signature, wanted, level, work.law.grants.deployers) is not None:
        return False
    assert signature is not None
    return covers(service.label, signature.attestation.label) and _opens_as_much(work, signature, service)


def _other_than(said: Attestation, service: ServiceRecord) -> str:
    """What was signed that is not what is deployed."""
    if not covers(service.label, said.label):
        return "another label than it is deployed with"
    if said.public and service.access is Access.PUBLIC:
        return f"that anybody may call it for data of level {int(said.label.level)} alone"
    return "another access than it is deployed with"


def _opens_as_much(work: Work, signature: Signature, service: ServiceRecord) -> bool:
    """Whether it says of who may call the service what is said of it now, for data as sensitive; who said nothing meant
    holders of keys."""
    said, level = signature.attestation, label_of(work.law, service).level
    if service.access is not Access.PUBLIC:
        return not said.public
    return bool(said.public) and (level < FROM or said.label.level >= level)


def _says_who_may_call(work: Work, service: ServiceRecord) -> bool:
    """Whether the last that was signed of any of its revisions says so: sites take the last that they saw."""
    last = _last_word(work, service)
    return last is None or _opens_as_much(work, last, service)


def _last_word(work: Work, service: ServiceRecord) -> Signature | None:
    """What was signed last that says who may call a service."""
    kept = (one.attested for one in work.tx.revisions.of(service.id))
    signed = [found for one in kept if one is not None and (found := signature_of(one)) is not None]
    said = (one for one in signed if one.attestation.public is not None)
    return max(said, key=lambda one: one.attestation.signed_at, default=None)


def _asked(work: Work, existing: ServiceRecord | None, service: ServiceRecord) -> Level:
    """The level that a deployer must be named for: that of the data. The first label of what nobody had labelled is
    given by somebody who might deploy it as it was."""
    level = label_of(work.law, service).level
    first = existing is not None and existing.declared is None and service.label.declared
    return max(level, FROM) if first else level


def _held(work: Work, existing: ServiceRecord | None, service: ServiceRecord, revision: Revision, level: Level) -> bool:
    """Whether sites hold this very revision already, for data of this level: what was taken stays."""
    if existing is None or work.tx.revisions.get(service.id, revision.id) is None:
        return False
    if service.access is Access.PUBLIC and existing.access is not Access.PUBLIC:
        return False
    return label_of(work.law, existing).level >= level and (existing.declared is None) == (service.declared is None)


def _same(work: Work, service: ServiceRecord, wanted: Deployed) -> list[RevisionRecord]:
    """The kept revisions with these contents, the newest first: they may differ in the versions of secrets."""
    kept = reversed(work.tx.revisions.of(service.id))
    return [one for one in kept if digest_of(contents_of(one.contents)) == wanted.contents]


def _deployed(work: Work, service: ServiceRecord, revision: Revision) -> Deployed:
    return Deployed(
        installation=installation_of(work).id,
        project=service.project,
        service=service.name,
        contents=digest_of(contents_of(revision)),
    )


def _next_step(attested: Attested | None) -> str:
    if attested is None:
        return (
            "`kasbah deploy` signs with the deployer's key that it finds (--deployer-key PATH); make one with `kasbah "
            "deployers key`, and have the owner name it: kasbah deployers add"
        )
    return f"have the owner name this key: kasbah deployers add NAME --key {attested.key} --evidence WHY --expires 90d"
