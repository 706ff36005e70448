"""docs/behavior.md names for each promise the test that keeps it; here it is kept that these tests exist."""

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_PAGE = (_TESTS.parent / "docs" / "behavior.md").read_text()
_REFERENCES = sorted(set(re.findall(r"`((?:\w+/)*test_\w+\.py(?:::\w+)?)`", _PAGE)))


def test_every_promise_names_a_test() -> None:
    promises = re.split(r"\n- ", _PAGE)[1:]
    assert len(promises) > 15
    for promise in promises:
        assert re.search(r"`[\w/]+\.py(?:::\w+)?`", promise), promise


@pytest.mark.parametrize("reference", _REFERENCES)
def test_the_test_exists(reference: str) -> None:
    path, _, name = reference.partition("::")
    source = (_TESTS / path).read_text()
    assert re.search(rf"^(?:async )?def {name}\(" if name else "^(?:async )?def test_|TestCase", source, re.MULTILINE)
