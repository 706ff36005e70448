"""Clients that remember what they received whole, and the judgement of a record by what they remember.

Invariant: whatever a client has received whole is on record exactly once, as it was: that is asked for each response by
its X-Request-ID. Of what broke off nothing is known but that it may not be there twice.
"""

from __future__ import annotations

import collections
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.keys.request_entry import Outcome
from tests.e2e.load import Instrument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.e2e.audit_records import Kept
    from tests.e2e.site import Issued

CLOCK_MICROSECONDS: Final = 5000
"""A worker reads the clock once in each turn of its loop, in whole milliseconds: no client may hold it to less."""
_LASTING: Final = frozenset({"stream", "tunnel"})


class Whole(NamedTuple):
    """A response that was received whole. `sent` by the wall clock in microseconds, `received` by CLOCK_MONOTONIC."""

    request_id: str
    kind: str
    """`line`, `stream` or `tunnel`; of the last one, all that is known is that it was opened."""
    method: str
    path: str
    status: int
    code: str
    key_id: str
    sent: int
    received: float
    bytes_in: int
    body_bytes: int


@dataclass(frozen=True)
class Rested:
    """What the clients saw between `go` and `rest`."""

    seconds: float
    statuses: Mapping[str, int]
    whole: list[Whole]

    @property
    def rate(self) -> float:
        return len(self.whole) / self.seconds


class AuditUpstream(Instrument):
    """The API behind."""

    def __init__(self) -> None:
        super().__init__("audit_upstream.py")
        self.port = int(self.hear()["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class AuditLoad(Instrument):
    """`lines` connections that ask at the rate, in total; `streams` and `tunnels` have some of their own."""

    def __init__(  # noqa: PLR0913 - what a load is made of
        self,
        proxies: Sequence[tuple[str, int]],
        keys: Sequence[Issued],
        *,
        rate: float,
        lines: int = 52,
        streams: int = 8,
        tunnels: int = 4,
        me: str | None = None,
        seed: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__("audit_load_process.py")
        clients = {"rate": rate, "lines": lines, "streams": streams, "tunnels": tunnels}
        what = {"keys": [(key.secret, key.id) for key in keys], "me": me, "seed": seed, "padding": padding}
        self.tell({"proxies": proxies, **what, **clients})
        assert self.hear() == {"ok": True}

    def go(self) -> None:
        assert self.ask("go") == {"ok": True}

    def move(self, proxies: Sequence[tuple[str, int]]) -> None:
        """The gateways are somewhere else now."""
        assert self.ask("move", proxies=proxies) == {"ok": True}

    def seen(self, status: str) -> int:
        """How often it came since the last rest, such as "200" or "503 audit_log_full"."""
        statuses: dict[str, int] = self.ask("seen")["statuses"]
        return statuses.get(status, 0)

    def rest(self, directory: Path) -> Rested:
        """Ask nothing more; nothing is under way when this returns, unless it is stuck."""
        file = directory / "received.jsonl"
        told = self.ask("rest", file=str(file))
        assert not told["wrong"], told["wrong"]
        assert not told["statuses"].pop("0 silent"), told
        with file.open() as lines:
            whole = [Whole(*json.loads(line)) for line in lines]
        assert len(whole) == told["whole"]
        return Rested(told["seconds"], told["statuses"], whole)


@dataclass
class Verdict:
    """What is wrong with a record."""

    whole: int = 0
    kept: int = 0
    lost: list[Whole] = field(default_factory=list)
    doubled: list[list[Kept]] = field(default_factory=list)
    differing: list[tuple[str, Whole, Kept]] = field(default_factory=list)
    behind: list[tuple[str, int, int]] = field(default_factory=list)
    """Keys whose last use on record is earlier than that of which a client knows: id, on record, known."""

    def assert_right(self) -> None:
        assert self.whole, "there was nothing to judge"
        assert not self.lost, (len(self.lost), self.whole, self.lost[:5])
        assert not self.doubled, (len(self.doubled), self.doubled[:5])
        assert not self.differing, (len(self.differing), self.differing[:5])
        assert not self.behind, (len(self.behind), self.behind[:5])


def judged(
    whole: Iterable[Whole],
    kept: Sequence[Kept],
    last_uses: Mapping[str, int],
    *,
    counted: frozenset[str] = frozenset(),
    missing: frozenset[str] = frozenset(),
) -> Verdict:
    """Hold a record against what clients received.

    `counted`: codes of refusals that may be counted instead of kept one by one. `missing`: requests that cannot be
    there, because a test has destroyed them.
    """
    verdict = Verdict(kept=len(kept))
    by_id = {each.request_id: each for each in kept}
    if len(by_id) < len(kept):
        times = collections.defaultdict(list)
        for each in kept:
            times[each.request_id].append(each)
        verdict.doubled = [entries for entries in times.values() if len(entries) > 1]
    known: dict[str, int] = {}
    for response in whole:
        verdict.whole += 1
        found = by_id.get(response.request_id)
        if found is None:
            if response.code not in counted and response.request_id not in missing:
                verdict.lost.append(response)
            continue
        difference = _difference(response, found)
        if difference:
            verdict.differing.append((difference, response, found))
        if not response.code and response.key_id:
            known[response.key_id] = max(known.get(response.key_id, 0), response.sent)
    for key, sent in known.items():
        if last_uses.get(key, 0) < sent - CLOCK_MICROSECONDS:
            verdict.behind.append((key, last_uses.get(key, 0), sent))
    return verdict


def _difference(response: Whole, found: Kept) -> str:
    """The name of the first field that does not say what the client saw; empty where all do."""
    refused = bool(response.code)
    outcomes = {Outcome.REFUSED} if refused else {Outcome.ANSWERED}
    if response.kind == "tunnel":  # its end is not what the client waited for
        outcomes = {Outcome.ANSWERED, Outcome.ABORTED, Outcome.OPEN, Outcome.INTERRUPTED}
    said = {
        "outcome": found.outcome in outcomes,
        "method": found.method == response.method,
        "path": found.path == response.path,
        "status": found.status == response.status,
        "code": found.code == response.code,
        "key_id": refused or found.key_id == response.key_id,
        "at": found.at + found.duration >= response.sent - CLOCK_MICROSECONDS,
        "bytes_in": response.kind in _LASTING or refused or found.bytes_in == response.bytes_in,
        "bytes_out": response.kind == "tunnel" or refused or found.bytes_out == response.body_bytes,
    }
    return next((name for name, same in said.items() if not same), "")
