"""Runs of workers that are not settled: the audit store has to be told once that they are over.

Invariant: only a table is added, so gateways of the version before go on beside this one while nodes are upgraded one
by one. It begins with every run there is: telling the audit store again changes nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and list the runs that are known."""
    op.create_table(
        "audit_runs",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("spool", "run", name=op.f("pk_audit_runs")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO audit_runs (spool, run) SELECT DISTINCT spool, run FROM audit_segments")


def downgrade() -> None:
    """Refuse: a store that loses nothing is never migrated backwards; restore a backup instead."""
    raise NotImplementedError
