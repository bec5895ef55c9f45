"""What would this deploy do? Compares what is asked with what is there; changes nothing. `deploy` carries it out.

A revision is what runs: source, resolved configuration, the builder's version. Access, domains, scaling, sleep, the
rules of rollouts and the label are the service's own and change without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kasbah.api.public import DeployRequest
from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import RolloutRecord, ServiceRecord, SiteRecord
from kasbah.control.usecases.differences import differences, revision_differences
from kasbah.control.usecases.domains import check_domains
from kasbah.control.usecases.lawful import opens
from kasbah.control.usecases.lowering import check_label
from kasbah.control.usecases.placing import exits_of, placed, survey
from kasbah.control.usecases.publish import host_error
from kasbah.control.usecases.quotas import excesses
from kasbah.control.usecases.revision_of import revision_of
from kasbah.control.usecases.secret_labels import check_secrets
from kasbah.control.usecases.vouching import vouched
from kasbah.control.usecases.work import Work, new_id, project_named
from kasbah.decide.egress import Exits
from kasbah.decide.grants import kept
from kasbah.decide.quotas import Excess
from kasbah.domain.attestation import Attested
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.placement import Placement
from kasbah.domain.revision import Revision
from kasbah.domain.rollout import RolloutState
from kasbah.domain.service import Share, name_error
from kasbah.errors import Invalid, TooLarge

PARTS = ("access", "domains", "label", "scaling", "sleep", "rollout_rules", "constraints")
"""What a deploy changes of a service that exists."""


class Action(StrEnum):
    """What a deploy does to a service."""

    CREATE = "create"
    UPDATE = "update"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A deploy with nothing left to choose.

    `service` is the service as it will be, `existing` as it is. `starts`: a rollout is started; otherwise the
    revision serves already, or `joins` is the rollout that brings it. `opens`: by site, what single change would open
    it. `exits` is what it may call, `attested` what its deployer signed. `refused`: the quotas that do not allow it.
    """

    action: Action
    service: ServiceRecord
    existing: ServiceRecord | None
    revision: Revision
    changes: tuple[str, ...]
    starts: bool
    joins: RolloutRecord | None
    placement: Placement
    opens: Mapping[SiteId, tuple[str, ...]]
    exits: Exits
    attested: Attested | None = None
    refused: tuple[Excess, ...] = ()


def plan(work: Work, project: str, name: str, request: DeployRequest) -> Plan:
    """What deploying `request` as `name` would do now."""
    owner = project_named(work.tx, project)
    _check(work, project, name, request)
    existing = work.tx.services.find(owner.id, name)
    check_domains(work, owner.id, name, request.config.domains)
    config = request.config
    asked = ServiceRecord(
        id=ServiceId(new_id("service")),
        project=owner.id,
        name=name,
        access=config.access,
        domains=config.domains,
        label=config.label,
        declared=kept(None if existing is None else existing.declared, config.label),
        scaling=config.scaling.to_domain(),
        sleep=config.sleep.to_domain(),
        rollout_rules=config.rollout.to_domain(),
        constraints=config.placement.to_domain(),
        created_at=work.now,
    )
    service = asked if existing is None else _updated(existing, asked)
    estate = survey(work, room=service.scaling.min > 0)
    law = estate.law.of(service)
    check_label(law, service)
    revision = revision_of(work, owner.id, service.id, request)
    given = None if request.attested is None else request.attested.to_domain()
    attested = vouched(work, existing, service, revision, given)
    check_secrets(work, service, revision.secrets)
    joins, starts = (None, True) if existing is None else _rollout(work.tx, existing, revision)
    placement = placed(work, estate, service, revision)
    service = replace(service, placement=_placement(existing, service, placement))
    changes = (
        *_changes(work.tx, existing, service, revision, starts=starts),
        *_moves(existing, service, estate.sites),
    )
    return Plan(
        action=Action.CREATE if existing is None else Action.UPDATE if changes else Action.NONE,
        service=service,
        existing=existing,
        revision=revision,
        changes=changes,
        starts=starts,
        joins=joins,
        placement=placement,
        opens=opens(law, service.label, estate.places),
        exits=exits_of(work, estate, service, revision),
        attested=attested,
        refused=excesses(work, service, runs=revision),
    )


