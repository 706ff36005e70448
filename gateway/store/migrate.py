"""Bring the store to the schema this code knows, before anything else opens it.

Invariant: after `migrate` the store exists and has the newest known revision and an identity; or an error says in one
sentence why not, and the store is as it was. Any number of processes, on any number of nodes, may do it at once.

Alembic and SQLAlchemy are imported only where there is something to do, so that a start with nothing to do pays for
neither. How each store does it: `sqlite_migration`, `postgres_migration`.
"""

from gateway.store.location import is_postgres


def migrate(url: str) -> None:
    """Create or upgrade the store at `url`. Blocking; safe to call as often, and by as many processes, as one likes."""
    if is_postgres(url):
        from gateway.store.postgres_migration import migrate_postgres  # noqa: PLC0415 - asyncpg and asyncio

        migrate_postgres(url)
    else:
        from gateway.store.sqlite_migration import migrate_sqlite  # noqa: PLC0415 - one of the two is enough

        migrate_sqlite(url)
