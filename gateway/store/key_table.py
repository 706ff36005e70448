"""The key table that Redis holds for the workers of all nodes: records by digest, and how far in the log they are.

Three users: workers look up, follow and leave signs of life; control processes relay changes into it and build it anew.
What is done in one piece is in `key_table_scripts`, with the invariants that hold whoever calls.

Invariant: nothing that Redis does or fails to do makes a good key a bad one. No record counts as "no such key" only
where the table is `complete`: finished, and with not a single field lost since. What cannot be read is "cannot know":
what is not understood (`key_table_words`, `record_codec`) counts as not there, and is told once.
All names begin with `{namespace}:`, in braces, so that a Cluster keeps them in one slot and a script may touch them.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from gateway.errors import RedisUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogPosition, Pulse, TableAnswer, WorkerPresence
from gateway.store import key_table_scripts as scripts
from gateway.store import key_table_words as words
from gateway.store.key_table_scripts import Script
from gateway.store.record_codec import Unreadable, decode
from gateway.store.redis_connection import Connection, Reply, Word
from gateway.store.redis_link import RedisLink, RedisRefused, connect

if TYPE_CHECKING:
    from gateway.settings.model import RedisSettings

Entry = words.Entry
_LOCK_MILLISECONDS: Final = 15_000
"""For how long a builder that says nothing keeps others from building."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TableState:
    """The table as it was `at` (microseconds, by Redis' clock). `build` and the connection tie what follows to it."""

    at: int
    epoch: str
    build: str
    head: int
    tip: Change | None
    finished: bool
    """Changes can be relayed into it."""
    whole: bool
    """No field of it was lost."""
    connection: Connection


