"""Looks a missed key up in the store itself, on the event loop where that takes microseconds.

Invariant: the loop never waits for a lock. The reader gives up at once when a writer is in its way, and only then the
question goes to a thread, which may wait for it up to `PATIENCE_SECONDS`. Turned down: an async SQL layer for every
lookup, which costs about a millisecond where an indexed point read takes microseconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, Protocol

from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.record import CredentialRecord

PATIENCE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.002
_WAITING_LIMIT: Final = 256


class PointReader(Protocol):
    """A store's reader that answers at once or raises StoreBusy; used by one thread only."""

    def read(self, digest: bytes) -> CredentialRecord | None:
        """The record of a digest; raises StoreBusy, StoreUnavailable."""

    def close(self) -> None:
        """Let go of the store."""


class DirectLookup:
    """A KeySource over a PointReader."""

    def __init__(self, reader: PointReader, open_reader: Callable[[], PointReader]) -> None:
        """`reader` serves the loop; `open_reader` makes another one for each read in the thread."""
        self._reader = reader
        self._open_reader = open_reader
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="key-lookup")

    def read(self, digest: bytes) -> CredentialRecord | Awaitable[CredentialRecord | None] | None:
        """See KeySource."""
        try:
            return self._reader.read(digest)
        except StoreBusy as error:
            if self._waiting >= _WAITING_LIMIT:
                raise StoreUnavailable(error.detail, internal="too many lookups wait for the store") from error
            return self._read_in_thread(digest, time.monotonic() + PATIENCE_SECONDS)

    async def _read_in_thread(self, digest: bytes, give_up_at: float) -> CredentialRecord | None:
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            return await loop.run_in_executor(self._thread, self._read_patiently, digest, give_up_at)
        finally:
            self._waiting -= 1

    def _read_patiently(self, digest: bytes, give_up_at: float) -> CredentialRecord | None:
        while True:
            try:
                # Opened anew each time: this is rare, and a store that was replaced meanwhile must not be missed.
                with closing(self._open_reader()) as reader:
                    return reader.read(digest)
            except StoreBusy as error:
                if time.monotonic() > give_up_at:
                    raise StoreUnavailable(error.detail, internal=error.internal) from error
                time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)
