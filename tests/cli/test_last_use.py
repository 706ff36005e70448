"""What is said of the last use of a key: what is known, and never that nothing uses it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.last_use import last_used_sentence, last_used_text
from gateway.client.shapes import LastUse

ROOT = Path(__file__).parents[2]
USE = LastUse(at=datetime(2030, 1, 31, tzinfo=UTC), address="192.0.2.1", user_agent=None)


def test_a_use_is_told_with_its_time_and_address() -> None:
    assert last_used_text(USE) == "2030-01-31T00:00:00Z from 192.0.2.1"
    assert last_used_sentence(USE) == "it was last used 2030-01-31T00:00:00Z from 192.0.2.1"


def test_without_a_recorded_use_it_is_said_that_none_is_recorded() -> None:
    assert last_used_text(None) == "not recorded"
    assert last_used_sentence(None) == "when it was last used is not recorded yet"


def test_no_text_claims_that_a_key_is_not_used() -> None:
    """And the words for it stand in one place."""
    texts = [
        *(ROOT / "gateway" / "cli").glob("*.py"),
        *(ROOT / "docs" / name for name in ("walkthrough.md", "client.md")),
    ]
    for path in texts:
        claims = re.findall(r"never used|(?<!-)unused(?![-_])\b|\bis quiet", path.read_text())
        assert claims in ([], ["never used"] * 2 if path.name == "last_use.py" else []), path
