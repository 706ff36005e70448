"""Following the change log: in order, without a gap, from the right life of the store, and with proof."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.changes.applier import Applier
from gateway.changes.log_follower import LogFollower
from gateway.errors import StoreBusy, StoreUnavailable
from gateway.keys.change import Change
from gateway.keys.projection import LogLook, LogPosition
from tests.proxy.profiles import scaled


class Log:
    """A change log; `fails` is raised at the named step."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.opened = 1
        self.version = 1
        self.name = "one"
        self.fails: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]

    def commit(self, *sequence: int, kind: Literal["key", "owner", "organization"] = "key") -> None:
        """Write changes with these numbers."""
        self.changes += [Change(seq, kind, f"subject_{seq}", 1) for seq in sequence]
        self.version += 1

    def data_version(self) -> int:
        """See ChangeLog."""
        self._step("data_version")
        return self.version

    @property
    def head(self) -> int:
        return max((each.seq for each in self.changes), default=0)

    def look(self, seq: int, limit: int) -> LogLook:
        """See ChangeLog."""
        self._step("look")
        at = next((each for each in self.changes if each.seq == seq), None)
        behind = tuple(each for each in self.changes if each.seq > seq)[:limit]
        return LogLook(self.name, self.head, at, behind)


class Sink:
    """A ChangeSink that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[int | str] = []
        self.proofs: list[float] = []

    def apply(self, change: Change) -> None:
        """See ChangeSink."""
        self.told.append(change.seq)

    def forget_everything(self) -> None:
        """See ChangeSink."""
        self.told.append("forget")

    def proven(self, now: float) -> None:
        """See ChangeSink."""
        self.proofs.append(now)


class Following:
    """A follower, its log, its sink and its clock."""

    def __init__(self, *sequence: int) -> None:
        self.log = Log()
        self.log.commit(*sequence)
        self.sink = Sink()
        self.now = 0.0
        self.applier = Applier(self.sink)
        self.follower = LogFollower(
            self.log, self.applier, interval_seconds=0.001, clock=lambda: self.now, proven=self.sink.proven
        )
        self.follower.look()

    @property
    def applied(self) -> int:
        assert self.applier.position is not None
        return self.applier.position.seq

    def poll(self) -> list[int | str]:
        """Poll a second later; returns what the sink was told."""
        self.now += 1
        self.sink.told = []
        self.follower.look()
        return self.sink.told

    @property
    def proven(self) -> bool:
        """Whether the last poll proved that the worker is current."""
        return bool(self.sink.proofs) and self.sink.proofs[-1] == self.now


def test_the_log_is_followed_from_its_present_end() -> None:
    following = Following(1, 2, 3)
    assert following.applied == 3
    assert following.proven
    assert following.poll() == []
    following.log.commit(4, 5)
    assert following.poll() == [4, 5]
    assert following.applied == 5
    assert following.proven


def test_what_is_committed_between_start_and_the_first_poll_is_not_missed() -> None:
    following = Following()
    following.log.commit(1)
    assert following.poll() == [1]


def test_a_poll_that_finds_nothing_new_costs_one_question() -> None:
    following = Following(1)
    following.poll()
    following.log.calls.clear()
    assert following.poll() == []
    assert following.log.calls == ["data_version"]
    assert following.proven


def test_more_changes_than_can_be_applied_one_by_one_make_the_cache_forget_everything() -> None:
    following = Following()
    following.log.commit(*range(1, 2502))
    assert following.poll() == ["forget"]
    assert following.applied == 2501
    following.log.commit(2502)
    assert following.poll() == [2502]


def test_a_gap_makes_the_cache_forget_everything_and_goes_on_behind_it() -> None:
    following = Following(1)
    following.log.commit(3, 4)
    assert following.poll() == ["forget"]
    assert following.applied == 4
    following.log.commit(5)
    assert following.poll() == [5]


def test_a_log_that_has_gone_back_makes_the_cache_forget_everything() -> None:
    following = Following(1, 2, 3)
    following.log.changes = following.log.changes[:1]
    following.log.version += 1
    assert following.poll() == ["forget"]
    assert following.applied == 1
    following.log.commit(2)
    assert following.poll() == [2]


def test_another_epoch_makes_the_cache_forget_everything_even_at_a_higher_number() -> None:
    following = Following(1)
    following.log.name = "two"
    following.log.commit(2, 3, 4)
    assert following.poll() == ["forget"]
    assert following.applied == 4
    assert following.poll() == []


def test_a_store_that_was_opened_anew_makes_the_cache_forget_everything_although_it_looks_the_same() -> None:
    """A restored backup has the epoch of its original, and may have had as many changes since."""
    following = Following(1)
    following.log.opened += 1
    following.log.commit(2)
    assert following.poll() == ["forget"]
    assert following.applied == 2
    following.log.commit(3)
    assert following.poll() == [3]


@pytest.mark.parametrize("step", ["data_version", "look"])
def test_a_busy_log_proves_nothing_and_nothing_is_missed(step: str, caplog: pytest.LogCaptureFixture) -> None:
    following = Following(1)
    following.poll()
    following.log.commit(2, 3)
    following.log.fails = {step: StoreBusy("held")}
    assert following.poll() == []
    assert not following.proven
    following.log.fails = {}
    assert following.poll() == [2, 3]
    assert following.proven
    assert not caplog.records, "a busy moment is nothing to tell"


@pytest.mark.parametrize("step", ["data_version", "look"])
def test_a_log_that_stays_busy_is_told_once_and_so_is_its_end(step: str, caplog: pytest.LogCaptureFixture) -> None:
    """A poll a second: after five of them it is more than a moment. The next outage is told again."""
    following = Following(1)
    following.poll()
    with caplog.at_level(logging.INFO):
        for seq in (2, 3):
            following.log.commit(seq)
            following.log.fails = {step: StoreBusy("held")}
            for _ in range(6):
                following.poll()
            assert not caplog.records
            for _ in range(60):
                following.poll()
            assert [each.levelno for each in caplog.records] == [logging.WARNING]
            assert "more than 5 seconds" in caplog.text
            following.log.fails = {}
            assert following.poll() == [seq]
            following.poll()
            assert [each.levelno for each in caplog.records] == [logging.WARNING, logging.INFO]
            caplog.clear()


def test_moments_of_a_busy_log_do_not_add_up(caplog: pytest.LogCaptureFixture) -> None:
    following = Following(1)
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            following.log.fails = {"data_version": StoreBusy("held")}
            for _ in range(3):
                following.poll()
            following.log.fails = {}
            following.poll()
    assert not caplog.records


def test_a_busy_log_that_then_cannot_be_read_is_told_as_the_error_that_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """And what was told as an error is not told again as the lesser evil; the end of it all is told once."""
    following = Following(1)
    following.poll()
    with caplog.at_level(logging.INFO):
        for fails in (StoreBusy("held"), StoreUnavailable("disk gone"), StoreBusy("held"), StoreUnavailable("gone")):
            following.log.fails = {"data_version": fails}
            for _ in range(20):
                following.poll()
        following.log.fails = {}
        following.poll()
    levels = [each.levelno for each in caplog.records]
    assert levels == [logging.WARNING, logging.ERROR, logging.WARNING]
    assert "again" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("step", ["data_version", "look"])
def test_a_log_that_cannot_be_read_proves_nothing_and_is_told_once(step: str, caplog: pytest.LogCaptureFixture) -> None:
    following = Following(1)
    following.poll()
    following.log.commit(2)
    following.log.fails = {step: StoreUnavailable("disk gone")}
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert following.poll() == []
            assert not following.proven
        following.log.fails = {}
        assert following.poll() == [2]
        assert following.proven
    assert [each.levelno for each in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "disk gone" in caplog.text


def test_the_proof_counts_from_before_the_log_was_read() -> None:
    """What was committed while it was read may not be in it."""
    following = Following()
    read = following.log.data_version

    def slowly() -> int:
        following.now += 5
        return read()

    following.log.data_version = slowly  # type: ignore[method-assign]
    following.poll()
    assert following.sink.proofs[-1] == 1


async def test_a_store_that_is_away_at_the_start_is_told_to_whoever_starts() -> None:
    log = Log()
    log.fails = {"look": StoreUnavailable("no file")}
    sink = Sink()
    with pytest.raises(StoreUnavailable):
        await LogFollower(log, Applier(sink), interval_seconds=1, clock=lambda: 0.0, proven=sink.proven).start()
    assert not sink.proofs


async def test_a_start_waits_for_a_writer_that_holds_the_store() -> None:
    following = Following(1)
    following.log.fails = {"data_version": StoreBusy("held")}
    starting = asyncio.get_running_loop().create_task(following.follower.start())
    while following.log.calls.count("data_version") < 3:
        await asyncio.sleep(0.001)
    following.log.fails = {}
    await starting
    assert following.proven
    assert following.follower.source == "store"


def test_a_store_that_is_away_at_the_beginning_is_followed_as_soon_as_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was looked up before is not believed: changes may have come between. Nothing is proven without a log."""
    log, sink = Log(), Sink()
    log.commit(1, 2)
    applier = Applier(sink)
    follower = LogFollower(log, applier, interval_seconds=1, clock=lambda: 0.0, proven=sink.proven)
    log.fails = {"data_version": StoreUnavailable("no file")}
    follower.look()
    log.fails = {"data_version": StoreBusy("held")}
    follower.look()
    assert (sink.told, sink.proofs) == ([], [])
    log.fails = {}
    follower.look()
    assert (sink.told, sink.proofs) == (["forget"], [0.0])
    assert applier.position == LogPosition("one", 2)
    assert "replaced" not in caplog.text, "nothing was, as far as anybody knows"


