"""Opens the store for `gateway init`, the one command that works on it directly.

Whoever can write the store's file may do everything anyway; whoever cannot needs a key for the admin API, and the first
one has to come from somewhere. A running gateway notices what is made here by the store's change log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.services.organizations import OrganizationService
    from gateway.settings.model import Settings


@asynccontextmanager
async def opened(settings: "Settings") -> AsyncIterator["OrganizationService"]:
    """Open the store, made where there is none, at the newest schema."""
    from gateway.services.organizations import OrganizationService
    from gateway.store.engine import create_engine
    from gateway.store.migrate import migrate

    migrate(settings.store.url)
    engine = create_engine(settings.store.url)
    try:
        yield OrganizationService(engine, key_prefix=settings.auth.key_prefix)
    finally:
        await engine.dispose()
