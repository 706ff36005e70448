r"""What a record of the spool holds: payload bytes from values, and values from payload bytes.

    entry, ending       a request, or the end of one that lasted: numbers, then texts with a zero byte between each two
    refusals            how many refusals of one code and second are on record by their number alone
    dropped             a segment that was given up for want of room, unread or not
    seal                the last record of a segment whose writer has moved on, with its count of entries

Invariant: decoding never raises: bytes that are nothing of this are None, and the reader counts them as damage. Texts
are bytes as the client sent them, and become text here, each byte that is no UTF-8 as `\xNN`. Turned down: JSON and
msgpack, which cost the worker several times as much, and a length for each text in place of the zero bytes: that costs
twice as much as joining them does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry

ENTRY: Final = 1
ENDING: Final = 2
"""Ends what an entry of outcome OPEN began."""
_REFUSALS: Final = 3
_DROPPED: Final = 4
_SEAL: Final = 5

PATH_LIMIT_BYTES: Final = 2048
USER_AGENT_LIMIT_BYTES: Final = 512
TEXT_LIMIT_BYTES: Final = 256
"""Of every other text. A longer one is cut."""

_NUMBERS: Final = Struct("<BBHQQQQQ")
_NUMBERS_BYTES: Final = _NUMBERS.size
_PACK: Final[Callable[..., bytes]] = _NUMBERS.pack
_UNPACK: Final[Callable[[bytes, int], tuple[int, int, int, int, int, int, int, int]]] = _NUMBERS.unpack_from
_COUNT: Final = Struct("<BQQ")
_OUTCOMES: Final = list(Outcome)
_MAKE: Final[Callable[[tuple[object, ...]], RequestEntry]] = RequestEntry._make
"""Of a tuple: given one by one, twenty fields cost as much as reading them does."""
_WHO: Final = 8
"""So many texts come before those that say who it was."""
_WHO_TEXTS: Final = 5
_KEPT: Final[dict[bytes, str]] = {}
_KEPT_WHO: Final[dict[bytes, tuple[str, ...]]] = {}
_KEPT_LIMIT: Final = 8192
"""Of texts, and of keys; a few megabytes, in the process that reads."""


@dataclass(frozen=True, slots=True)
class UnrecordedRefusals:
    """Refusals of one second that are not on record one by one."""

    at: int
    """The beginning of the second, in microseconds since 1970."""
    code: str
    count: int


class DroppedSegment(NamedTuple):
    """A segment that was removed for want of room."""

    number: int
    size: int
    """In bytes."""


class Seal(NamedTuple):
    """Nothing follows in this segment."""

    entries: int
    """How many records of the segment are entries; endings do not count, their entries lie where they began."""


Record = RequestEntry | UnrecordedRefusals | DroppedSegment | Seal


def text_bytes(text: str, limit: int = TEXT_LIMIT_BYTES) -> bytes:
    """A text as it is put into a record: never longer than its limit, and without the byte that ends it."""
    return text.encode("utf-8", "backslashreplace")[:limit].replace(b"\0", b"?")


def whom(key_id: str, key_name: str, secret_id: str, organization_id: str, owner_id: str) -> bytes:
    """The texts that say who it was, made once for each key."""
    return b"\0".join([text_bytes(each) for each in (key_id, key_name, secret_id, organization_id, owner_id)])


NOBODY: Final = whom("", "", "", "", "")


def where(route: str, upstream: str) -> bytes:
    """The texts that say by which route, made once for each route."""
    return text_bytes(route) + b"\0" + text_bytes(upstream)


NOWHERE: Final = where("", "")


def entry(  # noqa: PLR0913, PLR0917  on the hot path, where names cost
    outcome: int, status: int, at: int, duration: int, bytes_in: int, bytes_out: int, opened: int, texts: list[bytes]
) -> bytes:
    """The payload of a request. `opened` is the position of the entry that this one ends, 0 where there is none.

    `texts`: request id, method, path, address, user agent, code, `where`, `whom`; none of them has a zero byte but
    those between the parts of the last two, and each is within its limit.
    """
    kind = ENDING if opened else ENTRY
    return _PACK(kind, outcome, status, at, duration, bytes_in, bytes_out, opened) + b"\0".join(texts)


def encode(value: RequestEntry, *, opened: int = 0) -> bytes:
    """The payload of an entry that is there as a whole; its position and run are the spool's to give."""
    texts = [
        text_bytes(value.request_id),
        text_bytes(value.method),
        text_bytes(value.path, PATH_LIMIT_BYTES),
        text_bytes(value.address),
        text_bytes(value.user_agent, USER_AGENT_LIMIT_BYTES),
        text_bytes(value.code),
        where(value.route, value.upstream),
        whom(value.key_id, value.key_name, value.secret_id, value.organization_id, value.owner_id),
    ]
    return entry(value.outcome, value.status, value.at, value.duration, value.bytes_in, value.bytes_out, opened, texts)


