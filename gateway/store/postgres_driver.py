"""asyncpg, for whoever connects: its import, one way to connect, and what its errors mean to us.

Invariant: only an absent server, a full disk, a wrong password and their like come out as our errors, each in one
sentence that names the server and never the password. Answers that services read (a broken constraint) are none of
them. asyncpg is imported where somebody connects, for it is an extra: a gateway on SQLite runs without it.
"""

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import GatewayError, StoreBusy, StoreUnavailable, Unreachable
from gateway.settings.quoting import printable, redact, shortened
from gateway.store.location import postgres_name

if TYPE_CHECKING:
    import asyncpg

CONNECT_TIMEOUT_SECONDS: Final = 4.0
_MAX_REASON_CHARACTERS: Final = 200
_BUSY: Final = frozenset({"55P03", "40001", "40P01"})  # lock not available, serialization failure, deadlock
# SQLSTATE by itself or by its class (https://www.postgresql.org/docs/current/errcodes-appendix.html): what is said of
# the key store, and what to do.
_MEANINGS: Final[Mapping[str, str]] = {
    "28P01": "refuses the password. Check user and password in store.url",
    "28": "does not let this user in. Check user and password in store.url, and the server's pg_hba.conf",
    "3D000": "does not exist: the server has no such database. Create it, or check store.url",
    "3F000": "has no schema to make tables in. Check the user's search_path",
    "42501": "refuses what the gateway has to do there. Grant its user what docs/store.md lists",
    "42P01": "lacks tables. Start a gateway with a control process, which makes them",
    "42703": "has an older schema. Start a gateway of this version with a control process, which upgrades it",
    "25006": "can only be read just now, as a standby can. Name the primary in store.url",
    "53100": "has a full disk. Nothing was changed",
    "53300": "has no connection left. Raise max_connections of the server, or lower store.connections_per_worker",
    "57014": "took too long to answer",
    "57P": "is being stopped or started",
    "08": "has lost the connection",
    "22P05": "cannot hold this text in its encoding. Create the database with ENCODING 'UTF8'",
}


def asyncpg_module() -> Any:  # noqa: ANN401 - the module, for those who cannot import it at the top
    """Return asyncpg, or raise GatewayError with what to install."""
    try:
        import asyncpg  # noqa: PLC0415 - an extra
    except ImportError as error:
        detail = "A PostgreSQL store needs asyncpg, which is not installed: pip install 'keygate[postgres]'."
        raise GatewayError(detail, code="driver_missing", internal=str(error)) from error
    return asyncpg


async def connect(
    url: str, *, command_timeout_seconds: float | None, kind: "type[asyncpg.Connection] | None" = None
) -> "asyncpg.Connection":
    """Connect as everything here does, so that a URL means the same to all processes. Raises asyncpg's errors."""
    module = asyncpg_module()
    connection: asyncpg.Connection = await module.connect(
        url,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=command_timeout_seconds,
        server_settings={} if "application_name=" in url else {"application_name": "keygate"},
        connection_class=kind or module.Connection,
    )
    return connection


def failures() -> tuple[type[Exception], ...]:
    """Return what asyncpg raises where a server does not do what it is asked."""
    module = asyncpg_module()
    # An OSError may be a refused connection, an unknown host or a certificate; a ValueError a file that is no key.
    return (module.PostgresError, module.InterfaceError, module.InternalClientError, OSError, TimeoutError)


def translated(url: str, error: BaseException) -> Unreachable:
    """Say in one sentence what a failure means."""
    internal = f"{type(error).__name__}: {_reason(error)}"
    if getattr(error, "sqlstate", None) in _BUSY:
        return StoreBusy("The key store is held by another writer. Nothing was changed; try again.", internal=internal)
    return StoreUnavailable(f"The key store {postgres_name(url)} {_meaning(error)}.", internal=internal)


def _meaning(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None) or ""
    for part in (state, state[:3], state[:2]):
        if part in _MEANINGS:
            return _MEANINGS[part]
    reason = _reason(error)
    if state:
        return f"cannot be used just now: {reason}"
    if isinstance(error, TimeoutError):
        return "does not answer. Check that the server runs"
    if isinstance(error, ssl.SSLError):
        return f"cannot be trusted: {reason}. Check sslmode and sslrootcert in store.url"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"cannot be reached: {reason}. Check the socket, or the certificates, of store.url"
    return f"cannot be reached: {reason}. Check that the server runs, and store.url"


def _reason(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    return printable(shortened(redact(str(reason)), _MAX_REASON_CHARACTERS)).rstrip(".")
