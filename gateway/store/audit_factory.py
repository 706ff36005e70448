"""The store that requests are put on record in: the one place that knows which kinds there are.

Invariant: it is of the kind of the store that keys are in. Nothing is opened or connected before it is first used.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.settings.model import Settings
from gateway.store.audit_store import AuditStore


def audit_store(settings: Settings, engine: AsyncEngine) -> AuditStore:
    """Return the store that these settings name. `engine`: the one of the main store, of the same event loop."""
    if settings.store.is_sqlite:
        from gateway.store.audit_sqlite import SqliteAuditStore  # noqa: PLC0415 - one of the two is enough

        return SqliteAuditStore(settings.audit_directory / "audit")
    from gateway.store.audit_postgres import PostgresAuditStore  # noqa: PLC0415 - asyncpg is an extra

    return PostgresAuditStore(settings.store.url, engine)
