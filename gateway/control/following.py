"""Knows how far each worker has come in the change log, and lets a change's answer wait for all of them.

Of this node, the supervisor passes on what workers report: `{"command": "workers", …, "following": [{"name", "pid",
"applied", "epoch"}]}` whenever one comes or goes, and `{"command": "applied", "pid", "seq", "epoch"}` as they follow.
Where nodes share a store, the roll says who is there (`services.worker_roll`), read while somebody waits (`roll_call`);
what own workers report counts as well (`known_workers`). Without a roll all workers are of this node: one counts from
the moment it was told to start until its process has ended, also while it drains: that long it may send requests.

Invariant: `applied` counts only workers that said so, after they made the change count, in the life (epoch) of the log
that it is in now. A worker that is silent is named, together with the time by which it has stopped believing what it
remembers (by the rules of `cache.key_cache`). A roll that cannot be read, or that was restored lately, and a supervisor
that has said nothing yet are never "nobody": they are one who is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from gateway.control.api.propagation import PropagationShape, SilentWorker
from gateway.control.known_workers import KnownWorkers
from gateway.control.roll_call import RollCall
from gateway.errors import GatewayError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.control.known_workers import Worker
    from gateway.control.roll_call import MemberRoll
    from gateway.lifecycle import Message
    from gateway.services.worker_roll import Roll

PATIENCE_SECONDS: Final = 2.0
_UPKEEP_SECONDS: Final = 1.0
_UPKEEP_TIMEOUT_SECONDS: Final = 10.0
_UNREACHED: Final = sys.maxsize
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A worker, and how far it is. `lag` is None where nobody can tell."""

    name: str
    node: str
    host: str
    pid: int
    applied: int | None
    lag: int | None
    silent_seconds: float
    own: bool


