"""What is put into a record comes out of it, within its limits; anything else that is found there is no record."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.request_entry import OFFSET_BITS, Outcome, RequestEntry
from gateway.recording import records

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, (1 << 63) - 1)
ENTRIES = st.builds(
    RequestEntry,
    position=st.just((5 << OFFSET_BITS) + 64),
    at=numbers,
    duration=numbers,
    outcome=st.sampled_from(Outcome),
    status=st.integers(0, 999),
    bytes_in=numbers,
    bytes_out=numbers,
    request_id=texts,
    method=texts,
    path=texts,
    route=texts,
    upstream=texts,
    address=texts,
    user_agent=texts,
    code=texts,
    key_id=texts,
    key_name=texts,
    secret_id=texts,
    organization_id=texts,
    owner_id=texts,
    run=st.just(7),
)
PLAIN = RequestEntry(
    position=64,
    at=1,
    duration=2,
    outcome=Outcome.ANSWERED,
    status=200,
    bytes_in=3,
    bytes_out=4,
    request_id="id",
    method="GET",
    path="/a",
    route="route",
    upstream="upstream",
    address="::1",
    user_agent="agent",
    code="",
    key_id="key",
    key_name="name",
    secret_id="secret",
    organization_id="organization",
    owner_id="owner",
    run=0,
)


@given(ENTRIES)
def test_an_entry_comes_out_as_it_went_in(entry: RequestEntry) -> None:
    assert records.decode(records.encode(entry), 5, 64, 7) == entry


@given(ENTRIES, numbers.filter(bool))
def test_an_ending_names_the_place_of_its_beginning(entry: RequestEntry, opened: int) -> None:
    found = records.decode(records.encode(entry, opened=opened), 9, 128, 7)
    assert found == entry._replace(position=opened)


def test_more_texts_than_are_kept_come_out_as_they_went_in() -> None:
    for number in [*range(10_000), *range(10_000)]:
        entry = PLAIN._replace(key_id=f"key_{number}", address=f"10.1.{number >> 8}.{number & 255}")
        assert records.decode(records.encode(entry), 0, 64, 0) == entry


@given(numbers, st.text("abc_", max_size=30), numbers)
def test_the_other_kinds_come_out_as_they_went_in(at: int, code: str, count: int) -> None:
    refusals = records.decode(records.unrecorded_refusals(at, code.encode(), count), 1, 64, 1)
    assert isinstance(refusals, records.UnrecordedRefusals)
    assert astuple(refusals) == (at, code, count)
    assert records.decode(records.dropped_segment(at, count), 1, 64, 1) == records.DroppedSegment(at, count)
    assert records.decode(records.seal(count), 1, 64, 1) == records.Seal(count)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_never_raise(payload: bytes) -> None:
    records.decode(payload, 1, 64, 1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\x06" + bytes(16),
        b"\x05" + bytes(15),
        records.encode(PLAIN)[:40],
        records.encode(PLAIN) + b"\0",
        records.encode(PLAIN)[: -len(b"\0owner")],
        b"\x01\x09" + records.encode(PLAIN)[2:],
    ],
)
def test_what_is_not_understood_is_told_apart_from_what_is(payload: bytes) -> None:
    assert records.decode(payload, 1, 64, 1) is None


def test_bytes_that_are_no_text_are_written_out() -> None:
    payload = records.encode(PLAIN).replace(b"/a", b"/\xff\xc3")
    found = records.decode(payload, 0, 64, 0)
    assert isinstance(found, RequestEntry)
    assert found.path == "/\\xff\\xc3"


def test_texts_are_cut_at_their_limits() -> None:
    long = "x" * 5000
    found = records.decode(records.encode(PLAIN._replace(path=long, user_agent=long, key_name=long)), 0, 64, 0)
    assert isinstance(found, RequestEntry)
    assert [len(each) for each in (found.path, found.user_agent, found.key_name)] == [2048, 512, 256]


def test_a_zero_byte_in_a_name_does_not_move_what_follows() -> None:
    found = records.decode(records.encode(PLAIN._replace(key_name="a\0b")), 0, 64, 0)
    assert found == PLAIN._replace(key_name="a?b")
