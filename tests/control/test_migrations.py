"""The tables: what the migrations make is what the code expects, and a database is never harmed by a start."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from kasbah.access_rules import shipped_access
from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.control.store import migrate as migration
from kasbah.control.store.migrate import HEAD, MIGRATIONS, migrate
from kasbah.control.store.schema import metadata
from kasbah.control.store.sql import SqlStore, open_engine
from kasbah.decide.access import Permissions
from kasbah.domain.access import Action, over
from kasbah.domain.ids import ProjectId
from kasbah.errors import Conflict
from kasbah.settings import ControlSettings

CLOCK = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_the_migrations_make_the_tables_the_code_expects(tmp_path: Path) -> None:
    engine = open_engine(url(tmp_path / "a.db"))
    migrate(engine, clock=CLOCK)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": same_type})
        assert compare_metadata(context, metadata) == []


def same_type(_context: object, _column: object, _known: object, there: object, wanted: object) -> bool | None:
    """Our own column types are plain text and times in the database."""
    from sqlalchemy.types import TypeDecorator

    return False if isinstance(wanted, TypeDecorator) or "Enum" in type(wanted).__name__ else None


def test_a_database_newer_than_the_code_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    engine = open_engine(url(path))
    migrate(engine, clock=CLOCK)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="newer version") as refusal:
        migrate(engine, clock=CLOCK)
    assert str(path) in refusal.value.message
    assert "restore" in refusal.value.hint
    with engine.connect() as connection:
        assert version(connection) == "9999"


@pytest.mark.parametrize("spoil", [lambda file: b"no database" * 500, lambda file: file[:5_000]], ids=["other", "cut"])
def test_a_damaged_database_is_told_and_left_alone(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.db"
    engine = open_engine(url(path))
    migrate(engine, clock=CLOCK)
    engine.dispose()
    path.write_bytes(spoilt := spoil(path.read_bytes()))
    with pytest.raises(Conflict, match=f"{path} is damaged") as refusal:
        migrate(open_engine(url(path)), clock=CLOCK)
    assert "kasbah restore" in refusal.value.hint
    assert path.read_bytes() == spoilt


def test_an_old_database_is_copied_before_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older version's database: the same tables without one index, at a version of its own."""
    path = tmp_path / "kasbah.db"
    engine = open_engine(url(path))
    steps = tmp_path / "migrations"
    (steps / "versions").mkdir(parents=True)
    (steps / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    first = MIGRATIONS / "versions" / "v0001_first.py"
    (steps / "versions" / first.name).write_text(first.read_text())
    monkeypatch.setattr(migration, "MIGRATIONS", steps)
    migrate(engine, clock=CLOCK)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO project (id, name) VALUES ('pr-1', 'kept')"))
    (steps / "versions" / "v0002_more.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.create_table('more', sa.Column('id', sa.Integer(), primary_key=True))\n"
    )
    monkeypatch.setattr(migration, "KNOWN", ("0001", "0002"))
    monkeypatch.setattr(migration, "HEAD", "0002")
    migrate(engine, clock=CLOCK)
    with engine.connect() as connection:
        assert version(connection) == "0002"
        assert connection.scalar(text("SELECT name FROM project")) == "kept"
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.startswith("kasbah-0001-")
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert old.execute("SELECT name FROM project").fetchone() == ("kept",)


def version(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def test_scopes_become_the_actions_they_stood_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token may exactly what it might before."""
    engine = open_engine(url(tmp_path / "kasbah.db"))
    at(monkeypatch, tmp_path, "0005")
    migrate(engine, clock=CLOCK)
    with engine.begin() as connection:
        for scopes in SCOPES:
            name = "-".join(scopes) or "none"
            connection.execute(
                text(
                    "INSERT INTO token (id, name, sha256, scopes, created_at) VALUES (:name, :name, :name, :held, :at)"
                ),
                {"name": name, "held": json.dumps(scopes), "at": "2026-01-01 00:00:00"},
            )
    monkeypatch.undo()
    migrate(engine, clock=CLOCK)
    permissions = Permissions(rules=shipped_access())
    with SqlStore(engine).read() as tx:
        tokens = {token.name: token for token in tx.tokens.all()}
    assert len(tokens) == len(SCOPES)
    for scopes, expected in SCOPES.items():
        token = tokens["-".join(scopes) or "none"]
        held = {
            action.value
            for action in Action
            if permissions.may(token.principal, action, over(action, ProjectId("pr-1")), CLOCK.now()).allowed
        }
        assert held - {"installation.read"} == expected - {"installation.read"}
        assert (token.kind, token.max_level, token.expires_at, token.created_by) == ("person", None, None, None)
    engine.dispose()


LOOK = frozenset({"site.read", "project.read", "service.read", "service.plan", "service.logs", "service.usage"})
READ = LOOK | {"secret.read", "installation.read"}
WORK = {"service.deploy", "service.scale", "service.sleep", "service.env", "service.traffic", "service.rollback"}
DEPLOY = READ | WORK | {"service.delete", "service.exec", "secret.set", "secret.delete"}
KEYS = frozenset({"key.read", "key.create", "key.revoke"})
SCOPES: dict[tuple[str, ...], frozenset[str]] = {
    ("read",): READ,
    ("deploy",): DEPLOY,
    ("keys",): KEYS,
    ("read", "keys"): READ | KEYS,
    ("admin",): frozenset(action.value for action in Action),
    ("read", "admin"): frozenset(action.value for action in Action),
    (): frozenset(),
}


def at(monkeypatch: pytest.MonkeyPatch, folder: Path, newest: str) -> None:
    """An older version: it knows the steps up to `newest`."""
    steps = folder / "migrations"
    (steps / "versions").mkdir(parents=True)
    (steps / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    known = [path for path in sorted((MIGRATIONS / "versions").glob("v*.py")) if path.name[1:5] <= newest]
    for path in known:
        (steps / "versions" / path.name).write_text(path.read_text())
    monkeypatch.setattr(migration, "MIGRATIONS", steps)
    monkeypatch.setattr(migration, "KNOWN", tuple(path.name[1:5] for path in known))
    monkeypatch.setattr(migration, "HEAD", newest)


def test_the_folder_s_newest_step_is_the_head() -> None:
    newest = max(path.name for path in (MIGRATIONS / "versions").glob("v*.py"))
    assert newest[1:5] == HEAD


def test_a_later_start_keeps_what_is_there_and_takes_what_is_declared(tmp_path: Path) -> None:
    def start(**more: str) -> tuple[object, ...]:
        control = build(ControlSettings(data_dir=tmp_path, **more), CLOCK)  # type: ignore[arg-type]
        with control.office.read() as work:
            (site,) = work.tx.sites.all()
            found = (work.tx.installations.get(), site.id, site.token_sha256)
            country, domain = site.country, work.tx.sites.desired(site.id)
        control.close()
        return (*found, control.office.key.public_key().public_bytes_raw()), country, domain

    first, country, desired = start()
    assert country is None
    assert start() == (first, None, desired)
    again, country, declared = start(country="MA")
    assert (again, country, declared.generation) == (first, "MA", desired.generation + 1)
    assert start() == (first, "MA", declared)
    again, country, moved = start(base_domain="apps.example")
    assert (again, country, moved.generation) == (first, "MA", declared.generation + 1)
