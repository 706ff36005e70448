"""The tables, as SQLAlchemy Core describes them. `docs/store.md` has the picture and the reason of each index.

Invariants that the database itself holds, whatever code writes: a digest exists once; a key has at most two secrets
(two slots); a key's owner is of the key's organization; `key_changes.seq` is the primary key, so no number is given out
twice. What a key *is* (its status) is stored nowhere.

Members and service accounts are one table of owners with a row of details each. Two tables with two nullable foreign
keys on `keys` were turned down: every read would join both, and every index on the owner would exist twice. Alembic
migrations create these tables; a test compares the two. Natural on SQLite and PostgreSQL alike: moments are
microseconds since 1970 in a bigint, permissions one text with spaces between.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine.default import DefaultExecutionContext

from gateway.keys.naming import folded

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware date-time here, whole microseconds since 1970 in the table: exact, small, comparable, zone-free."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive date-times (the subtraction raises)."""
        del dialect
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Always UTC."""
        del dialect
        return None if value is None else _EPOCH + value * _MICROSECOND


class WordList(TypeDecorator[tuple[str, ...]]):
    """A tuple of permissions or origins here, one text in the table. NULL (no list) and empty (nothing) stay apart."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> str | None:
        """Neither holds spaces, so one between two is enough."""
        del dialect
        return None if value is None else " ".join(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        """Split what was joined."""
        del dialect
        return None if value is None else tuple(value.split())


# Range searches by prefix need plain byte order; PostgreSQL's default collations have another.
SearchText: Final = Text().with_variant(Text(collation="C"), "postgresql")
# INTEGER PRIMARY KEY is SQLite's own row number: the log is then stored in its own order.
LogNumber: Final = BigInteger().with_variant(Integer(), "sqlite")

STANDING: Final = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN disabled_at IS NOT NULL THEN 'disabled' ELSE 'enabled' END"
)
ENDS_AT: Final = "CASE WHEN revoked_at IS NULL THEN expires_at END"


def _folded_name(context: DefaultExecutionContext) -> str:
    """Fold the name that is being inserted, so that no writer can forget to. Renaming sets both columns itself."""
    return folded(context.get_current_parameters()["name"])  # type: ignore[no-untyped-call] # SQLAlchemy leaves it so


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


