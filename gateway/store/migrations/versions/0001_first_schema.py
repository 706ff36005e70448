"""The first schema: organizations, owners, keys and their secrets, the change log, and the management trail.

Invariant: once released, a revision is never edited; what has to change becomes the next one. The types are spelled
out here instead of imported from `gateway.store.schema`, which moves on while this file stays as it was.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything, in the order the foreign keys ask for."""
    _identity_and_log()
    _organizations()
    _owners()
    _keys()
    _secrets()


def downgrade() -> None:
    """Refuse: a store that loses nothing is never migrated backwards; restore a backup instead."""
    raise NotImplementedError


def _identity_and_log() -> None:
    op.create_table(
        "store_identity",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_store_identity_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_identity")),
    )
    op.create_table(
        "key_changes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "subject_kind IN ('key', 'owner', 'organization')", name=op.f("ck_key_changes_subject_kind")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_key_changes")),
    )
    op.create_table(
        "management_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.Text(), nullable=True),
        sa.Column("actor_text", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_kind", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("target_name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_management_events")),
    )
    op.create_index("ix_management_events_actor", "management_events", ["actor_id", "id"])
    op.create_index("ix_management_events_organization", "management_events", ["organization_id", "id"])
    op.create_index("ix_management_events_target", "management_events", ["target_id", "id"])


def _organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("default_expiry", sa.Text(), nullable=False),
        sa.Column("max_expiry", sa.Text(), nullable=True),
        sa.Column("keys_create_requires_admin", sa.Boolean(), nullable=False),
        sa.Column("keys_revoke_requires_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
    )
    op.create_index(
        "ux_organizations_external_id",
        "organizations",
        ["external_id"],
        unique=True,
        sqlite_where=sa.text("external_id IS NOT NULL"),
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "ux_organizations_name",
        "organizations",
        ["name"],
        unique=True,
        sqlite_where=sa.text("removed_at IS NULL"),
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def _owners() -> None:
    op.create_table(
        "owners",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('member', 'service_account')", name=op.f("ck_owners_kind")),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_owners_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owners")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_owners_organization_id_id")),
    )
    op.create_index(
        "ux_owners_external_id",
        "owners",
        ["organization_id", "external_id"],
        unique=True,
        sqlite_where=sa.text("external_id IS NOT NULL"),
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "ux_owners_name",
        "owners",
        ["name", "kind", "organization_id"],
        unique=True,
        sqlite_where=sa.text("removed_at IS NULL"),
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "members",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'member')", name=op.f("ck_members_role")),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_members_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_members")),
    )
    op.create_table(
        "service_accounts",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owners.id"], name=op.f("fk_service_accounts_owner_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_service_accounts")),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_search", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by_id", sa.Text(), nullable=True),
        sa.Column("created_by_text", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_by_id", sa.Text(), nullable=True),
        sa.Column("disabled_by_text", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by_id", sa.Text(), nullable=True),
        sa.Column("revoked_by_text", sa.Text(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "owner_id"], ["owners.organization_id", "owners.id"], name="fk_keys_owner"
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_keys_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_keys_disabled",
        "keys",
        ["organization_id", "id"],
        sqlite_where=sa.text("revoked_at IS NULL AND disabled_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NULL AND disabled_at IS NOT NULL"),
    )
    op.create_index(
        "ix_keys_expiry",
        "keys",
        ["organization_id", "expires_at", "id"],
        sqlite_where=sa.text("revoked_at IS NULL AND expires_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NULL AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_keys_live",
        "keys",
        ["organization_id", "id"],
        sqlite_where=sa.text("revoked_at IS NULL AND disabled_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL AND disabled_at IS NULL"),
    )
    op.create_index("ix_keys_name", "keys", ["organization_id", "name_search", "id"])
    op.create_index("ix_keys_organization", "keys", ["organization_id", "id"])
    op.create_index("ix_keys_owner", "keys", ["owner_id", "id"])
    op.create_index(
        "ix_keys_revoked",
        "keys",
        ["organization_id", "id"],
        sqlite_where=sa.text("revoked_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )


def _secrets() -> None:
    op.create_table(
        "key_secrets",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=True),
        sa.Column("tail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_key_secrets_digest")),
        sa.CheckConstraint("slot IN (0, 1)", name=op.f("ck_key_secrets_slot")),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_key_secrets_key_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_key_secrets")),
        sa.UniqueConstraint("id", name=op.f("uq_key_secrets_id")),
        sa.UniqueConstraint("key_id", "slot", name=op.f("uq_key_secrets_key_id_slot")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_key_secrets_tail", "key_secrets", ["tail", "key_id"])
    op.create_table(
        "secret_uses",
        sa.Column("secret_id", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("secret_id", name=op.f("pk_secret_uses")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retired_digests",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_retired_digests")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_idempotency_keys_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "actor_id", "idempotency_key", name=op.f("pk_idempotency_keys")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
