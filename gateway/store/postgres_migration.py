"""Bring a PostgreSQL database to the schema this code knows.

Invariant: after `migrate_postgres` the first schema of the search path has our tables at the newest known revision; or
an error says in one sentence why not, and nothing was changed. All revisions run in one transaction, under an advisory
lock, in which the revision is looked up again: of several nodes starting at once one migrates, the others wait and
find nothing to do.

The database itself is not created: whoever may create databases has more power than a gateway should. A table as a lock
was turned down: it would have to be made before there are any tables.
"""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from gateway.errors import GatewayError, StoreUnavailable
from gateway.store import postgres_driver
from gateway.store.location import postgres_name
from gateway.store.revision import REVISIONS, accepted

if TYPE_CHECKING:
    import asyncpg

LOCK_TIMEOUT_SECONDS: Final = 30.0  # another process may be migrating a big store
MIGRATION_LOCK: Final = 0x6B65_7967_6174_6502
_OURS: Final = "store_identity"
# Tables that came with an extension, such as PostGIS, are nobody's data.
_TABLES: Final = """
SELECT c.relname
  FROM pg_catalog.pg_class c
 WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = current_schema())
   AND c.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_log: Final = logging.getLogger(__name__)


def migrate_postgres(url: str) -> None:
    """Create or upgrade the tables. Blocking, in a thread of its own where an event loop runs in this one."""
    failures = postgres_driver.failures()
    try:
        _run(_migrate(url))
    except failures as error:
        raise postgres_driver.translated(url, error) from error


def _run(work: Coroutine[None, None, None]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _migrate(url: str) -> None:
    connection = await postgres_driver.connect(url, command_timeout_seconds=None)
    try:
        encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            detail = f"The database {postgres_name(url)} is encoded in {encoding}. Create it with ENCODING 'UTF8'."
            raise GatewayError(detail, code="store_encoding")
        if await _revision(connection, url) != REVISIONS[-1]:
            await _upgrade(connection, url)
    finally:
        await connection.close(timeout=postgres_driver.CONNECT_TIMEOUT_SECONDS)


async def _revision(connection: "asyncpg.Connection", url: str) -> str | None:
    """Return the revision of the schema, None for an empty one. What is not ours, or newer than us, is refused."""
    name = postgres_name(url)
    if await connection.fetchval("SELECT current_schema()") is None:
        raise StoreUnavailable(f"The database {name} has no schema to make tables in. Check the user's search_path.")
    tables = {row[0] for row in await connection.fetch(_TABLES)}
    if not tables:
        return None
    revision = None
    if {_OURS, "alembic_version"} <= tables:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    if revision is None:
        detail = f"{name} is a database of another program. Choose another database, or a schema by its search_path."
        raise GatewayError(detail, code="store_foreign")
    return accepted(str(revision), name)


async def _upgrade(connection: "asyncpg.Connection", url: str) -> None:
    """Let Alembic run all missing revisions on this very connection, in one transaction."""
    # Imported only here, so that a start with nothing to do pays for neither.
    from sqlalchemy import pool, text  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    from gateway.store.revisions import run_all  # noqa: PLC0415

    async def lent() -> "asyncpg.Connection":
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lent, poolclass=pool.NullPool)
    try:
        async with engine.begin() as transaction:
            limit = f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}"
            await transaction.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": limit})
            await transaction.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            found = await _revision(connection, url)
            if found == REVISIONS[-1]:
                return  # another process was faster
            await transaction.run_sync(run_all)
        extra = {"store": postgres_name(url), "schema_was": found, "schema": REVISIONS[-1]}
        _log.info("prepared the key store", extra=extra)
    except DBAPIError as error:
        original = error.orig.__cause__ if error.orig is not None else None
        raise (original or error) from error
