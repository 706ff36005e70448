"""What is read or heard of the log counts in its order, whatever is lost, doubled, late or taken back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.changes.applier import Applier
from gateway.keys.change import Change
from gateway.keys.projection import LogLook, LogPosition
from tests.proxy.profiles import scaled

if TYPE_CHECKING:
    from collections.abc import Sequence


def change(seq: int, version: int = 1) -> Change:
    return Change(seq, "key", f"key_{seq}", version)


def look(seq: int, head: int, *, epoch: str = "one", limit: int = 1000, version: int = 1) -> LogLook:
    """What a look behind `seq` finds in a log of `head` rows."""
    at = change(seq, version) if 0 < seq <= head else None
    behind = tuple(change(each, version) for each in range(seq + 1, head + 1))[:limit]
    return LogLook(epoch, head, at, behind)


class Told:
    """An applier and what its sink was told."""

    def __init__(self) -> None:
        self.told: list[int | str] = []
        self.positions: list[LogPosition] = []
        self.applier = Applier(self, self.positions.append)
        self.applier.take_look(look(0, 3, limit=0))
        self.clear()

    def clear(self) -> None:
        self.told.clear()
        self.positions.clear()

    def apply(self, change: Change) -> None:
        self.told.append(change.seq)

    def forget_everything(self) -> None:
        self.told.append("forget")

    def proven(self, now: float) -> None:
        raise AssertionError(now)

    @property
    def at(self) -> tuple[str, int]:
        assert self.applier.position is not None
        return (self.applier.position.epoch, self.applier.position.seq)


def test_the_log_counts_from_its_head_on() -> None:
    told = Told()
    assert told.at == ("one", 3)
    told.applier.take_look(look(3, 5))
    assert (told.told, told.at) == ([4, 5], ("one", 5))
    assert told.positions == [LogPosition("one", 5)], "told once, when all of it counts"
    told.applier.take_look(look(5, 5))
    assert told.positions == [LogPosition("one", 5)], "nothing moved"


def test_messages_and_looks_go_on_where_the_other_has_ended() -> None:
    told = Told()
    told.applier.take_message("one", change(4))
    told.applier.take_look(look(4, 5))
    told.applier.take_message("one", change(6))
    assert (told.told, told.at) == ([4, 5, 6], ("one", 6))


def test_doubled_and_late_messages_are_dropped() -> None:
    told = Told()
    for seq in (4, 4, 5, 4, 5):
        told.applier.take_message("one", change(seq))
    assert (told.told, told.at) == ([4, 5], ("one", 5))


def test_a_message_that_does_not_follow_makes_everything_be_forgotten() -> None:
    told = Told()
    told.applier.take_message("one", change(5))
    told.applier.take_message("one", change(4))  # late
    told.applier.take_message("one", change(6))
    assert (told.told, told.at) == (["forget", 6], ("one", 6))


@pytest.mark.parametrize(
    "found",
    [
        look(3, 5, epoch="two"),
        look(3, 2),
        look(3, 9, limit=2),
        LogLook("one", 5, change(3), ()),
        LogLook("one", 5, change(3), (change(5),)),
        LogLook("one", 5, change(3), (change(5), change(4))),
    ],
    ids=["another epoch", "gone back", "too many", "rows that are missing", "a gap", "out of order"],
)
def test_what_cannot_be_applied_one_by_one_is_forgotten_as_a_whole(found: LogLook) -> None:
    told = Told()
    told.applier.take_look(found)
    assert (told.told, told.at) == (["forget"], (found.epoch, found.head))


def test_a_log_that_has_gone_back_and_forth_is_found_out_by_the_row_at_the_position() -> None:
    """A restored backup that has had as many changes since has the same epoch and no lower head."""
    told = Told()
    told.applier.take_look(look(3, 4))
    told.clear()
    told.applier.take_look(look(4, 5, version=2))
    assert (told.told, told.at) == (["forget"], ("one", 5))
    told.applier.take_look(look(5, 6, version=2))
    assert told.told == ["forget", 6], "its rows are the ones that are known now"


def test_the_row_at_the_position_is_known_from_messages_too() -> None:
    told = Told()
    told.applier.take_message("one", change(4))
    told.applier.take_look(look(4, 4, version=2))
    assert told.told == [4, "forget"]


def test_a_store_that_was_opened_anew_is_not_trusted_although_it_looks_the_same() -> None:
    told = Told()
    told.applier.take_look(look(3, 3), anew=True)
    assert told.told == ["forget"]


def test_forgetting_is_told_but_for_the_first_time(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        told = Told()
        assert not caplog.records
        told.applier.take_look(look(3, 1))
    assert "looked up again" in caplog.text


def test_a_position_counts_only_after_everything_was_forgotten() -> None:
    """Whoever hears of it may say that nothing from before is served any more."""
    told = Told()
    seen: list[list[int | str]] = []
    applier = Applier(told, lambda _: seen.append(list(told.told)))
    applier.jump(LogPosition("one", 9), "it has to")
    assert seen == [["forget"]]


@settings(max_examples=scaled(300), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["message", "look"]), st.integers(1, 12)), max_size=30))
def test_in_any_order_of_messages_and_looks_no_change_up_to_the_position_is_missing(
    events: Sequence[tuple[str, int]],
) -> None:
    """Messages with any number may come at any time, looks see the log as far as it is."""
    told = Told()
    heard, head = set[int](), 3
    for kind, seq in events:
        head = max(head, seq)
        before = told.at[1]
        if kind == "message":
            told.applier.take_message("one", change(seq))
        else:
            told.applier.take_look(look(before, head))
        applied = {each for each in told.told if isinstance(each, int)}
        heard |= set(range(4, told.at[1] + 1)) if "forget" in told.told else applied
        assert told.at[1] >= before
        assert set(range(4, told.at[1] + 1)) <= heard
