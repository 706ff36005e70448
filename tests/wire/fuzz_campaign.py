"""Fuzzing of one side for a time: hypothesis draws messages and a seed, and of each example many inputs are derived.

An example costs hypothesis 1-3 ms, and a judged input about one. Invariant: what is counted as an input was judged in
full, whole and in pieces, and is like no other one of the run, by a digest of eight bytes. A finding is told with its
input, as small as it can be made, for `tests/wire/seeds`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from tests.proxy.profiles import scaled
from tests.wire.fuzz_mutations import Piece, cut, joined, mutated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.wire.conftest import Tried

_DERIVED = 100
_BYTEWISE_EVERY = 25
_BYTEWISE_LIMIT = 500
_KEPT_EVERY = 25
_TOLD_EVERY_SECONDS = 60


class Side(Protocol):
    """What is fuzzed."""

    name: str
    """What its seeds and its cases are called by."""

    def messages(self) -> st.SearchStrategy[list[list[Piece]]]:
        """Valid messages; how they are joined is the side's business."""

    def lines(self) -> Sequence[bytes]:
        """Fields worth a try."""

    def try_one(self, stream: bytes, ways: Sequence[Sequence[bytes]], told: Counter[str], *, valid: bool) -> None:
        """Judge one input, whole and in these ways; raises where something is wrong. `valid`: beyond doubt."""

    def again_on_sockets(self, kept: list[tuple[bytes, list[bytes]]]) -> None:
        """The same for inputs that went through, as they were cut, on real sockets."""


@dataclass
class Tally:
    """What was tried."""

    examples: int = 0
    inputs: int = 0
    ways: int = 0
    told: Counter[str] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    begun: float = field(default_factory=time.perf_counter)
    cpu_begun: float = field(default_factory=time.process_time)
    kept: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    """Some inputs, and how they were cut, for a second look on real sockets."""
    again: int = 0
    """So many had that look."""

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.begun
        cpu = time.process_time() - self.cpu_begun
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(self.told.items()) if count)
        return (
            f"{self.examples:,} examples, {self.inputs:,} inputs, {len(self.seen):,} distinct, {self.ways:,} runs, "
            f"{self.again:,} again on sockets in {seconds:.0f} s ({self.inputs / seconds:.0f}/s; "
            f"{self.inputs / cpu:.0f} per second of CPU); {told}"
        )


def kept_seeds(name: str) -> list[Path]:
    """The inputs of a side that are tried in each run."""
    return sorted((Path(__file__).parent / "seeds").glob(f"{name}-*.bin"))


def briefly(side: Side, tried: Tried) -> None:
    """The same few seconds in each run."""
    tally = Tally()
    one_round(side, 1, tally, examples=scaled(15))
    side.again_on_sockets(tally.kept)
    tried(f"fuzz of {side.name}", tally.inputs)


def for_long(side: Side, tried: Tried) -> None:
    """As long as is asked for, with new seeds; how it goes is said on the way."""

    def say(text: str) -> None:
        print(f"{side.name}, {text}", flush=True)  # noqa: T201  for whoever waits

    tried(f"fuzz of {side.name}", campaign(side, fuzz_seconds(), new_seed(), say).inputs)


def kept(side: Side, seed_file: Path, tried: Tried) -> None:
    """An input that was worth keeping."""
    replay(side, seed_file.read_bytes())
    tried(f"fuzz of {side.name}", 1)


def one_round(side: Side, number: int, tally: Tally, *, examples: int, until: float = float("inf")) -> None:
    """So many examples with all that is derived of them; the same for the same number."""

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(side.messages(), st.integers(0, (1 << 64) - 1))
    def example(messages: list[list[Piece]], derived: int) -> None:
        if time.perf_counter() < until:
            tally.examples += 1
            _derive(side, messages, Random(derived), tally)  # noqa: S311  reproducible on purpose

    example()


def _derive(side: Side, messages: list[list[Piece]], chance: Random, tally: Tally) -> None:
    lines = side.lines()
    for number in range(_DERIVED):
        pieces = [piece for each in messages for piece in each]
        if number:
            # Most with one message, so that few mistakes do not hide each other.
            chosen = messages if chance.random() < 0.3 else [chance.choice(messages)]
            pieces = mutated([piece for each in chosen for piece in each], chance, lines)
        stream = joined(pieces)
        digest = int.from_bytes(hashlib.blake2b(stream, digest_size=8).digest())
        if not stream or digest in tally.seen:
            continue
        tally.seen.add(digest)
        ways: list[list[bytes]] = [cut(stream, chance)]
        if number % _BYTEWISE_EVERY == 0 and len(stream) <= _BYTEWISE_LIMIT:
            ways.append([stream[at : at + 1] for at in range(len(stream))])
        tally.inputs += 1
        tally.ways += 1 + len(ways)
        if tally.inputs % _KEPT_EVERY == 0:
            tally.kept.append((stream, ways[0]))
        try:
            side.try_one(stream, ways, tally.told, valid=number == 0)
        except Exception as error:
            error.add_note(f"after {tally}")
            error.add_note(f"input: {stream!r}\ncut as: {ways!r}\nsmallest: {smallest(side, stream)!r}")
            raise


def smallest(side: Side, stream: bytes) -> bytes:
    """The input with everything left out that is not needed for something to be wrong, whole or byte by byte."""
    if not _fails(side, stream):
        return stream
    size = 64
    while size:
        at = 0
        while at < len(stream):
            shorter = stream[:at] + stream[at + size :]
            if shorter and _fails(side, shorter):
                stream = shorter
            else:
                at += size
        size //= 4
    return stream


def _fails(side: Side, stream: bytes) -> bool:
    nothing: Counter[str] = Counter()
    try:
        side.try_one(stream, [[stream[at : at + 1] for at in range(len(stream))]], nothing, valid=False)
    except Exception:  # noqa: BLE001  whatever it is
        return True
    return False


def campaign(side: Side, seconds: float, first: int, say: Callable[[str], None]) -> Tally:
    """Rounds with one seed after the other until the time is over; says how it goes once in a while."""
    tally = Tally()
    until, told = tally.begun + seconds, tally.begun
    number = first
    while time.perf_counter() < until:
        one_round(side, number, tally, examples=100, until=until)
        side.again_on_sockets(tally.kept)
        tally.again += len(tally.kept)
        tally.kept.clear()
        number += 1
        if time.perf_counter() - told > _TOLD_EVERY_SECONDS:
            told = time.perf_counter()
            say(f"seeds {first} to {number - 1}: {tally}")
    say(f"seeds {first} to {number - 1}, no finding: {tally}")
    return tally


def replay(side: Side, stream: bytes) -> None:
    """One input in every way: whole, byte by byte, in two pieces cut anywhere, and on real sockets."""
    nothing: Counter[str] = Counter()
    halves = [[stream[:at], stream[at:]] for at in range(1, len(stream))]
    side.try_one(stream, [[stream[at : at + 1] for at in range(len(stream))], *halves], nothing, valid=False)
    side.again_on_sockets([(stream, [stream]), (stream, halves[len(halves) // 2])])


def fuzz_seconds() -> float:
    """For how long `make fuzz-wire` fuzzes; 0 in other runs."""
    return float(os.environ.get("KEYGATE_FUZZ_SECONDS", "0"))


def new_seed() -> int:
    """Another one in each run, unless a run is to be repeated."""
    return int(os.environ.get("KEYGATE_FUZZ_SEED", "0")) or secrets.randbelow(1 << 40)
