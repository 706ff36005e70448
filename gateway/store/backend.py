"""What the two kinds of store have to say for themselves, so that `engine` is one way of reading and writing both.

Turned down: asking everywhere which dialect an engine has.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import StoreBusy, Unreachable


class Backend(Protocol):
    """One store, as its engine is made and used."""

    @property
    def reading(self) -> Mapping[str, Any]:
        """The execution options of a connection that shall see one moment of the store."""

    @property
    def asking(self) -> Mapping[str, Any]:
        """The execution options of a connection for single statements, each of which sees one moment by itself."""

    @property
    def writing(self) -> Mapping[str, Any]:
        """The execution options of a connection that shall change it."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What the driver may raise that SQLAlchemy does not wrap."""

    @property
    def turn_timeout_seconds(self) -> float | None:
        """How long a writer waits for the other writers of its process; None: as long as it takes."""

    def engine(self) -> AsyncEngine:
        """Make the engine; nothing connects yet."""

    async def take_lock(self, connection: AsyncConnection) -> None:
        """Be the only writer until the end of the transaction that has just begun; its first statement."""

    def translated(self, error: BaseException) -> Unreachable:
        """Say what a failure of the driver means."""

    def crowded(self, error: BaseException) -> Unreachable:
        """Say what it means that no connection became free, or no turn to write."""


def busy(error: BaseException) -> StoreBusy:
    """Say that there are too many others."""
    detail = "The key store is held by many others. Nothing was changed; try again."
    return StoreBusy(detail, internal=f"waited for those of this process: {error}")