store_identity: Final = Table(
    "store_identity",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

organizations: Final = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("external_id", Text),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("default_expiry", Text, nullable=False),  # a preset, "never" among them
    Column("max_expiry", Text),  # a preset; NULL: no bound
    Column("keys_create_requires_admin", Boolean, nullable=False),
    Column("keys_revoke_requires_admin", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("removed_at", Moment),
    # The organization whose admins manage organizations; the default is that of rows older than the column.
    Column("operator", Boolean, nullable=False, server_default=false()),
    Column("name_search", SearchText, nullable=False, default=_folded_name, server_default=""),  # the name, case-folded
    _partial_index("ux_organizations_operator", "operator", where="operator", unique=True),
    _partial_index("ux_organizations_name", "name", where="removed_at IS NULL", unique=True),
    _partial_index("ux_organizations_external_id", "external_id", where="external_id IS NOT NULL", unique=True),
    _partial_index("ix_organizations_search", "name_search", "id", where="removed_at IS NULL"),
)

owners: Final = Table(
    "owners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),  # the e-mail of a member, in lower case; the name of a service account
    Column("external_id", Text),
    Column("permissions", WordList, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("removed_at", Moment),
    Column("name_search", SearchText, nullable=False, default=_folded_name, server_default=""),  # the name, case-folded
    CheckConstraint("kind IN ('member', 'service_account')", name="kind"),
    UniqueConstraint("organization_id", "id"),  # the target of keys' foreign key: same organization
    _partial_index("ux_owners_name", "name", "kind", "organization_id", where="removed_at IS NULL", unique=True),
    _partial_index(
        "ux_owners_external_id", "organization_id", "external_id", where="external_id IS NOT NULL", unique=True
    ),
    _partial_index("ix_owners_search", "organization_id", "kind", "name_search", "id", where="removed_at IS NULL"),
)

members: Final = Table(
    "members",
    metadata,
    Column("owner_id", Text, ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("role", Text, nullable=False),
    Column("password_hash", Text),  # argon2id; NULL: no console login
    CheckConstraint("role IN ('admin', 'member')", name="role"),
)

service_accounts: Final = Table(
    "service_accounts",
    metadata,
    Column("owner_id", Text, ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("description", Text, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("name_search", SearchText, nullable=False),  # the name, case-folded
    Column("description", Text, nullable=False),
    Column("permissions", WordList),  # NULL: inherit the owner's
    Column("version", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by_id", Text),  # a key or a member, who may be gone since; NULL: the system
    Column("created_by_text", Text, nullable=False),
    Column("expires_at", Moment),
    Column("disabled_at", Moment),
    Column("disabled_by_id", Text),
    Column("disabled_by_text", Text),
    Column("revoked_at", Moment),
    Column("revoked_by_id", Text),
    Column("revoked_by_text", Text),
    Column("revoked_reason", Text),
    Column("allowed_origins", WordList),  # NULL: from anywhere
    Column("imported", Boolean, nullable=False, server_default=false()),  # its first secret is another system's
    # Computed by the database, for its indexes alone: what a status means apart from the clock, and when a key ends
    # that nobody has ended yet. No other index has these, so no planner can mistake one for another.
    Column("standing", Text, Computed(STANDING)),
    Column("ends_at", Moment, Computed(ENDS_AT)),
    ForeignKeyConstraint(
        ["organization_id", "owner_id"], ["owners.organization_id", "owners.id"], name="fk_keys_owner"
    ),
    Index("ix_keys_organization", "organization_id", "id"),
    Index("ix_keys_owner", "owner_id", "id"),
    Index("ix_keys_name", "organization_id", "name_search", "id"),
    Index("ix_keys_standing", "organization_id", "standing", "id"),
    Index("ix_keys_ends", "organization_id", "ends_at", "id"),
    sqlite_with_rowid=False,  # stored in the id's own index: one search and one page less for each read
)

key_secrets: Final = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("id", Text, nullable=False),
    Column("key_id", Text, ForeignKey("keys.id", ondelete="CASCADE"), nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("prefix", Text),  # NULL for imported ones, as the tail may be
    Column("tail", Text),
    Column("created_at", Moment, nullable=False),
    Column("valid_until", Moment),  # NULL: current; else rotated out, with the end of its grace period
    CheckConstraint("slot IN (0, 1)", name="slot"),
    CheckConstraint("length(digest) = 32", name="digest"),
    UniqueConstraint("id"),
    UniqueConstraint("key_id", "slot"),
    Index("ix_key_secrets_tail", "tail", "key_id"),
    sqlite_with_rowid=False,  # the row is stored in the digest's own index: one search less for each point read
)

key_uses: Final = Table(
    "key_uses",
    metadata,
    Column("key_id", Text, ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("used", Boolean, nullable=False),  # ever
    Column("idle_since", Moment, nullable=False),  # its newest use, by either secret; if never used, its creation
    Column("address", Text),
    Column("user_agent", Text),
    Index("ix_key_uses_idle", "organization_id", "idle_since", "key_id"),
    Index("ix_key_uses_used", "organization_id", "used", "idle_since", "key_id"),
    sqlite_with_rowid=False,
)

secret_uses: Final = Table(
    "secret_uses",
    metadata,
    Column("secret_id", Text, primary_key=True),  # no foreign key: uses arrive late and in batches
    Column("used_at", Moment, nullable=False),
    Column("address", Text, nullable=False),
    Column("user_agent", Text),
    sqlite_with_rowid=False,
)

retired_digests: Final = Table(
    "retired_digests",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("retired_at", Moment, nullable=False),
    Index("ix_retired_digests_key", "key_id"),  # the relay writes a tombstone for each digest that a key has lost
    sqlite_with_rowid=False,
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("actor_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("request_digest", LargeBinary, nullable=False),  # the same key with another request is refused
    Column("resource_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
    sqlite_with_rowid=False,
)

key_changes: Final = Table(
    "key_changes",
    metadata,
    Column("seq", LogNumber, primary_key=True, autoincrement=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    CheckConstraint("subject_kind IN ('key', 'owner', 'organization')", name="subject_kind"),
)

# Who may serve from memory. A worker writes its own row before its first request that needs a key, and again with each
# look at the log; only in a store that nodes share.
workers: Final = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),  # node:name:pid, one for each process that ever served
    Column("node", Text, nullable=False),  # one run of a supervisor
    Column("host", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("believes_for", Integer, nullable=False),  # milliseconds from its last proof of being current
    Column("epoch", Text),  # what it has applied, and of which run of the log; NULL: nothing yet
    Column("applied", BigInteger),
    Column("entered_at", Moment, nullable=False),
    Column("heard_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

management_events: Final = Table(
    "management_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("organization_id", Text),  # no foreign keys: the trail outlives what it tells about
    Column("actor_id", Text),
    Column("actor_text", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_id", Text, nullable=False),
    Column("target_name", Text, nullable=False),
    Column("address", Text),
    Column("request_id", Text),
    Column("before", Text),  # JSON objects of the fields that changed; never a secret, never a digest
    Column("after", Text),
    # Whose key or session acted, and who was acted upon or owned the key that was: a member's own trail is these two.
    Column("actor_owner_id", Text),
    Column("target_owner_id", Text),
    # Each begins with the organization, which every question names, so that none is passed over for a wider one.
    Index("ix_management_events_organization", "organization_id", "at", "id"),
    Index("ix_management_events_action", "organization_id", "action", "at", "id"),
    Index("ix_management_events_target", "organization_id", "target_id", "at", "id"),
    Index("ix_management_events_target_owner", "organization_id", "target_owner_id", "at", "id"),
    Index("ix_management_events_actor", "organization_id", "actor_id", "at", "id"),
    Index("ix_management_events_actor_owner", "organization_id", "actor_owner_id", "at", "id"),
)

# How far the recorder of a node has read each segment of its spool. Written in the transaction that counts what was
# read; kept beyond the segment itself, to be held against the audit store.
audit_segments: Final = Table(
    "audit_segments",
    metadata,
    Column("spool", Text, primary_key=True),
    Column("segment", BigInteger, primary_key=True, autoincrement=False),
    Column("run", BigInteger, nullable=False),  # the number of the first segment of the worker that wrote it
    Column("read_to", Integer, nullable=False),  # the offset behind what was recorded
    Column("entries", Integer, nullable=False),  # those that were read in it: each has its row in the audit store
    Column("sealed_entries", Integer),  # those that the worker says it wrote; NULL: it has not said
    Column("damaged_bytes", Integer, nullable=False),
    Column("first_at", Moment),  # of its entries; NULL: it has none
    Column("last_at", Moment),
    Column("finished", Boolean, nullable=False),  # nothing follows, and its file goes, or has gone
    Column("noted_at", Moment, nullable=False),  # when this row was written last
    sqlite_with_rowid=False,
)

audit_runs: Final = Table(  # runs of workers that have a row above, until the audit store knows that they are over
    "audit_runs",
    metadata,
    Column("spool", Text, primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

audit_counts: Final = Table(
    "audit_counts",
    metadata,
    Column("key_id", Text, primary_key=True),  # empty: without a key
    Column("hour", Moment, primary_key=True),  # its beginning
    Column("outcome", Text, primary_key=True),  # 2xx and so on, aborted, or refused:<code>
    Column("organization_id", Text, primary_key=True),  # empty: of nobody
    Column("requests", BigInteger, nullable=False),
    Index("ix_audit_counts_organization", "organization_id", "hour"),
    Index("ix_audit_counts_hour", "hour"),  # for the removal of old ones
    sqlite_with_rowid=False,
)