class Following:
    """The workers that a change has to reach; implements `api.propagation.Propagation` and `status.Membership`."""

    def __init__(
        self,
        *,
        announce: Callable[[], None],
        newest_change: Callable[[], Awaitable[int]],
        believes_for_seconds: float,
        roll: MemberRoll | None = None,
        verify: Callable[[], Awaitable[None]] | None = None,
        node: str = "",
        host: str = "",
    ) -> None:
        """`announce` makes the workers look; `newest_change` is the number of the last one in the log.

        `node` and `host` are this node's; `believes_for_seconds` is that of its workers. `verify` returns when a log
        that has gone back was given a new epoch, and raises GatewayError (`services.log_guard`).
        """
        self._announce = announce
        self._newest_change = newest_change
        self._known = KnownWorkers(node=node, host=host, believes_for_seconds=believes_for_seconds)
        self._node = node
        self._verify = verify
        self._roll = roll
        self._call = None if roll is None else RollCall(roll, self._wake)
        self._moved = asyncio.Event()
        self._told = False
        """Whether the supervisor has said who there is."""
        self._ended: set[str] = set()
        """Workers of this node whose processes have ended; nobody waits for them, whatever the roll says."""
        self._leaving: set[str] = set()
        """Those of them that are to be taken off the roll."""
        self._updates = 0
        self._checked = 0
        """Which of the updates the roll was compared with."""
        self._upkeep = asyncio.Event()

    # --- what the supervisor says -------------------------------------------------------------------------------------

    def update(self, message: Message) -> None:
        """Take over which workers there are."""
        self._told = True
        gone, there = self._known.update(message), self._known.ids()
        if self._roll is not None:
            self._ended = (self._ended | gone) - there
            self._leaving = (self._leaving | gone) - there
            self._updates += 1
            self._upkeep.set()
        self._wake()

    def applied(self, message: Message) -> None:
        """Take over that one worker has come further."""
        if self._known.applied(message):
            self._wake()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def wait(self, seq: int | None) -> PropagationShape:
        """Return when every worker has applied the change, or after `PATIENCE_SECONDS`."""
        began, at = monotonic(), datetime.now(UTC)
        # A caller who repeats a call wants to know about the change that the first one made.
        wanted = await self._newest() if seq is None else seq
        self._announce()
        if not await self._is_verified():
            wanted = _UNREACHED
        # Only now, so that each reading of the roll is of the epoch that this change belongs to.
        with contextlib.nullcontext(0) if self._call is None else self._call.attend() as first:
            while (left := began + PATIENCE_SECONDS - monotonic()) > 0:
                moved = self._moved
                if all(each.applied >= wanted for each in self._waited_for(first)):
                    break
                try:
                    async with asyncio.timeout(left):
                        await moved.wait()
                except TimeoutError:
                    break
            members = self._waited_for(first)
        silent = [each for each in members if each.applied < wanted]
        return PropagationShape(
            seq=seq,
            applied=len(members) - len(silent),
            of=len(members),
            milliseconds=round((monotonic() - began) * 1000),
            silent=tuple(
                SilentWorker(name=each.label(), until=at + timedelta(seconds=each.believes_for_seconds))
                for each in silent
            ),
        )

    def _waited_for(self, first: int) -> list[Worker]:
        """Who has to apply a change, by the readings from the `first` on that counts."""
        if not self._told:
            return self._known.own_and_others()
        if self._call is None:
            return self._known.own()
        roll = self._call.reading(first)
        return self._known.own_and_others() if roll is None else self._known.all(roll, self._ended)

    async def _newest(self) -> int:
        """Where that cannot be read just now, nobody can be said to have come that far."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._newest_change()
        except (GatewayError, TimeoutError):
            return _UNREACHED

    async def _is_verified(self) -> bool:
        """Whether what workers have said is about the log that is there now."""
        if self._verify is None:
            return True
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._verify()
        except (GatewayError, TimeoutError):
            return False
        return True

    def _wake(self) -> None:
        """Let everybody who waits look once more."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # --- who there is -------------------------------------------------------------------------------------------------

    async def members(self) -> list[Member]:
        """Return the workers of all nodes, or those of this one where the others cannot be known just now."""
        workers = self._known.own()
        if self._roll is not None:
            with contextlib.suppress(Unreachable, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    workers = self._known.all(await self._roll.present(), self._ended)
        head = await self._newest()
        return [_member(each, None if head == _UNREACHED else head) for each in workers]

    # --- keeping the roll ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take off the roll who has ended or expired, until cancelled. Without a roll there is nothing to do."""
        while self._roll is not None:
            self._upkeep.clear()
            self._ended &= self._leaving  # the others were taken off, and newer readings do without them
            try:
                async with asyncio.timeout(_UPKEEP_TIMEOUT_SECONDS):
                    await self._keep(self._roll)
            except (Unreachable, TimeoutError) as error:
                _LOG.debug("the roll of workers cannot be kept just now", extra={"reason": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_UPKEEP_SECONDS):  # wait_for of Python 3.11 may swallow a cancellation
                    await self._upkeep.wait()

    async def _keep(self, roll: MemberRoll) -> None:
        if self._checked != (updates := self._updates):
            self._note_ended(await roll.present())
            self._checked = updates
        if self._leaving:
            leaving = set(self._leaving)
            await roll.remove(sorted(leaving))
            self._leaving -= leaving
        for each in await roll.expire():
            _LOG.warning(
                "a worker was silent for longer than it may serve from memory; changes do not wait for it any more",
                extra={"worker": each},
            )

    def _note_ended(self, roll: Roll) -> None:
        """Find those whose end nobody here was told of, as this process was not there then."""
        unlisted = [(id_, heard.presence) for id_, heard in roll.members.items() if id_ not in self._known.ids()]
        for id_, presence in unlisted:
            if presence.node == self._node and not _exists(presence.pid):
                self._ended.add(id_)
                self._leaving.add(id_)
        self._wake()


def _exists(pid: int) -> bool:
    """Whether there is a process with this number, which may be another one by now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _member(worker: Worker, head: int | None) -> Member:
    applied = None if worker.applied < 0 else worker.applied
    return Member(
        name=worker.name,
        node=worker.node,
        host=worker.host,
        pid=worker.pid,
        applied=applied,
        lag=None if applied is None or head is None else max(0, head - applied),
        silent_seconds=worker.silent_seconds,
        own=worker.own,
    )
