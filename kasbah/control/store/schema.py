"""The tables. A column that holds one of our own values holds it as JSON, checked when it is read.

A change here needs a migration (`migrations/versions`); a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kasbah.control.store.columns import Instant, Placed, Shaped, one_of
from kasbah.control.store.lawbooks import Arrival, LawbookState
from kasbah.domain.access import Grant, PrincipalKind
from kasbah.domain.attestation import Attested
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import ServiceId
from kasbah.domain.label import Label, Level
from kasbah.domain.observed import ServiceStatus, SiteStatus, Wake
from kasbah.domain.placement import Constraints
from kasbah.domain.project import Quota
from kasbah.domain.revision import Revision
from kasbah.domain.rollout import Cause, RolloutRules, RolloutState
from kasbah.domain.service import Access, Order, Scaling, Share, Sleep, Trial
from kasbah.domain.site import SiteState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

installation = Table(
    "installation",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("owner_key", Text),
)

project = Table(
    "project",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("quota", Shaped(Quota), nullable=False),
    Column("deleted_at", Instant),
)

site = Table(
    "site",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("charter", Shaped(Charter), nullable=False),
    Column("signed", Shaped(Signed)),
    Column("state", one_of(SiteState), nullable=False),
    Column("token_sha256", String(64), nullable=False),
    Column("certified", String(64), nullable=False),
    Column("seen_at", Instant),
    Column("report", Shaped(SiteStatus)),
    Column("usage_sequence", BigInteger, nullable=False),
)

joining = Table(
    "joining",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("asked_at", Instant),
    Column("csr", Text, nullable=False),
    Column("key", String(64), nullable=False),
    Column("certificate", Text, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("contents", String(71), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
)

service = Table(
    "service",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(40), nullable=False),
    Column("access", one_of(Access), nullable=False),
    Column("domains", Shaped(tuple[str, ...]), nullable=False),
    Column("label", Shaped(Label), nullable=False),
    Column("declared", Shaped(Label)),
    Column("scaling", Shaped(Scaling), nullable=False),
    Column("sleep", Shaped(Sleep), nullable=False),
    Column("rollout_rules", Shaped(RolloutRules), nullable=False),
    Column("constraints", Shaped(Constraints), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("placement", Placed),
    Column("shares", Shaped(tuple[Share, ...]), nullable=False),
    Column("trial", Shaped(Trial)),
    Column("order", Shaped(Order)),
    Column("version", BigInteger, nullable=False),
    Column("deployed_at", Instant),
    Column("deleted_at", Instant),
    Index("ix_service_name_id", "name", "id"),
    Index(
        "uq_service_live_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

revision = Table(
    "revision",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("contents", Shaped(Revision), nullable=False),
    Column("proven", Boolean, nullable=False),
    Column("attested", Shaped(Attested)),
)

rollout = Table(
    "rollout",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("service", ForeignKey("service.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("revision", String(32), nullable=False),
    Column("state", one_of(RolloutState), nullable=False, index=True),
    Column("started_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("rules", Shaped(RolloutRules), nullable=False),
    Column("cause", one_of(Cause), nullable=False),
    Column("before", Shaped(tuple[Share, ...]), nullable=False),
    Column("percent", Integer, nullable=False),
    Column("step", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tail", Shaped(tuple[str, ...]), nullable=False),
    Column("shifted_at", Instant),
    Column("moved_at", Instant),
    Column("shifted_generation", BigInteger),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("service", "number"),
)

service_report = Table(
    "service_report",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("service", ForeignKey("service.id"), primary_key=True, index=True),
    Column("status", Shaped(ServiceStatus), nullable=False),
)

wake = Table(
    "wake",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("service", ForeignKey("service.id"), nullable=False),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("contents", Shaped(Wake), nullable=False),
    Index("ix_wake_service_at", "service", "at"),
)

key = Table(
    "key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("services", Shaped(tuple[ServiceId, ...])),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(32)),
    Column("owner", String(100), nullable=False),
    Column("max_level", Shaped(Level)),
    Column("expires_at", Instant),
    Column("disabled_at", Instant),
    Column("revoked_at", Instant),
    Column("attested", Shaped(Attested)),
    Index("ix_key_name_id", "name", "id"),
)

secret = Table(
    "secret",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(60), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("label", Shaped(Label)),
    Column("deleted_at", Instant),
    Index("ix_secret_name_id", "name", "id"),
    Index(
        "uq_secret_live_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

secret_value = Table(
    "secret_value",
    metadata,
    Column("secret", ForeignKey("secret.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("kind", one_of(PrincipalKind), nullable=False),
    Column("grants", Shaped(tuple[Grant, ...]), nullable=False),
    Column("max_level", Shaped(Level)),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String(32)),
    Column("expires_at", Instant),
    Column("disabled_at", Instant),
    Column("revoked_at", Instant),
    Index("ix_token_name_id", "name", "id"),
)

usage_minute = Table(
    "usage_minute",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("revision", String(32), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("minute", Instant, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
)

usage_total = Table(
    "usage_total",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
)

entry_hour = Table(
    "entry_hour",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("credential", String(40), nullable=False),
    Column("act", String(200), nullable=False),
    Column("object", Text, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("salt", LargeBinary),
    Index("ix_audit_entry_actor", "actor", "sequence"),
    Index("ix_audit_entry_credential", "credential", "sequence"),
    Index("ix_audit_entry_act", "act", "sequence"),
)

audit_tile = Table(
    "audit_tile",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("log", String(32), primary_key=True),
    Column("public_key", String(60), nullable=False),
    Column("note", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("signed_at", Instant, nullable=False),
    Column("cosigned", Text, nullable=False),
    Column("cosigned_size", BigInteger, nullable=False),
    Column("trouble", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("offered", Text, nullable=False),
    Column("offered_key", String(60), nullable=False),
)

log_break = Table(
    "log_break",
    metadata,
    Column("log", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("public_key", String(60), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("note", "cosigned", "witnessed", "trouble", "accepted_note")),
    Column("cosigned_size", BigInteger, nullable=False),
    Column("accepted_key", String(60), nullable=False),
    Column("accepted_at", Instant, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("accepted_by", "reason")),
)

answer = Table(
    "answer",
    metadata,
    Column("token", ForeignKey("token.id"), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text),
    Column("at", Instant, nullable=False, index=True),
)

lawbook = Table(
    "lawbook",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("state", one_of(LawbookState), nullable=False, index=True),
    Column("based_on", Integer),
    Column("author", String(100), nullable=False),
    Column("author_id", String(32)),
    Column("at", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("even_so", Boolean, nullable=False),
    Column("loosens", Boolean, nullable=False),
    Column("arrivals", Shaped(tuple[Arrival, ...]), nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("note", Text, nullable=False),
    Column("approved_by", String(100), nullable=False),
)

owner_grant = Table(
    "owner_grant",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", one_of(GrantKind), nullable=False),
    Column("document", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("author", String(100), nullable=False),
    Column("at", Instant, nullable=False),
    Column("revoked_at", Instant),
)
