"""The key table that Redis holds for the workers of all nodes: records by digest, and how far in the log they are.

Three users: workers look up, follow and leave signs of life; control processes relay changes into it and build it anew.
What is done in one piece is in `key_table_scripts`, with the invariants that hold whoever calls.

Invariant: nothing that Redis does or fails to do makes a good key a bad one. No record counts as "no such key" only
where the table is `complete`: finished, and with not a single field lost since. What cannot be read is "cannot know".
All names begin with `{namespace}:`, in braces, so that a Cluster keeps them in one slot and a script may touch them.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, cast

import orjson

from gateway.errors import RedisUnavailable
from gateway.keys.change import Change, SubjectKind
from gateway.keys.projection import LogPosition, Pulse, Stamp, TableAnswer, WorkerPresence
from gateway.keys.record import CredentialRecord
from gateway.store import key_table_scripts as scripts
from gateway.store.key_table_scripts import Script
from gateway.store.record_codec import Unreadable, decode, encode
from gateway.store.redis_link import Connection, RedisLink, RedisRefused, Reply, Word

Entry = tuple[bytes, CredentialRecord | None]
"""A digest and what it means; None: nothing any more, which leaves a tombstone."""

_LOCK_MILLISECONDS: Final = 15_000
"""For how long a builder that says nothing keeps others from building."""
_MICROSECONDS: Final = 1e6
_PRESENCE_FIELDS: Final = 7
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
        self._channel = f"{{{namespace}}}:changes"
        self._build = f"{{{namespace}}}:build:"
        self._told = False

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
            case [epoch, head, int(whole), value]:
                answer = TableAnswer(None, _text(epoch), _number(head), complete=bool(whole))
                return answer if value is None else self._with_record(answer, digest, cast("bytes", value))
            case other:
                raise _unexpected(other)

    async def pulse(self, presence: WorkerPresence) -> Pulse:
        """How far the table is and by whose word, renewing the worker's sign of life: one round trip."""
        match await self._run(scripts.PULSE, [self._keys, self._workers], presence.id, _presence_text(presence)):
            case [epoch, head, int(whole), stamp, bytes(now)]:
                return Pulse(_text(epoch), _number(head), bool(whole), _stamp(cast("bytes | None", stamp), int(now)))
            case other:
                raise _unexpected(other)

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
                elif (heard := _heard(message)) is not None:
                    yield heard
                else:
                    self._tell_once("a change was announced in a form that this version does not know")
        finally:
            await messages.aclose()

    # --- control processes: who is there ------------------------------------------------------------------------------

    async def presences(self) -> dict[str, tuple[WorkerPresence, float]]:
        """Each worker's last sign of life, and how many seconds old it is by Redis' clock."""
        match await self._run(scripts.PRESENCES, [self._workers]):
            case [bytes(now), list(pairs)]:
                found = zip(pairs[::2], pairs[1::2], strict=True)
                read = [_presence(cast("bytes", id_), cast("bytes", text), int(now)) for id_, text in found]
            case other:
                raise _unexpected(other)
        if None in read:
            self._tell_once("a worker gives a sign of life in a form that this version does not know")
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
            case [bytes(now), int(fields), epoch, build, head, tip, complete, size]:
                at = int(now)
            case other:
                raise _unexpected(other)
        number, sum_ = _number(head), _number(size)
        if epoch is None or build is None or number is None or tip is None or sum_ is None:
            return at, None
        return at, TableState(
            at=at,
            epoch=cast("bytes", epoch).decode(),
            build=cast("bytes", build).decode(),
            head=number,
            tip=_tip(number, cast("bytes", tip)),
            finished=complete == scripts.COMPLETE.encode(),
            whole=fields == sum_ + scripts.FIXED_FIELDS,
            connection=connection,
        )

    async def put(self, state: TableState, as_of: int, entries: Sequence[Entry]) -> bool:
        """Write entries of a snapshot of the store whose head was `as_of`; False where the table is another by now."""
        words: tuple[Word, ...] = (state.epoch, state.build, as_of, *_values(entries, as_of))
        return await self._run(scripts.PUT, [self._keys], *words, on=state.connection) == 1

    async def advance(self, state: TableState, change: Change, as_of: int, entries: Sequence[Entry]) -> bool:
        """Write what the change has altered, move the head onto it, and announce it; False where it is not the next."""
        tip, message = _tip_text(change), _message(state.epoch, change)
        position: tuple[Word, ...] = (state.epoch, state.build, change.seq, tip)
        words = (*position, self._channel, message, *_values(entries, as_of))
        return await self._run(scripts.ADVANCE, [self._keys], *words, on=state.connection) == 1

    async def stamp(self, at: int, position: LogPosition | None) -> bool:
        """Say how far the store was at that moment or later; None: it could not be asked. False: others know better."""
        epoch, head = ("", "") if position is None else (position.epoch, str(position.seq))
        return await self._run(scripts.STAMP, [self._keys], at, epoch, head) == 1

    async def begin_build(self) -> "Build | None":
        """The right to build the table anew; None where somebody else has it."""
        token = token_hex(16)
        answer = await self._link.call("SET", self._lock, token, "NX", "PX", _LOCK_MILLISECONDS)
        return None if answer is None else Build(self, token)

    async def run_for_build(self, script: Script, token: str, *words: Word) -> int:
        """One of the scripts of a `Build`."""
        keys = [self._lock, self._build + token, self._keys]
        return cast("int", await self._run(script, keys, token, *words))

    @property
    def channel(self) -> str:
        """Where changes are announced."""
        return self._channel

    # --- scripts ------------------------------------------------------------------------------------------------------

    async def _run(self, script: Script, keys: list[str], *words: Word, on: Connection | None = None) -> Reply:
        return (await self._ask(script, keys, *words, on=on))[0]

    async def _ask(
        self, script: Script, keys: list[str], *words: Word, on: Connection | None = None
    ) -> tuple[Reply, Connection]:
        """By its digest; with its text where Redis has not seen it, or was restarted or flushed since."""
        rest = (len(keys), *keys, *words)
        try:
            return await self._link.ask("EVALSHA", script.digest, *rest, on=on)
        except RedisRefused as error:
            if error.kind != "NOSCRIPT":
                raise
        return await self._link.ask("EVAL", script.source, *rest, on=on)

    def _with_record(self, answer: TableAnswer, digest: bytes, value: bytes) -> TableAnswer:
        try:
            return TableAnswer(decode(digest, value), answer.epoch, answer.head, answer.complete)
        except Unreadable as error:
            self._tell_once(f"the shared key table holds records that this version cannot read ({error})")
            return TableAnswer(None, answer.epoch, answer.head, complete=False)

    def _tell_once(self, what: str) -> None:
        if not self._told:
            self._told = True
            _LOG.warning("%s: the store is asked instead; gateways of different versions share %s", what, self._keys)


