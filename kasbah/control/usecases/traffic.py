"""Divides a service's traffic between its revisions, as a person says. A rollout under way ends: two hands on one wheel
would undo each other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from kasbah.api.public import TrafficRequest
from kasbah.control.store.records import RevisionRecord, ServiceRecord
from kasbah.control.usecases.quotas import allow
from kasbah.control.usecases.supersede import supersede
from kasbah.control.usecases.work import Work, check_version, revision_named, save_service, service_named
from kasbah.domain.service import Share
from kasbah.errors import Conflict, Invalid


def set_traffic(work: Work, project: str, name: str, request: TrafficRequest) -> ServiceRecord:
    """Give each named revision its part; one of 0 is kept at hand. All others get none."""
    service = service_named(work, project, name)
    check_version(service, request.expected_version)
    chosen = [(revision_named(work, service, one.revision), one.percent) for one in request.shares]
    _check(service, chosen)
    shares = tuple(Share(revision=revision.id, percent=percent) for revision, percent in chosen)
    told = ", ".join(f"{share.revision} {share.percent}%" for share in shares)
    work.journal.detail(service=service.id, shares=told)
    service = supersede(work, service, by="traffic was set by hand")
    if service.shares == shares:
        return service
    divided = replace(service, shares=shares)
    allow(work, divided)
    return save_service(work, divided)


def _check(service: ServiceRecord, chosen: list[tuple[RevisionRecord, int]]) -> None:
    whole = sum(percent for _, percent in chosen)
    if whole != 100:
        told = " + ".join(f"{percent}" for _, percent in chosen)
        raise Invalid(
            f"the shares add up to {whole} ({told}), not to 100",
            where="shares",
            hint="every request goes somewhere: give each revision that serves its part, in whole percents",
            code="shares_not_whole",
        )
    for revision, count in Counter(revision.id for revision, _ in chosen).items():
        if count > 1:
            raise Invalid(f"revision {revision} is named {count} times", where="shares", hint="name each once")
    for revision_record, _ in chosen:
        if not revision_record.proven:
            raise Conflict(
                f"revision {revision_record.id} of {service.name} has not shown that it starts",
                hint=f"deploy it; `kasbah describe {service.name}` says how far it has come",
                code="not_proven",
            )
    alone = next((revision.contents for revision, _ in chosen if revision.contents.alone), None)
    if alone is not None and len(chosen) > 1:
        port = alone.port
        raise Invalid(
            f"port {port} is fixed, so only one revision can run"
            if port is not None
            else f"its volume {alone.volumes[0].name} is one replica's at a time, so only one revision can run",
            where="shares",
            hint="remove port from kasbah.yaml, listen on PORT, and deploy again"
            if port is not None
            else "give all of the traffic to one revision",
        )