async def test_polling_goes_on_until_it_is_cancelled() -> None:
    following = Following()
    following.sink.told = []
    task = asyncio.get_running_loop().create_task(following.follower.run())
    for seq in range(1, 4):
        following.log.commit(seq)
        while following.applied < seq:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert following.sink.told == [1, 2, 3]


@settings(max_examples=scaled(200), deadline=None)
@given(
    st.lists(st.sampled_from(["commit", "many", "gap", "back", "epoch", "anew", "busy", "away", "poll"]), max_size=20)
)
def test_whatever_happens_to_the_log_nothing_that_changed_is_still_believed(events: list[str]) -> None:
    """Everything after the last thing that the sink has heard was either applied or forgotten with all the rest."""
    following = Following(1)
    log, told = following.log, list[int | str]()
    pending: set[int] = set()
    failures: dict[str, dict[str, Exception]] = {
        "busy": {"look": StoreBusy("x")},
        "away": {"data_version": StoreUnavailable("x")},
    }
    for event in events:
        head = max((each.seq for each in log.changes), default=0)
        if event in {"commit", "many", "gap"}:
            new = {"commit": [head + 1], "many": list(range(head + 1, head + 4)), "gap": [head + 3]}[event]
            log.commit(*new)
            pending |= set(new)
        elif event == "back" and head > following.applied:
            continue  # a log cannot lose what nobody has read and stay in the same life
        elif event == "anew":
            log.opened += 1
            log.version += 1
            pending = {-1}
        elif event in {"back", "epoch"}:
            log.changes = log.changes[: len(log.changes) // 2]
            log.name += "x"
            log.version += 1
            pending = {-1}
        else:
            log.fails = failures.get(event, {})
            told += following.poll()
            if following.proven:
                assert "forget" in told or pending <= set(told)
                pending, told = set(), []
