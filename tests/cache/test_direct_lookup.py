"""A lookup in the store itself: at once where that is possible, in a thread where a writer is in the way."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from gateway.cache import direct_lookup
from gateway.cache.direct_lookup import DirectLookup
from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.record import CredentialRecord
from tests.proxy.harness import record

if TYPE_CHECKING:
    from collections.abc import Awaitable

KNOWN = record()


class Reader:
    """A PointReader that is busy a few times, and notes which thread asks."""

    def __init__(self, busy: int = 0, *, down: bool = False) -> None:
        self.busy = busy
        self.down = down
        self.threads: list[int] = []
        self.closed = 0

    def read(self, digest: bytes) -> CredentialRecord | None:
        """See PointReader."""
        self.threads.append(threading.get_ident())
        if self.down:
            raise StoreUnavailable("away")
        if self.busy:
            self.busy -= 1
            raise StoreBusy("held by a writer")
        return KNOWN if digest == KNOWN.digest else None

    def close(self) -> None:
        """See PointReader."""
        self.closed += 1


async def answer(waiting: CredentialRecord | Awaitable[CredentialRecord | None] | None) -> CredentialRecord | None:
    """What a lookup that has to wait finds."""
    assert waiting is not None
    assert not isinstance(waiting, CredentialRecord)
    return await waiting


def never() -> Reader:
    """No second reader is needed."""
    pytest.fail("a second reader was opened")


def test_the_answer_comes_at_once_where_nobody_writes() -> None:
    lookup = DirectLookup(Reader(), never)
    assert lookup.read(KNOWN.digest) is KNOWN
    assert lookup.read(b"other") is None
    lookup.close()


def test_an_outage_is_raised_at_once() -> None:
    lookup = DirectLookup(Reader(down=True), never)
    with pytest.raises(StoreUnavailable):
        lookup.read(KNOWN.digest)
    lookup.close()


async def test_a_busy_store_is_waited_for_in_a_thread_with_a_reader_of_its_own() -> None:
    first, second = Reader(busy=1), Reader(busy=3)
    opened: list[Reader] = []

    def open_reader() -> Reader:
        opened.append(second)
        return second

    lookup = DirectLookup(first, open_reader)
    assert await answer(lookup.read(KNOWN.digest)) is KNOWN
    assert set(first.threads) == {threading.get_ident()}
    assert threading.get_ident() not in second.threads
    assert len(second.threads) == 4
    first.busy = 1
    assert await answer(lookup.read(b"other")) is None
    assert second.closed == len(opened), "nothing stays open"
    lookup.close()


async def test_a_store_that_stays_busy_is_unavailable_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_lookup, "PATIENCE_SECONDS", 0.0)
    lookup = DirectLookup(Reader(busy=1), lambda: Reader(busy=1_000_000))
    with pytest.raises(StoreUnavailable):
        await answer(lookup.read(KNOWN.digest))
    lookup.close()


async def test_an_outage_met_by_the_thread_is_told() -> None:
    lookup = DirectLookup(Reader(busy=1), lambda: Reader(down=True))
    with pytest.raises(StoreUnavailable):
        await answer(lookup.read(KNOWN.digest))
    lookup.close()


async def test_lookups_that_wait_are_bounded_in_number() -> None:
    """A flood of invented keys during a long write must not pile up."""
    written = threading.Event()

    def open_reader() -> Reader:
        written.wait()
        return Reader()

    lookup = DirectLookup(Reader(busy=10_000), open_reader)
    waiting = []
    refused = 0
    for number in range(1000):
        try:
            found = lookup.read(b"%d" % number)
        except StoreUnavailable:
            refused += 1
        else:
            waiting.append(asyncio.ensure_future(answer(found)))
            await asyncio.sleep(0)
    written.set()
    assert refused > 500
    assert all(each is None for each in await asyncio.gather(*waiting))
    lookup.close()