def _check(work: Work, project: str, name: str, request: DeployRequest) -> None:
    if (problem := name_error(name) or host_error(name, project)) is not None:
        raise Invalid(problem, where="name", code="invalid_name", hint="rename the service in kasbah.yaml")
    if request.config.image is not None:
        raise Invalid(
            "no site here has a container driver, so an image cannot run",
            where="config.image",
            code="no_container_driver",
            hint="deploy the source instead: replace image by source and, where needed, command",
        )
    most = work.rules.limits.source_bytes
    if request.source_size > most:
        raise TooLarge(
            f"the source is {request.source_size / 2**20:.0f} MiB; {most / 2**20:.0f} MiB is the most",
            where="source_size",
            hint="leave what is not needed out with .kasbahignore or .gitignore",
        )


def _updated(existing: ServiceRecord, asked: ServiceRecord) -> ServiceRecord:
    return replace(
        existing,
        access=asked.access,
        domains=asked.domains,
        label=asked.label,
        declared=asked.declared,
        scaling=asked.scaling,
        sleep=asked.sleep,
        rollout_rules=asked.rollout_rules,
        constraints=asked.constraints,
    )


def _placement(existing: ServiceRecord | None, service: ServiceRecord, decided: Placement) -> Placement | None:
    """Where the service is once this is done, its rollout apart. One whose label changed may have lost its place, or
    won one: what becomes unlawful ends there at once. One that asks for another place gets it."""
    if existing is None or existing.placement is None:
        return service.placement
    if existing.constraints != service.constraints:
        return decided
    if existing.label == service.label:
        return service.placement
    unlawful = {one.site for one in decided.verdicts if one.rules or one.unmet}
    stays = existing.placement.chosen and not unlawful.intersection(existing.placement.chosen)
    return existing.placement if stays else decided


def _rollout(tx: Transaction, existing: ServiceRecord, revision: Revision) -> tuple[RolloutRecord | None, bool]:
    """The rollout that brings this revision already, or whether one must be started."""
    last = next(iter(tx.rollouts.last((existing.id,))), None)
    if last is None or last.state.ended:
        return None, _gets(existing.shares, revision) != 100
    if last.revision == revision.id:
        return last, False
    return None, _gets(existing.shares if last.percent == 100 else last.before, revision) != 100


def _gets(shares: tuple[Share, ...], revision: Revision) -> int:
    """The part of the traffic that the revision has once nothing is under way."""
    return sum(share.percent for share in shares if share.revision == revision.id)


def _changes(
    tx: Transaction, existing: ServiceRecord | None, service: ServiceRecord, revision: Revision, *, starts: bool
) -> tuple[str, ...]:
    if existing is None:
        return (f"service {service.name} is new", f"revision {revision.id} is built, started and proven")
    lines = tuple(line for part in PARTS for line in differences_of(part, existing, service))
    last = next(iter(tx.rollouts.last((existing.id,))), None)
    if starts:
        lines += _revision_changes(tx, existing, revision, last)
    elif last is not None and not last.state.ended and last.revision != revision.id:
        lines += (f"rollout of revision {last.revision} is given up: {revision.id} serves already",)
    return lines


def _moves(existing: ServiceRecord | None, service: ServiceRecord, sites: Sequence[SiteRecord]) -> tuple[str, ...]:
    """The sites that lose the service at once, with the reason, and those that get it back."""
    if existing is None or existing.placement is None or service.placement is None:
        return ()
    before, after = existing.placement.chosen, service.placement.chosen
    why = {one.site: f"{one.reason} ({one.hint})" for one in service.placement.verdicts}
    lost = [
        f"it ends at site {site.name}: {why[site.id]}" for site in sites if site.id in before and site.id not in after
    ]
    won = [f"site {site.name} runs it again" for site in sites if site.id in after and site.id not in before]
    return (*lost, *won)


def differences_of(part: str, before: ServiceRecord, after: ServiceRecord) -> tuple[str, ...]:
    """What differs in one part of a service, with the part's name before each field."""
    lines = differences(getattr(before, part), getattr(after, part))
    name = part.removesuffix("_rules")
    return tuple(f"{name}{line}" if line.startswith(":") else f"{name}.{line}" for line in lines)


def _revision_changes(
    tx: Transaction, existing: ServiceRecord, revision: Revision, last: RolloutRecord | None
) -> tuple[str, ...]:
    if last is not None and last.revision == revision.id and last.state is RolloutState.FAILED:
        return (f"revision {revision.id} is tried again: its last rollout failed",)
    before_id = existing.serving or (last.revision if last else None)
    before = tx.revisions.get(existing.id, before_id) if before_id else None
    lines = revision_differences(before.contents, revision) if before else ()
    return (*lines, f"revision {revision.id} is built, started and proven")