def unrecorded_refusals(at: int, code: bytes, count: int) -> bytes:
    """The payload of `UnrecordedRefusals`."""
    return _COUNT.pack(_REFUSALS, at, count) + code


def dropped_segment(number: int, size: int) -> bytes:
    """The payload of `DroppedSegment`."""
    return _COUNT.pack(_DROPPED, number, size)


def seal(entries: int) -> bytes:
    """The payload of `Seal`."""
    return _COUNT.pack(_SEAL, entries, 0)


SEAL_BYTES: Final = _COUNT.size


def decode(payload: bytes, number: int, offset: int, run: int) -> Record | None:
    """What a payload says; None where it says nothing that is known here.

    It lies in the segment of this number, at this offset of its frame, written by this run.
    """
    kind = payload[0] if payload else 0
    if kind in {ENTRY, ENDING}:
        return _decode_entry(payload, number << OFFSET_BITS | offset, run)
    if len(payload) < _COUNT.size:
        return None
    _, first, second = _COUNT.unpack_from(payload)
    if kind == _REFUSALS:
        return UnrecordedRefusals(first, payload[_COUNT.size :].decode("utf-8", "backslashreplace"), second)
    if kind == _DROPPED:
        return DroppedSegment(first, second)
    return Seal(first) if kind == _SEAL else None


def _decode_entry(payload: bytes, position: int, run: int) -> RequestEntry | None:
    if len(payload) < _NUMBERS_BYTES:
        return None
    _, outcome, status, at, duration, bytes_in, bytes_out, opened = _UNPACK(payload, 0)
    texts = payload[_NUMBERS_BYTES:].split(b"\0", _WHO)
    if len(texts) <= _WHO or outcome >= len(_OUTCOMES):
        return None
    who = _KEPT_WHO.get(texts[_WHO]) or _keep_who(texts[_WHO])
    if who is None:
        return None
    request_id, method, path, address, agent, code, route, upstream, _ = texts
    return _MAKE(
        (
            opened or position,
            at,
            duration,
            _OUTCOMES[outcome],
            status,
            bytes_in,
            bytes_out,
            request_id.decode("utf-8", "backslashreplace"),
            _kept(method),
            path.decode("utf-8", "backslashreplace"),
            _kept(route),
            _kept(upstream),
            _kept(address),
            _kept(agent),
            _kept(code),
            *who,
            run,
        )
    )


def _kept(text: bytes) -> str:
    """Return a text that comes again and again, and is there once: its hash, too, is known by then."""
    known = _KEPT.get(text)
    if known is None:
        if len(_KEPT) >= _KEPT_LIMIT:
            _KEPT.clear()
        known = _KEPT[text] = text.decode("utf-8", "backslashreplace")
    return known


def _keep_who(texts: bytes) -> tuple[str, ...] | None:
    """The same for the texts that say who it was."""
    who = tuple(texts.decode("utf-8", "backslashreplace").split("\0"))
    if len(who) != _WHO_TEXTS:
        return None
    if len(_KEPT_WHO) >= _KEPT_LIMIT:
        _KEPT_WHO.clear()
    _KEPT_WHO[texts] = who
    return who
