"""What fails behind the gateway, or in it, before a case of the battery is tried: `prepare` of `try_case`.

Invariant: nothing is replaced but what the store answers, the room for records, and, for a defect, a key's origins.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.proxy.recording import Recording
from gateway.recording.spool import Spool
from gateway.recording.spool_directory import SpoolDirectory
from tests.proxy.harness import DEFECTS
from tests.wire.cases import SECOND

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.wire.live import Live

    Prepare = Callable[[Live], Awaitable[None]]


async def warm(gate: Live) -> None:
    """Let the worker know the key of what stands behind each case, so that it asks nobody about it."""
    client = await gate.ask(SECOND)
    assert [each.status for each in client.answers] == [200]
    gate.close_clients()
    await gate.until(lambda: not gate.worker.connections)


def failing(error: Callable[[], Exception], *, later: bool = False) -> Prepare:
    """A store that fails whenever it is asked, from now on."""

    async def prepare(gate: Live) -> None:
        await warm(gate)
        gate.keys.fails_with, gate.keys.fails_later = error, later

    return prepare


@contextmanager
def record_without_room(path: Path) -> Iterator[Prepare]:
    """A worker that puts requests on record where the limit of what may wait is reached."""
    spool = Spool(
        SpoolDirectory(path), limit_bytes=1, when_full="refuse", sync_interval_seconds=60, segment_bytes=1 << 16
    )
    spool.start()
    assert spool.blocked

    async def prepare(gate: Live) -> None:
        gate.worker.recording = Recording(spool, refusals_per_second=100, key_prefix="sk_")

    try:
        yield prepare
    finally:
        spool.close()


class Defect(Exception):
    """What no part of the gateway expects."""


class Cursed(tuple[str, ...]):
    """Origins of a key that fail whoever looks one up."""

    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        raise Defect


@contextmanager
def own_defects() -> Iterator[list[logging.LogRecord]]:
    """What the log says of each Defect; any other error in it is still a defect of the gateway."""
    own: list[logging.LogRecord] = []

    def is_of_the_gateway(record: logging.LogRecord) -> bool:
        if record.exc_info is None or not isinstance(record.exc_info[1], Defect):
            return True
        own.append(record)
        return False

    DEFECTS.addFilter(is_of_the_gateway)
    try:
        yield own
    finally:
        DEFECTS.removeFilter(is_of_the_gateway)
