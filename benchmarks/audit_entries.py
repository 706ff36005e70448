"""Entries of requests for benchmarks: many keys of few organizations, as a gateway that is used has them.

Invariant: the same numbers give the same entries. Keys are drawn at random, a tenth of them making nine tenths of the
requests; one request in fifty is refused, half of those without a key; positions and moments grow as a worker's do.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from typing import Final

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry

ORGANIZATIONS: Final = 20
OWNERS: Final = 2_000
KEYS: Final = 10_000
ADDRESSES: Final = 50_000
AGENTS: Final = 300
RECORD_BYTES: Final = 320
"""What a record takes in a segment, about: positions are that far apart."""
SEGMENT_BYTES: Final = 1 << OFFSET_BITS
FIRST_SEGMENT: Final = 1_790_000_000

Principal = tuple[str, str, str, str, str]
"""Key id, key name, secret id, organization, owner."""

_PATHS: Final = ("/v1/orders", "/v1/customers/{}", "/v1/orders/{}/items", "/v1/search", "/v1/messages")
_METHODS: Final = ("GET", "GET", "GET", "POST", "PUT")
_STATUSES: Final = (200, 200, 200, 200, 201, 204, 304, 404, 422, 500)


def key_id(number: int) -> str:
    """Name a key."""
    return f"key_{number:026d}"


def owner_id(number: int) -> str:
    """Name an owner."""
    return f"sva_{number:026d}"


def organization_id(number: int) -> str:
    """Name an organization."""
    return f"org_{number:026d}"


def positions(segment: int, count: int) -> Iterator[int]:
    """Yield positions of `count` records that a worker writes from the beginning of a segment on."""
    per_segment = (SEGMENT_BYTES - 64) // RECORD_BYTES
    for number in range(count):
        filled, record = divmod(number, per_segment)
        yield segment + filled << OFFSET_BITS | 64 + record * RECORD_BYTES


def entries(
    count: int,
    *,
    first_at: int,
    span_microseconds: int,
    segment: int = FIRST_SEGMENT,
    keys: Sequence[Principal] | None = None,
) -> Iterator[RequestEntry]:
    """Yield entries in the order of one worker, spread evenly over a span of time. `keys`: None for made-up ones."""
    chance = random.Random(segment)  # noqa: S311 - made up, and the same each time
    principals = keys or [principal(number) for number in range(KEYS)]
    hot = max(1, len(principals) // 10)
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(ADDRESSES)]
    agents = [f"example-client/{number // 10}.{number % 10} (Linux; x86_64) python/3.11" for number in range(AGENTS)]
    moments = accumulate(repeat(span_microseconds / max(count, 1), count), initial=float(first_at))
    nobody = ("", "", "", "", "")
    for position, moment in zip(positions(segment, count), moments, strict=False):
        draw = chance.getrandbits(62)
        kind = draw % 100
        number = (draw >> 8) % (hot if kind < 90 else len(principals))
        refused = kind >= 98
        which = (draw >> 32) % 5
        path = _PATHS[which].format(draw >> 44)
        yield RequestEntry(
            position,
            int(moment),
            1_000 + (draw >> 20 & 0xFFFF),
            Outcome.REFUSED if refused else Outcome.ANSWERED,
            401 if refused else _STATUSES[(draw >> 36) % 10],
            draw >> 24 & 0xFF,
            draw >> 12 & 0xFFFF,
            f"{draw:032x}",
            _METHODS[which],
            path,
            "" if refused else "/v1/",
            "" if refused else "orders",
            addresses[(draw >> 16) % ADDRESSES],
            agents[(draw >> 28) % AGENTS],
            "key_expired" if refused else "",
            *(nobody if kind == 99 else principals[number]),
            segment,
        )


def principal(number: int) -> Principal:
    """Make one up; each organization has its share of the owners, each owner its share of the keys."""
    owner = number % OWNERS
    organization = organization_id(owner % ORGANIZATIONS)
    return (key_id(number), f"service {number}", f"sec_{number:026d}", organization, owner_id(owner))
