"""Services, their revisions and rollouts, in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import RevisionRecord, RolloutRecord, ServiceRecord
from kasbah.control.store.rows import Rows, page_of
from kasbah.control.store.schema import revision as revision_table
from kasbah.control.store.schema import rollout as rollout_table
from kasbah.control.store.schema import service as service_table
from kasbah.domain.ids import ProjectId, RevisionId, RolloutId, ServiceId
from kasbah.domain.rollout import RolloutState

MOST_READ_AGAIN = 500
"""Of more that were written since, all are read again: a statement names only so many."""


class SqlServices(Rows):
    """Services; see `interface.Services`. `all` is asked several times in a transaction, and of thousands few are
    written in it: it reads everything once, and then what was written since."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._read: dict[ServiceId, ServiceRecord] | None = None
        self._written: set[ServiceId] = set()

    def get(self, service: ServiceId) -> ServiceRecord | None:
        return self._one(ServiceRecord, select(service_table).where(service_table.c.id == service))

    def find(self, project: ProjectId, name: str) -> ServiceRecord | None:
        t = service_table.c
        live = select(service_table).where(t.project == project, t.name == name, t.deleted_at.is_(None))
        return self._one(ServiceRecord, live)

    def all(self) -> tuple[ServiceRecord, ...]:
        live, t = select(service_table).where(service_table.c.deleted_at.is_(None)), service_table.c
        if self._read is None or len(self._written) > MOST_READ_AGAIN:
            self._read = {one.id: one for one in self._all(ServiceRecord, live.order_by(t.id))}
        elif self._written:
            again = {one.id: one for one in self._all(ServiceRecord, live.where(t.id.in_(self._written)))}
            kept = {one: record for one, record in self._read.items() if one not in self._written}
            self._read = dict(sorted((kept | again).items()))
        self._written.clear()
        return tuple(self._read.values())

    def ids(self) -> frozenset[ServiceId]:
        t = service_table.c
        return frozenset(ServiceId(one) for one in self._connection.scalars(select(t.id).where(t.deleted_at.is_(None))))

    def page(self, project: ProjectId | None, after: Cursor | None, limit: int) -> tuple[ServiceRecord, ...]:
        query = page_of(service_table, after, limit).where(service_table.c.deleted_at.is_(None))
        if project is not None:
            query = query.where(service_table.c.project == project)
        return self._all(ServiceRecord, query)

    def add(self, service: ServiceRecord) -> None:
        self._written.add(service.id)
        self._add(service_table, service)

    def save(self, service: ServiceRecord) -> None:
        self._written.add(service.id)
        self._save(service_table, service)

    def bump(self, services: Iterable[ServiceId]) -> None:
        t, these = service_table, list(services)
        self._written.update(these)
        self._connection.execute(update(t).where(t.c.id.in_(these)).values(version=t.c.version + 1))


class SqlRevisions(Rows):
    """Revisions; see `interface.Revisions`."""

    def all(self) -> tuple[RevisionRecord, ...]:
        return self._where(service_table.c.deleted_at.is_(None))

    def of_deleted(self) -> tuple[RevisionRecord, ...]:
        return self._where(service_table.c.deleted_at.is_not(None))

    def _where(self, service: ColumnElement[bool]) -> tuple[RevisionRecord, ...]:
        t = revision_table
        query = select(t).select_from(t.join(service_table, service_table.c.id == t.c.service)).where(service)
        return self._all(RevisionRecord, query.order_by(t.c.service, t.c.number))

    def of(self, service: ServiceId) -> tuple[RevisionRecord, ...]:
        t = revision_table
        return self._all(RevisionRecord, select(t).where(t.c.service == service).order_by(t.c.number))

    def get(self, service: ServiceId, revision: RevisionId) -> RevisionRecord | None:
        t = revision_table
        return self._one(RevisionRecord, select(t).where(t.c.service == service, t.c.id == revision))

    def put(self, revision: RevisionRecord) -> None:
        self._put(revision_table, revision)

    def drop(self, service: ServiceId, revisions: Iterable[RevisionId]) -> None:
        t = revision_table
        self._connection.execute(delete(t).where(t.c.service == service, t.c.id.in_(list(revisions))))


class SqlRollouts(Rows):
    """Rollouts; see `interface.Rollouts`."""

    def get(self, rollout: RolloutId) -> RolloutRecord | None:
        return self._one(RolloutRecord, select(rollout_table).where(rollout_table.c.id == rollout))

    def add(self, rollout: RolloutRecord) -> None:
        self._add(rollout_table, rollout)

    def save(self, rollout: RolloutRecord) -> None:
        self._save(rollout_table, rollout)

    def last(self, services: Iterable[ServiceId]) -> tuple[RolloutRecord, ...]:
        t = rollout_table
        newest = (
            select(t.c.service, func.max(t.c.number).label("number"))
            .where(t.c.service.in_(list(services)))
            .group_by(t.c.service)
            .subquery()
        )
        joined = t.join(newest, (t.c.service == newest.c.service) & (t.c.number == newest.c.number))
        return self._all(RolloutRecord, select(t).select_from(joined))

    def of(self, service: ServiceId) -> tuple[RolloutRecord, ...]:
        t = rollout_table
        return self._all(RolloutRecord, select(t).where(t.c.service == service).order_by(t.c.number.desc()))

    def open(self) -> tuple[RolloutRecord, ...]:
        t = rollout_table
        going = [state for state in RolloutState if not state.ended]
        return self._all(RolloutRecord, select(t).where(t.c.state.in_(going)).order_by(t.c.started_at, t.c.id))

    def counts(self) -> dict[str, int]:
        t = rollout_table
        rows = self._connection.execute(select(t.c.state, func.count()).group_by(t.c.state))
        found = {state.value: count for state, count in rows}
        return {state.value: found.get(state.value, 0) for state in RolloutState}

    def trim(self, service: ServiceId, keep: int) -> None:
        t = rollout_table
        newest = select(func.max(t.c.number)).where(t.c.service == service).scalar_subquery()
        self._connection.execute(delete(t).where(t.c.service == service, t.c.number <= newest - keep))