class KeyTable:
    """The table of one namespace. Its methods raise RedisUnavailable, and nothing else."""

    def __init__(self, link: RedisLink, namespace: str = "keygate") -> None:
        """No I/O."""
        self._link = link
        self._keys = f"{{{namespace}}}:keys"
        self._workers = f"{{{namespace}}}:workers"
        self._lock = f"{{{namespace}}}:lock"
        # Channels are the server's, not its databases'.
        self._channel = f"{{{namespace}}}:changes:{link.database}"
        self._build = f"{{{namespace}}}:build:"
        self._told: set[str] = set()

    def __repr__(self) -> str:
        """Name it, without a password."""
        return f"<KeyTable {self._keys} at {self._link}>"

    async def close(self) -> None:
        """Close the link, which is this table's alone."""
        await self._link.close()

    # --- workers ------------------------------------------------------------------------------------------------------

    async def find(self, digest: bytes) -> TableAnswer:
        """What the table says of a digest, and how far it is: one round trip."""
        match await self._run(scripts.FIND, [self._keys], digest):
            case [bytes() | None as epoch_text, bytes() | None as head_text, int(whole), bytes() | None as value]:
                epoch, head = words.name(epoch_text), words.number(head_text)
            case _:
                raise _unexpected()
        if epoch is None or head is None:
            self._note_position(epoch_text, epoch, head_text, head)
            return TableAnswer(None, epoch, head, complete=False)
        if value is None:
            return TableAnswer(None, epoch, head, complete=whole == 1)
        try:
            return TableAnswer(decode(digest, value), epoch, head, complete=whole == 1)
        except Unreadable as error:
            self._tell_once(f"{self._keys} holds records that this version cannot read ({error})")
            return TableAnswer(None, epoch, head, complete=False)

    async def pulse(self, presence: WorkerPresence) -> Pulse:
        """How far the table is and by whose word, renewing the worker's sign of life: one round trip."""
        keys = [self._keys, self._workers]
        match await self._run(scripts.PULSE, keys, presence.id, words.presence_text(presence)):
            case [bytes() | None as epoch_text, bytes() | None as head_text, int(whole), stamp, bytes(now_text)]:
                now = words.moment(now_text)
            case _:
                raise _unexpected()
        if now is None:
            raise _unexpected()
        epoch, head = words.name(epoch_text), words.number(head_text)
        self._note_position(epoch_text, epoch, head_text, head)
        known = epoch is not None and head is not None
        return Pulse(epoch, head, known and whole == 1, words.stamp(stamp, now))

    async def leave(self, worker_id: str) -> None:
        """Take back the sign of life; without Redis, it grows old."""
        with suppress(RedisUnavailable):
            await self.remove_presences([worker_id])

    async def follow(self) -> AsyncGenerator[tuple[str, Change] | None, None]:
        """None when the subscription holds, then the epoch and change of each message.

        Raises RedisUnavailable when the connection is lost; call again. What is in no known form is passed over: that
        the head has moved shows at the next pulse.
        """
        messages = self._link.subscribe(self._channel)
        try:
            async for message in messages:
                if message is None:
                    yield None
                elif (heard := words.heard(message)) is not None:
                    yield heard
                else:
                    self._tell_once(
                        f"a change was announced on {self._channel} in a form that this version does not know"
                    )
        finally:
            await messages.aclose()

    # --- control processes: who is there ------------------------------------------------------------------------------

    async def presences(self) -> dict[str, tuple[WorkerPresence, float]]:
        """Each worker's last sign of life, and how many seconds old it is by Redis' clock."""
        match await self._run(scripts.PRESENCES, [self._workers]):
            case [bytes(now_text), list(pairs)] if len(pairs) % 2 == 0:
                now = words.moment(now_text)
            case _:
                raise _unexpected()
        if now is None:
            raise _unexpected()
        read = [words.presence(id_, text, now) for id_, text in zip(pairs[::2], pairs[1::2], strict=True)]
        if None in read:
            self._tell_once(f"a worker's sign of life in {self._workers} is in a form that this version does not know")
        return {each[0].id: each for each in read if each is not None}

    async def remove_presences(self, ids: Iterable[str]) -> None:
        """Forget workers that are gone."""
        gone = list(ids)
        if gone:
            await self._link.call("HDEL", self._workers, *gone)

    # --- control processes: relaying ----------------------------------------------------------------------------------

    async def state(self) -> tuple[int, TableState | None]:
        """The moment by Redis' clock in microseconds, and the table at it; None where there is none that can be read.

        Read before the store is: a stamp of this moment then never promises more than the store said later.
        """
        answer, connection = await self._ask(scripts.STATE, [self._keys])
        match answer:
            case [bytes(now_text), int(fields), epoch_text, build_text, head_text, tip_text, complete, size_text]:
                at = words.moment(now_text)
            case _:
                raise _unexpected()
        if at is None:
            raise _unexpected()
        epoch, build = words.name(epoch_text), words.name(build_text)
        head, size = words.number(head_text), words.number(size_text)
        tip = None if head is None else words.tip(head, tip_text)
        if epoch is None or build is None or head is None or tip is None or size is None:
            if fields:
                self._tell_once(f"{self._keys} holds fields that are not understood", "it is built anew")
            return at, None
        return at, TableState(
            at=at,
            epoch=epoch,
            build=build,
            head=head,
            tip=tip[0],
            finished=complete == scripts.COMPLETE.encode(),
            whole=fields == size + scripts.FIXED_FIELDS,
            connection=connection,
        )

    async def put(self, state: TableState, as_of: int, entries: Sequence[Entry]) -> bool:
        """Write entries of a snapshot of the store whose head was `as_of`; False where the table is another by now."""
        sent: tuple[Word, ...] = (state.epoch, state.build, as_of, *words.values(entries, as_of))
        return _flag(await self._run(scripts.PUT, [self._keys], *sent, on=state.connection))

    async def advance(self, state: TableState, change: Change, as_of: int, entries: Sequence[Entry]) -> bool:
        """Write what the change has altered, move the head onto it, and announce it; False where it is not the next."""
        tip, message = words.tip_text(change), words.message_text(state.epoch, change)
        position: tuple[Word, ...] = (state.epoch, state.build, change.seq, tip)
        sent = (*position, self._channel, message, *words.values(entries, as_of))
        return _flag(await self._run(scripts.ADVANCE, [self._keys], *sent, on=state.connection))

    async def stamp(self, at: int, position: LogPosition | None) -> bool:
        """Say how far the store was at that moment or later; None: it could not be asked. False: others know better."""
        epoch, head = ("", "") if position is None else (position.epoch, str(position.seq))
        return _flag(await self._run(scripts.STAMP, [self._keys], at, epoch, head))

    async def begin_build(self) -> "Build | None":
        """The right to build the table anew; None where somebody else has it."""
        token = token_hex(16)
        if await self._link.call("SET", self._lock, token, "NX", "PX", _LOCK_MILLISECONDS) == b"OK":
            return Build(self, token)
        answer = await self._run(scripts.BEGIN, [self._lock], token, _LOCK_MILLISECONDS)  # unless it would never expire
        if answer == 2:  # noqa: PLR2004 - as BEGIN says
            what = f"{self._lock} was no lock of a gateway, as it would never have expired, and kept the table from"
            self._tell_once(f"{what} being built", "it was deleted; see who else writes such names")
            return Build(self, token)
        return Build(self, token) if _flag(answer) else None

    async def run_for_build(self, script: Script, token: str, *sent: Word) -> int:
        """One of the scripts of a `Build`."""
        keys = [self._lock, self._build + token, self._keys]
        answer = await self._run(script, keys, token, *sent)
        if type(answer) is not int:
            raise _unexpected()
        return answer

    @property
    def channel(self) -> str:
        """Where changes are announced."""
        return self._channel

    # --- scripts ------------------------------------------------------------------------------------------------------

    async def _run(self, script: Script, keys: list[str], *sent: Word, on: Connection | None = None) -> Reply:
        return (await self._ask(script, keys, *sent, on=on))[0]

    async def _ask(
        self, script: Script, keys: list[str], *sent: Word, on: Connection | None = None
    ) -> tuple[Reply, Connection]:
        """By its digest; with its text where Redis has not seen it, or was restarted or flushed since."""
        rest = (len(keys), *keys, *sent)
        try:
            try:
                return await self._link.ask("EVALSHA", script.digest, *rest, on=on)
            except RedisRefused as error:
                if error.kind != "NOSCRIPT":
                    raise
            return await self._link.ask("EVAL", script.source, *rest, on=on)
        except RedisRefused as error:
            if "WRONGTYPE" in error.internal:
                await self._name_wrong_type(keys)
            raise

    async def _name_wrong_type(self, keys: list[str]) -> None:
        """Tell which of the keys it is, as Redis does not."""
        for key in keys:
            what = f"{key} holds something that no gateway wrote"
            if what in self._told:
                continue
            try:
                await self._link.call("GET" if key == self._lock else "HLEN", key)
            except RedisRefused as error:
                if "WRONGTYPE" in error.internal:
                    self._tell_once(what, f"delete it (DEL {key}), or give the gateways another namespace")

    def _note_position(
        self, epoch_text: bytes | None, epoch: str | None, head_text: bytes | None, head: int | None
    ) -> None:
        if (epoch is None and epoch_text is not None) or (head is None and head_text is not None):
            self._tell_once(f"{self._keys} holds fields that are not understood")

    def _tell_once(self, what: str, then: str = "") -> None:
        if what not in self._told:
            self._told.add(what)
            then = then or f"the store is asked instead; if it goes on, see who else writes to {self._keys}"
            _LOG.warning("%s: %s", what, then)


