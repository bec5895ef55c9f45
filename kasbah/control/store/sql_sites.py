"""The installation, sites, and what they report, in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Table, Text, delete, func, select, type_coerce

from kasbah.control.store.columns import adapter
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import (
    DesiredDocument,
    Difference,
    Installation,
    Joining,
    Project,
    ServiceReport,
    SiteRecord,
    Told,
    WakeRecord,
)
from kasbah.control.store.rows import Rows, page_of
from kasbah.control.store.schema import desired as desired_table
from kasbah.control.store.schema import entry_hour, service_report, usage_minute, usage_total
from kasbah.control.store.schema import installation as installation_table
from kasbah.control.store.schema import joining as joining_table
from kasbah.control.store.schema import project as project_table
from kasbah.control.store.schema import service as service_table
from kasbah.control.store.schema import site as site_table
from kasbah.control.store.schema import wake as wake_table
from kasbah.domain.ids import Digest, JoiningId, RevisionId, ServiceId, SiteId
from kasbah.domain.observed import ServiceStatus
from kasbah.domain.site import SiteState
from kasbah.domain.usage import EntryKey, Usage, UsageKey

_THERE = select(site_table).where(site_table.c.state != SiteState.REMOVED)
COUNTS = ("requests", "failed", "bytes_in", "bytes_out", "milliseconds")


class SqlInstallations(Rows):
    """The installation; see `interface.Installations`."""

    def get(self) -> Installation | None:
        return self._one(Installation, select(installation_table))

    def add(self, installation: Installation) -> None:
        self._add(installation_table, installation)

    def save(self, installation: Installation) -> None:
        self._save(installation_table, installation)

    def projects(self) -> tuple[Project, ...]:
        live = select(project_table).where(project_table.c.deleted_at.is_(None))
        return self._all(Project, live.order_by(project_table.c.name))

    def page_of_projects(self, after: Cursor | None, limit: int) -> tuple[Project, ...]:
        return self._all(Project, page_of(project_table, after, limit).where(project_table.c.deleted_at.is_(None)))

    def add_project(self, project: Project) -> None:
        self._add(project_table, project)

    def save_project(self, project: Project) -> None:
        self._save(project_table, project)


class SqlSites(Rows):
    """Sites; see `interface.Sites`."""

    def all(self) -> tuple[SiteRecord, ...]:
        return tuple(one for one in self.everywhere() if not one.outside)

    def everywhere(self) -> tuple[SiteRecord, ...]:
        return self._all(SiteRecord, _THERE.order_by(site_table.c.name))

    def get(self, site: SiteId) -> SiteRecord | None:
        return self._one(SiteRecord, select(site_table).where(site_table.c.id == site))

    def find(self, name: str) -> SiteRecord | None:
        return self._one(SiteRecord, _THERE.where(site_table.c.name == name))

    def certified(self, key: str) -> SiteRecord | None:
        return self._one(SiteRecord, select(site_table).where(site_table.c.certified == key)) if key else None

    def add(self, site: SiteRecord) -> None:
        self._add(site_table, site)

    def save(self, site: SiteRecord) -> None:
        self._save(site_table, site)

    def told(self) -> Told:
        t = desired_table.c
        rows = self._connection.execute(select(t.site, t.epoch, t.generation, t.contents))
        return {SiteId(site): (epoch, generation, Digest(contents)) for site, epoch, generation, contents in rows}

    def desired(self, site: SiteId) -> DesiredDocument | None:
        return self._one(DesiredDocument, select(desired_table).where(desired_table.c.site == site))

    def save_desired(self, document: DesiredDocument) -> None:
        self._put(desired_table, document)

    def generation(self, epoch: int) -> int:
        newest = select(func.max(desired_table.c.generation)).where(desired_table.c.epoch == epoch)
        return self._connection.execute(newest).scalar() or 0


class SqlJoinings(Rows):
    """Sites that join; see `interface.Joinings`."""

    def get(self, joining: JoiningId) -> Joining | None:
        return self._one(Joining, select(joining_table).where(joining_table.c.id == joining))

    def by_token(self, sha256: str) -> Joining | None:
        return self._one(Joining, select(joining_table).where(joining_table.c.token_sha256 == sha256))

    def waiting(self, site: SiteId | None = None) -> tuple[Joining, ...]:
        t = joining_table.c
        query = select(joining_table).where(t.key != "", t.certificate == "").order_by(t.asked_at, t.id)
        return self._all(Joining, query if site is None else query.where(t.site == site))

    def put(self, joining: Joining) -> None:
        self._put(joining_table, joining)

    def drop_before(self, moment: datetime) -> None:
        self._connection.execute(delete(joining_table).where(joining_table.c.expires_at < moment))


class SqlReports(Rows):
    """Reports; see `interface.Reports`. They are compared as text: of thousands, few change from one to the next."""

    def differences(self, site: SiteId, statuses: Iterable[ServiceStatus]) -> tuple[Difference, ...]:
        t = service_report.c
        rows = self._connection.execute(select(t.service, type_coerce(t.status, Text)).where(t.site == site))
        before: dict[ServiceId, str] = {ServiceId(service): text for service, text in rows}
        found = []
        shape = adapter(ServiceStatus)
        for status in statuses:
            text = before.pop(status.service, None)
            if text is None or text.encode() != shape.dump_json(status):
                known = None if text is None else shape.validate_json(text)
                found.append(Difference(service=status.service, before=known, after=status))
        gone = (Difference(service=one, before=shape.validate_json(text), after=None) for one, text in before.items())
        return (*found, *gone)

    def save(self, site: SiteId, difference: Difference) -> None:
        if difference.after is None:
            t = service_report.c
            self._connection.execute(delete(service_report).where(t.site == site, t.service == difference.service))
        else:
            self._put(service_report, ServiceReport(site=site, service=difference.service, status=difference.after))

    def of(self, services: Iterable[ServiceId]) -> tuple[ServiceReport, ...]:
        t = service_report
        return self._all(ServiceReport, select(t).where(t.c.service.in_(list(services))).order_by(t.c.site))

    def drop(self, service: ServiceId) -> None:
        self._connection.execute(delete(service_report).where(service_report.c.service == service))


class SqlWakes(Rows):
    """Wakings; see `interface.Wakes`."""

    def of(self, service: ServiceId) -> tuple[WakeRecord, ...]:
        t = wake_table
        return self._all(WakeRecord, select(t).where(t.c.service == service).order_by(t.c.at.desc(), t.c.id))

    def put(self, wakes: Iterable[WakeRecord]) -> None:
        for wake in wakes:
            self._put(wake_table, wake)

    def trim(self, service: ServiceId, keep: int) -> None:
        t = wake_table.c
        newest = select(t.id).where(t.service == service).order_by(t.at.desc(), t.id).limit(keep)
        self._connection.execute(delete(wake_table).where(t.service == service, t.id.not_in(newest)))


class SqlUsage(Rows):
    """Usage; see `interface.UsageCounts`."""

    def add(self, usage: Iterable[tuple[UsageKey, Usage]]) -> None:
        known = set(self._connection.scalars(select(service_table.c.id)))
        for key, counts in usage:
            if key.service not in known:
                continue
            minute = {"revision": key.revision, "key": key.key or "", "minute": key.minute}
            self._count(usage_minute, {"service": key.service, **minute}, counts)
            self._count(usage_total, {"service": key.service}, counts)

    def _count(self, table: Table, key: dict[str, Any], counts: Usage) -> None:
        more = {name: table.c[name] + getattr(counts, name) for name in COUNTS}
        where = [table.c[name] == value for name, value in key.items()]
        if not self._connection.execute(table.update().where(*where).values(more)).rowcount:
            first = {name: getattr(counts, name) for name in COUNTS}
            self._connection.execute(table.insert().values({**key, **first}))

    def totals(self, services: Iterable[ServiceId]) -> dict[ServiceId, Usage]:
        t = usage_total.c
        rows = self._connection.execute(select(usage_total).where(t.service.in_(list(services)))).mappings()
        return {ServiceId(row["service"]): Usage(**{name: row[name] for name in COUNTS}) for row in rows}

    def by_revision(self, service: ServiceId, *, since: datetime) -> dict[RevisionId, Usage]:
        t = usage_minute.c
        sums = [func.sum(t[name]).label(name) for name in COUNTS]
        minutes = select(t.revision, *sums).where(t.service == service, t.minute >= since).group_by(t.revision)
        rows = self._connection.execute(minutes).mappings()
        return {RevisionId(row["revision"]): Usage(**{name: int(row[name]) for name in COUNTS}) for row in rows}

    def enter(self, entries: Iterable[tuple[EntryKey, int]]) -> None:
        services = set(self._connection.scalars(select(service_table.c.id)))
        sites = set(self._connection.scalars(select(site_table.c.id)))
        for key, count in entries:
            if key.service not in services or key.site not in sites:
                continue
            t, where = entry_hour, {"service": key.service, "site": key.site, "hour": key.hour}
            same = [t.c[name] == value for name, value in where.items()]
            if not self._connection.execute(t.update().where(*same).values(requests=t.c.requests + count)).rowcount:
                self._connection.execute(t.insert().values({**where, "requests": count}))

    def entered(self, service: ServiceId, *, since: datetime) -> dict[SiteId, int]:
        t = entry_hour.c
        counts = select(t.site, func.sum(t.requests)).where(t.service == service, t.hour >= since).group_by(t.site)
        return {SiteId(site): int(count) for site, count in self._connection.execute(counts)}

    def drop_entries_before(self, moment: datetime) -> None:
        self._connection.execute(delete(entry_hour).where(entry_hour.c.hour < moment))
