"""Recording: how far each segment of a spool has been read, and how many requests each key made, by the hour.

Invariant: only tables are added, so gateways of the version before go on beside this one while nodes are upgraded one
by one. Entries themselves are not here: the audit store keeps them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "audit_segments",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.Column("read_to", sa.Integer(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("sealed_entries", sa.Integer(), nullable=True),
        sa.Column("damaged_bytes", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("spool", "segment", name=op.f("pk_audit_segments")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_counts",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "hour", "outcome", "organization_id", name=op.f("pk_audit_counts")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_audit_counts_organization", "audit_counts", ["organization_id", "hour"])
    op.create_index("ix_audit_counts_hour", "audit_counts", ["hour"])


def downgrade() -> None:
    """Refuse: a store that loses nothing is never migrated backwards; restore a backup instead."""
    raise NotImplementedError
