"""The mixed load's processes, and what its clients saw, as a test has them.

Invariant: both processes map files that outlive them, so that what they counted is whole also when one is killed.
"""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.audit_load import Whole
from tests.e2e.load import Instrument
from tests.e2e.mixed_asks import SEEN, SENT, TWICE, UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.e2e.site import Issued

CONNECTIONS: Final = 64


class MixedUpstream(Instrument):
    """The API behind; `capacity` is how many numbers there may be."""

    def __init__(self, directory: Path, capacity: int, port: int = 0) -> None:
        self.directory, self.capacity = directory, capacity
        self.seen, self._wrong = directory / "seen", directory / "upstream-wrong.txt"
        if not self.seen.exists():
            self.seen.write_bytes(bytes(capacity))
        super().__init__("mixed_upstream.py", str(port), str(self.seen), str(self._wrong))
        self.port = int(self.hear()["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sabotage(self, how: str) -> None:
        """See the program: that it is noticed shows that the clients look."""
        self.tell({"sabotage": how})
        assert self.hear() == {"ok": True}

    def kill(self) -> None:
        """Everything in flight is reset, and nobody listens."""
        self._process.kill()
        self.close()

    def again(self) -> MixedUpstream:
        """One in its place."""
        return MixedUpstream(self.directory, self.capacity, self.port)

    def wrong(self) -> list[str]:
        """Requests that were not what their clients sent."""
        return self._wrong.read_text().splitlines() if self._wrong.exists() else []


@dataclass(frozen=True)
class Failed:
    """What a client saw that only a fault of that moment explains. Moments by CLOCK_MONOTONIC."""

    what: str
    """`cut`, or status and code."""
    kind: str
    number: int
    sent: float
    at: float
    begun: bool
    """Whether anything of the answer had come."""
    fresh: bool
    """Whether it was the first request of its connection."""
    worker: str


@dataclass(frozen=True)
class Mixed:
    """All that the clients saw between `go` and `rest`."""

    seconds: float
    classes: Mapping[str, int]
    wrong: Sequence[str]
    failed: Sequence[Failed]
    entries: int
    file: Path

    @property
    def requests(self) -> int:
        return sum(count for name, count in self.classes.items() if name != "right tunnel")

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def whole(self) -> Iterator[Whole]:
        """What came whole, one by one."""
        with self.file.open() as lines:
            for line in lines:
                yield Whole(*json.loads(line))

    def summed(self) -> dict[str, int]:
        """By the first word of their class."""
        found: collections.Counter[str] = collections.Counter()
        for name, count in self.classes.items():
            found[name.split(" ", 1)[0]] += count
        return dict(found)


@dataclass
class Sightings:
    """How often requests came to the API, by what their clients know; offenders as numbers."""

    sent: int = 0
    twice: int = 0
    """As they may: idempotent, without a body."""
    wrong: dict[str, list[int]] = field(default_factory=dict)


class MixedLoad(Instrument):
    """The clients."""

    def __init__(  # noqa: PLR0913 - what a load is made of
        self,
        directory: Path,
        proxy: tuple[str, int],
        keys: Sequence[Issued],
        *,
        owner: str,
        bad: Mapping[str, str],
        rate: float,
        capacity: int,
        seed: int,
        kinds: Sequence[str] = (),
    ) -> None:
        super().__init__("mixed_load_process.py")
        self._fates, self._whole = directory / "fates", directory / "whole.jsonl"
        self._fates.write_bytes(bytes(capacity))
        site = {"proxy": proxy, "keys": [(key.secret, key.id) for key in keys], "owner": owner, "bad": dict(bad)}
        what = {"rate": rate, "connections": CONNECTIONS, "seed": seed, "kinds": kinds}
        self.tell({**site, **what, "fates": str(self._fates), "whole": str(self._whole)})
        assert self.hear() == {"ok": True}

    def go(self) -> None:
        assert self.ask("go") == {"ok": True}

    def seen(self) -> dict[str, int]:
        """How often each class came so far."""
        classes: dict[str, int] = self.ask("seen")["classes"]
        return classes

    def rest(self) -> Mixed:
        """Ask nothing more; nothing is under way when this returns."""
        told: dict[str, Any] = self.ask("rest")
        failed = [Failed(**each) for each in told["failed"]]
        return Mixed(told["seconds"], told["classes"], told["wrong"], failed, told["whole"], self._whole)

    def leave(self) -> None:
        """Close every connection."""
        assert self.ask("close") == {"ok": True}

    def sightings(self, upstream: MixedUpstream) -> Sightings:
        """Hold what the clients know against what the API saw, when everything rests."""
        found = Sightings()
        for number, (fate, seen) in enumerate(zip(self._fates.read_bytes(), upstream.seen.read_bytes(), strict=True)):
            if not fate:
                if seen:
                    found.wrong.setdefault("never sent", []).append(number)
                continue
            found.sent += fate & SENT > 0
            if fate & SEEN and not seen:
                found.wrong.setdefault("answered, never seen", []).append(number)
            elif fate & UNSEEN and seen:
                found.wrong.setdefault("refused, and seen", []).append(number)
            elif seen > 1:
                if fate & TWICE and seen == 2:
                    found.twice += 1
                else:
                    found.wrong.setdefault(f"seen {seen} times", []).append(number)
        return found
