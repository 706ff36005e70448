"""Shapes: they hide secrets, keep what was sent, and outlive a gateway that knows more than they do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.client.shapes import AddedMember, ChangedKey, IssuedKey, Key, Page
from tests.client.documents import CHANGED_KEY, KEY_DOCUMENT, PROPAGATION

ISSUED = {**KEY_DOCUMENT, "secret": "sk_very_secret", "code": None, "warnings": [], "propagation": PROPAGATION}

MEMBER: dict[str, object] = {
    "id": "mem_1",
    "organization_id": "org_1",
    "email": "a@example.com",
    "role": "member",
    "permissions": [],
    "external_id": None,
    "created_at": "2030-01-01T00:00:00Z",
    "version": 1,
    "propagation": PROPAGATION,
}


def test_a_secret_is_there_to_be_read_and_in_no_repr() -> None:
    issued = IssuedKey.read(ISSUED)
    assert issued.secret == "sk_very_secret"
    assert "very" not in repr(issued)
    assert "very" not in str(issued)


def test_what_has_the_secret_is_what_the_page_says() -> None:
    """docs/client.md: `repr` and `str` leave it out wherever it is; these hold it."""
    issued = IssuedKey.read(ISSUED)
    assert issued.raw["secret"] == issued.model_dump()["secret"] == "sk_very_secret"
    assert "sk_very_secret" in issued.model_dump_json()
    added = AddedMember.read({**MEMBER, "key": ISSUED})
    for answer in (added, Page[IssuedKey].read({"items": [ISSUED], "next_cursor": None})):
        assert "very" not in f"{answer!r} {answer}"
    text = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    assert "`repr` and `str` of an answer leave the secret out" in text
    for holder in ("made.secret", "made.raw", "made.model_dump()", "made.model_dump_json()"):
        assert f"`{holder}`" in text


def test_what_was_sent_is_kept_as_it_was() -> None:
    sent = {**CHANGED_KEY, "of a later version": {"a": [1]}}
    assert ChangedKey.read(sent).raw == sent


def test_fields_and_words_of_a_later_version_break_nothing() -> None:
    read = Key.read({**KEY_DOCUMENT, "status": "sleeping", "mood": "good"})
    assert read.status == "sleeping"
    assert not hasattr(read, "mood")


def test_times_are_aware() -> None:
    assert Key.read(KEY_DOCUMENT).created_at == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_shape_does_not_change() -> None:
    with pytest.raises(ValidationError):
        Key.read(KEY_DOCUMENT).name = "x"  # type: ignore[misc]


def test_what_is_missing_is_said_without_what_was_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        IssuedKey.read({**ISSUED, "version": "none"})
    assert "very" not in str(caught.value)


def test_a_page_has_typed_items() -> None:
    page = Page[Key].read({"items": [KEY_DOCUMENT], "next_cursor": None})
    assert isinstance(page.items[0], Key)
