"""Opens the store's services for one command.

Until the admin API exists the command line works on the store itself, as the system: whoever can write the store's
file may do everything anyway. The running gateway notices each change by the store's change log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import Unreachable

if TYPE_CHECKING:
    from gateway.services.keys import KeyService
    from gateway.services.organizations import OrganizationService
    from gateway.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """What a command may ask for."""

    organizations: "OrganizationService"
    keys: "KeyService"


@asynccontextmanager
async def opened(settings: "Settings", *, create: bool = False) -> AsyncIterator[Services]:
    """Open the store, at the newest schema; only with `create` is a new one made.

    Raises Unreachable where there is none: a mistyped path must not look like a store without keys.
    """
    from gateway.services.keys import KeyService
    from gateway.services.organizations import OrganizationService
    from gateway.store.engine import create_engine
    from gateway.store.migrate import migrate

    path = settings.store.sqlite_path.absolute()
    if not create and not path.exists():
        detail = f"There is no key store at {path}. Make it with gateway init, or say which with --config."
        raise Unreachable(detail, code="key_store_missing")
    migrate(settings.store.url)
    engine = create_engine(settings.store.url)
    try:
        prefix = settings.auth.key_prefix
        yield Services(OrganizationService(engine, key_prefix=prefix), KeyService(engine, key_prefix=prefix))
    finally:
        await engine.dispose()
