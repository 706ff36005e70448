"""The whole life of a key: the operator, allowed origins, imports, what the lists are sorted by, whose trail it is.

Invariant: every row of a store of revision 0001 comes out as the new code would have written it: the oldest
organization is the operator, names are folded for searches, each key has its row of `key_uses`. Columns are added where
the tables stand instead of copying the tables, so the time grows with the rows that have to be filled alone.
"""

import sqlalchemy as sa
from alembic import op

from gateway.keys.naming import folded

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is new, then fill it."""
    _organizations()
    _owners()
    _keys()
    _key_uses()
    _management_events()


def downgrade() -> None:
    """Refuse: a store that loses nothing is never migrated backwards; restore a backup instead."""
    raise NotImplementedError


def _organizations() -> None:
    op.add_column("organizations", sa.Column("operator", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(
        "UPDATE organizations SET operator = true"
        " WHERE id = (SELECT id FROM organizations WHERE removed_at IS NULL ORDER BY created_at, id LIMIT 1)"
    )
    op.create_index(
        "ux_organizations_operator",
        "organizations",
        ["operator"],
        unique=True,
        sqlite_where=sa.text("operator"),
        postgresql_where=sa.text("operator"),
    )
    _add_folded_name("organizations")
    op.create_index(
        "ix_organizations_search",
        "organizations",
        ["name_search", "id"],
        sqlite_where=sa.text("removed_at IS NULL"),
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def _owners() -> None:
    _add_folded_name("owners")
    op.create_index(
        "ix_owners_search",
        "owners",
        ["organization_id", "kind", "name_search", "id"],
        sqlite_where=sa.text("removed_at IS NULL"),
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def _add_folded_name(table_name: str) -> None:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column(table_name, sa.Column("name_search", text, server_default="", nullable=False))
    table = sa.table(table_name, sa.column("id"), sa.column("name"), sa.column("name_search"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(table.c.id, table.c.name)).all():
        # By no database: see gateway/keys/naming.py.
        connection.execute(sa.update(table).where(table.c.id == row.id).values(name_search=folded(row.name)))


def _keys() -> None:
    op.add_column("keys", sa.Column("allowed_origins", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("imported", sa.Boolean(), server_default=sa.false(), nullable=False))
    standing = (
        "CASE WHEN revoked_at IS NOT NULL THEN 'revoked'"
        " WHEN disabled_at IS NOT NULL THEN 'disabled' ELSE 'enabled' END"
    )
    ends_at = "CASE WHEN revoked_at IS NULL THEN expires_at END"
    # PostgreSQL cannot index what it does not store, SQLite cannot add what it does.
    stored = True if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("keys", sa.Column("standing", sa.Text(), sa.Computed(standing, persisted=stored), nullable=True))
    op.add_column("keys", sa.Column("ends_at", sa.BigInteger(), sa.Computed(ends_at, persisted=stored), nullable=True))
    for index in ("expiry", "revoked", "disabled", "live"):
        op.drop_index(f"ix_keys_{index}", "keys")
    op.create_index("ix_keys_standing", "keys", ["organization_id", "standing", "id"])
    op.create_index("ix_keys_ends", "keys", ["organization_id", "ends_at", "id"])


def _key_uses() -> None:
    op.create_table(
        "key_uses",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("used", sa.Boolean(), nullable=False),
        sa.Column("idle_since", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_key_uses_key_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_key_uses")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO key_uses (key_id, organization_id, used, idle_since, address, user_agent)"
        " SELECT k.id, k.organization_id, u.used_at IS NOT NULL, coalesce(u.used_at, k.created_at),"
        "        u.address, u.user_agent"
        "   FROM keys k"
        "   LEFT JOIN key_secrets s ON s.key_id = k.id AND s.valid_until IS NULL"  # revision 0001 never rotated one
        "   LEFT JOIN secret_uses u ON u.secret_id = s.id"
    )
    op.create_index("ix_key_uses_idle", "key_uses", ["organization_id", "idle_since", "key_id"])
    op.create_index("ix_key_uses_used", "key_uses", ["organization_id", "used", "idle_since", "key_id"])


def _management_events() -> None:
    op.add_column("management_events", sa.Column("actor_owner_id", sa.Text(), nullable=True))
    op.add_column("management_events", sa.Column("target_owner_id", sa.Text(), nullable=True))
    # Nobody but the system could act before, and a deleted key's owner is no longer known.
    op.execute(
        "UPDATE management_events SET target_owner_id = CASE target_kind"
        " WHEN 'key' THEN (SELECT owner_id FROM keys WHERE keys.id = target_id)"
        " WHEN 'organization' THEN NULL ELSE target_id END"
    )
    for index in ("organization", "target", "actor"):
        op.drop_index(f"ix_management_events_{index}", "management_events")
    for index, *chosen in (
        ("organization",),
        ("action", "action"),
        ("target", "target_id"),
        ("target_owner", "target_owner_id"),
        ("actor", "actor_id"),
        ("actor_owner", "actor_owner_id"),
    ):
        columns = ["organization_id", *chosen, "at", "id"]
        op.create_index(f"ix_management_events_{index}", "management_events", columns)
