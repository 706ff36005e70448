"""Many nodes: which workers serve from memory, and which digests a key ever had.

Invariant: only a store that nodes share has rows in `workers`; the table is made in every store, so that the schema is
one. The index is for the relay, which tells Redis of each digest that a change has taken from a key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("believes_for", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=True),
        sa.Column("applied", sa.BigInteger(), nullable=True),
        sa.Column("entered_at", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_retired_digests_key", "retired_digests", ["key_id"])


def downgrade() -> None:
    """Refuse: a store that loses nothing is never migrated backwards; restore a backup instead."""
    raise NotImplementedError