def key_table(url: str, settings: "RedisSettings") -> KeyTable:
    """Make the table at `url` by the other settings; no I/O yet. Raises ConfigurationError."""
    return KeyTable(connect(url, timeout_seconds=settings.timeout_milliseconds / 1000), settings.namespace)


class Build:
    """A new table in the making, beside the one in use. Any loss of it or of the lock ends it: a method says False."""

    def __init__(self, table: KeyTable, token: str) -> None:
        self._table = table
        self._token = token
        self.size = 0

    async def fill(self, entries: Sequence[Entry], as_of: int) -> bool:
        """Write entries of a snapshot whose head was `as_of`; with none, only hold on to the right to build."""
        sent: tuple[Word, ...] = (_LOCK_MILLISECONDS, self.size, *words.values(entries, as_of))
        size = await self._table.run_for_build(scripts.FILL, self._token, *sent)
        self.size = max(size, 0)
        return size >= 0

    async def install(self, position: LogPosition, tip: Change | None) -> int | None:
        """Put it in the place of the old one, at this position, and announce the change there.

        0: done. A head: the table in use has come this far since, so come up to it first. None: it is lost.
        """
        message = b"" if tip is None else words.message_text(position.epoch, tip)
        sent = (position.epoch, position.seq, words.tip_text(tip), self.size, self._table.channel, message)
        answer = await self._table.run_for_build(scripts.INSTALL, self._token, *sent)
        if answer <= 0:
            return 0 if answer == -1 else None
        return answer

    async def give_up(self) -> None:
        """Leave nothing behind; without Redis, what is left behind expires."""
        with suppress(RedisUnavailable):
            await self._table.run_for_build(scripts.GIVE_UP, self._token)


def _unexpected() -> RedisUnavailable:
    return RedisUnavailable("Redis answers in a way that is not understood.", internal="the shape of a script's answer")


def _flag(reply: Reply) -> bool:
    if type(reply) is not int or reply not in {0, 1}:
        raise _unexpected()
    return reply == 1
