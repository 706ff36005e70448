"""What is written in the shared key table beside its records, and the strict reading of it. Pure.

Invariant: a reader returns what it understands or None, whatever Redis delivers; nothing raises, and nothing that is
out of bounds gets any further. A number of 5,000 digits, a name that is none or a moment of a thousand years would else
come to light far from here, in a calculation or an answer to an operator. Turned down: pydantic, which workers do not
load, and which turns `"7"` into 7 unless it is told otherwise.
"""

from collections.abc import Iterable
from math import isfinite
from typing import Final, cast

import orjson

from gateway.keys.change import Change, SubjectKind
from gateway.keys.projection import LogPosition, Stamp, WorkerPresence
from gateway.keys.record import CredentialRecord
from gateway.store.record_codec import encode

Entry = tuple[bytes, CredentialRecord | None]
"""A digest and what it means; None: nothing any more, which leaves a tombstone."""

_NUMBER_DIGITS: Final = 15
"""As Lua counts in floats, which are exact up to 9·10^15."""
_MOMENT_DIGITS: Final = 16
"""Microseconds, up to the year 2286."""
_LONGEST_NAME: Final = 255
_LONGEST_ID: Final = 600
_LONGEST_MESSAGE: Final = 2048
_LONGEST_PRESENCE: Final = 4096
_PRESENCE_FIELDS: Final = 7
_MOST_BELIEF_SECONDS: Final = 1e7
_MOST_PID: Final = 2**31
_MICROSECONDS: Final = 1e6


# --- writing ----------------------------------------------------------------------------------------------------------


def values(entries: Iterable[Entry], as_of: int) -> list[bytes]:
    """Digests and records, as scripts take them."""
    return [word for digest, record in entries for word in (digest, encode(record, as_of))]


def message_text(epoch: str, change: Change) -> bytes:
    """What is announced."""
    return orjson.dumps([epoch, change.seq, change.subject_kind, change.subject_id, change.version])


def tip_text(change: Change | None) -> str:
    """The newest change in the table; empty where the log is."""
    return "" if change is None else f"{change.subject_kind} {change.subject_id} {change.version}"


def presence_text(presence: WorkerPresence) -> bytes:
    """A sign of life without its id and moment."""
    at = presence.position
    position = (None, None) if at is None else (at.epoch, at.seq)
    return orjson.dumps([
        presence.node, presence.host, presence.name, presence.pid, presence.believes_for_seconds, *position,
    ])  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


def number(reply: object) -> int | None:
    """Read a count or the number of a change: at most 15 digits."""
    return _digits(reply, _NUMBER_DIGITS)


def moment(reply: object) -> int | None:
    """Read a moment by Redis' clock, in microseconds."""
    return _digits(reply, _MOMENT_DIGITS)


def name(reply: object) -> str | None:
    """Read an epoch or a build."""
    if not isinstance(reply, bytes) or len(reply) > _LONGEST_NAME:
        return None
    text = _decoded(reply)
    return text if text and text.isprintable() else None


def tip(head: int, reply: object) -> tuple[Change | None] | None:
    """Read the newest change of a table, or that there is none; None where it is not understood."""
    if reply == b"":
        return (None,)
    if not isinstance(reply, bytes) or len(reply) > _LONGEST_MESSAGE:
        return None
    match _decoded(reply).split(" "):
        case [kind, subject_id, version] if kind and _is_name(kind) and subject_id and _is_name(subject_id):
            # A kind of a newer version is compared all the same.
            of = number(version.encode())
            return None if of is None else (Change(head, cast("SubjectKind", kind), subject_id, of),)
    return None


def stamp(reply: object, now: int) -> Stamp | None:
    """Read a stamp. None, too, for one of a moment to come: the clock was set back, and nobody knows how old it is."""
    if not isinstance(reply, bytes) or len(reply) > _LONGEST_MESSAGE:
        return None
    match reply.split(b" "):
        case [at_text, epoch_text, head_text]:
            at, epoch, head = moment(at_text), name(epoch_text), number(head_text)
            if at is not None and at <= now and epoch is not None and (head is not None or not head_text):
                return Stamp(epoch, head, (now - at) / _MICROSECONDS)
    return None


def heard(message: bytes) -> tuple[str, Change] | None:
    """Read what was announced."""
    match _json(message, _LONGEST_MESSAGE):
        case [str(epoch), int(seq), ("key" | "owner" | "organization") as kind, str(subject_id), int(version)]:
            named = epoch and _is_name(epoch) and subject_id and _is_name(subject_id)
            if named and _is_number(seq) and _is_number(version):
                return epoch, Change(seq, kind, subject_id, version)
    return None


def presence(worker: object, reply: object, now: int) -> tuple[WorkerPresence, float] | None:
    """Read a sign of life, and how many seconds old it is."""
    if not isinstance(worker, bytes) or not isinstance(reply, bytes) or len(worker) > _LONGEST_ID:
        return None
    at_text, _, rest = reply.partition(b" ")
    at, id_, fields = moment(at_text), _decoded(worker), _json(rest, _LONGEST_PRESENCE)
    if at is None or not id_ or not id_.isprintable() or not isinstance(fields, list):
        return None
    match fields[:_PRESENCE_FIELDS]:  # a newer version may write more
        case [str(node), str(host), str(worker_name), int(pid), (int() | float()) as believes_for, epoch, seq]:
            position = _position(epoch, seq)
            named = _is_name(node) and _is_name(host) and _is_name(worker_name)
            fits = type(pid) is int and 0 <= pid <= _MOST_PID and _is_duration(believes_for)
            if named and fits and position is not None:
                read = WorkerPresence(id_, node, host, worker_name, pid, float(believes_for), *position)
                return read, max(0.0, (now - at) / _MICROSECONDS)
    return None


def _position(epoch: object, seq: object) -> tuple[LogPosition | None] | None:
    if epoch is None and seq is None:
        return (None,)
    if isinstance(epoch, str) and epoch and _is_name(epoch) and isinstance(seq, int) and _is_number(seq):
        return (LogPosition(epoch, seq),)
    return None


def _digits(reply: object, most: int) -> int | None:
    # bytes.isdigit() is true of ASCII digits alone.
    return int(reply) if isinstance(reply, bytes) and len(reply) <= most and reply.isdigit() else None


def _decoded(reply: bytes) -> str:
    """Empty where it is no text."""
    try:
        return reply.decode()
    except UnicodeDecodeError:
        return ""


def _json(text: bytes, longest: int) -> object:
    if len(text) > longest:
        return None
    try:
        return cast("object", orjson.loads(text))
    except ValueError:
        return None


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and text.isprintable()


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**_NUMBER_DIGITS  # a bool is no number


def _is_duration(value: float) -> bool:
    return not isinstance(value, bool) and isfinite(value) and 0 <= value <= _MOST_BELIEF_SECONDS