class Build:
    """A new table in the making, beside the one in use. Any loss of it or of the lock ends it: a method says False."""

    def __init__(self, table: KeyTable, token: str) -> None:
        self._table = table
        self._token = token
        self.size = 0

    async def fill(self, entries: Sequence[Entry], as_of: int) -> bool:
        """Write entries of a snapshot whose head was `as_of`; with none, only hold on to the right to build."""
        words: tuple[Word, ...] = (_LOCK_MILLISECONDS, self.size, *_values(entries, as_of))
        size = await self._table.run_for_build(scripts.FILL, self._token, *words)
        self.size = max(size, 0)
        return size >= 0

    async def install(self, position: LogPosition, tip: Change | None) -> int | None:
        """Put it in the place of the old one, at this position, and announce the change there.

        0: done. A head: the table in use has come this far since, so come up to it first. None: it is lost.
        """
        message = b"" if tip is None else _message(position.epoch, tip)
        words = (position.epoch, position.seq, _tip_text(tip), self.size, self._table.channel, message)
        answer = await self._table.run_for_build(scripts.INSTALL, self._token, *words)
        return {-1: 0, -2: None}.get(answer, answer)

    async def give_up(self) -> None:
        """Leave nothing behind; without Redis, what is left behind expires."""
        with suppress(RedisUnavailable):
            await self._table.run_for_build(scripts.GIVE_UP, self._token)


# --- what is written there --------------------------------------------------------------------------------------------


def _values(entries: Iterable[Entry], as_of: int) -> list[bytes]:
    return [word for digest, record in entries for word in (digest, encode(record, as_of))]


def _message(epoch: str, change: Change) -> bytes:
    return orjson.dumps([epoch, change.seq, change.subject_kind, change.subject_id, change.version])


def _heard(message: bytes) -> tuple[str, Change] | None:
    try:
        epoch, seq, kind, subject_id, version = orjson.loads(message)
    except (ValueError, TypeError):
        return None
    known = kind in {"key", "owner", "organization"} and isinstance(seq, int) and isinstance(version, int)
    return (epoch, Change(seq, kind, subject_id, version)) if known else None


def _tip_text(change: Change | None) -> str:
    return "" if change is None else f"{change.subject_kind} {change.subject_id} {change.version}"


def _tip(head: int, text: bytes) -> Change | None:
    match text.decode(errors="replace").split(" "):
        case [kind, subject_id, version] if version.isdecimal():  # a kind of a newer version is compared all the same
            return Change(head, cast("SubjectKind", kind), subject_id, int(version))
    return None


def _stamp(text: bytes | None, now: int) -> Stamp | None:
    match (text or b"").decode(errors="replace").split(" "):
        case [at, epoch, head] if at.isdecimal() and int(at) <= now:
            return Stamp(epoch, int(head) if head.isdecimal() else None, (now - int(at)) / _MICROSECONDS)
    return None  # none, or one of a moment to come: the clock was set back, and nobody knows how old it is


def _presence_text(presence: WorkerPresence) -> bytes:
    at = presence.position
    position = (None, None) if at is None else (at.epoch, at.seq)
    return orjson.dumps([
        presence.node, presence.host, presence.name, presence.pid, presence.believes_for_seconds, *position,
    ])  # fmt: skip


def _presence(worker: bytes, text: bytes, now: int) -> tuple[WorkerPresence, float] | None:
    moment, _, rest = text.partition(b" ")
    try:
        node, host, name, pid, believes_for, epoch, seq = orjson.loads(rest)[:_PRESENCE_FIELDS]
        silent = max(0.0, (now - int(moment)) / _MICROSECONDS)
    except (ValueError, TypeError):
        return None
    position = None if epoch is None else LogPosition(epoch, seq)
    return WorkerPresence(worker.decode(), node, host, name, pid, believes_for, position), silent


def _text(reply: Reply) -> str | None:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else None


def _number(reply: Reply) -> int | None:
    return int(reply) if isinstance(reply, bytes) and reply.isdigit() else None


def _unexpected(_reply: Reply) -> RedisUnavailable:
    return RedisUnavailable("Redis answers in a way that is not understood.", internal="the shape of a script's answer")
