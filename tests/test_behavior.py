"""What docs/behavior.md and docs/threat-model.md promise is kept by tests and settings that exist, with these defaults.

A promise names its test as `file::test` below `tests/`, or a file: in threat-model.md beside it, in behavior.md
at the end, under the same section and number, so that what is promised reads as one page. A setting is written as in
the configuration file, `table.name` or `table.name = default`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_TESTS: Final = Path(__file__).parent
_ROOT: Final = _TESTS.parent
_PAGES: Final = {name: (_ROOT / "docs" / name).read_text() for name in ("behavior.md", "threat-model.md")}
_BEHAVIOR: Final = _PAGES["behavior.md"]
_REFERENCE: Final = r"`((?:\w+/)*test_\w+\.py(?:::\w+)?)`"
_REFERENCES: Final = sorted({found for page in _PAGES.values() for found in re.findall(_REFERENCE, page)})
_WIRE: Final = (
    *("Requests that are refused", "Limits", "Trust", "Streaming", "Upstreams", "Slow and many"),
    *("The gateway's own answers", "Browsers", "TLS"),
)
# Not of behavior.md, but how it is written: the pages' word for what no test can show is an honest "does not protect".
_UNKEPT: Final = ("What it does not protect against", "How to report a fault", "Where trust ends")


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^#{1,2} (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _defaults() -> dict[str, Any]:
    """Every setting with its default, or with the example of one that is unset: config/gateway.toml uncommented."""
    lines = (_ROOT / "config" / "gateway.toml").read_text().splitlines()
    text = "\n".join(re.sub(r"^#(?=\[|\w+ = )", "", line) for line in lines)
    return dict(_flat("", tomllib.loads(text)))


def _flat(prefix: str, value: object) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            yield prefix, None
            for name, each in value.items():
                yield from _flat(f"{prefix}.{name}".lstrip("."), each)
        case [dict() as only]:
            yield from _flat(prefix, only)
        case _:
            yield prefix, value


_SETTINGS: Final = _defaults()
_TABLES: Final = {name.partition(".")[0] for name in _SETTINGS} - {""}
_NAMED: Final = sorted(
    found
    for page in _PAGES.values()
    for found in {*re.findall(r"`([a-z_]+\.[a-z_.]+(?: = [^`]+)?)`", page)}
    if found.partition(".")[0] in _TABLES
)


_KEPT: Final = "Tests: "
"""Begins the name of the section with the tests of another one."""


def _numbered(section: str) -> dict[int, str]:
    parts = re.split(r"^([0-9]+)\. ", section, flags=re.MULTILINE)[1:]
    return dict(zip(map(int, parts[::2]), parts[1::2], strict=True))


def test_every_promise_of_behavior_has_its_tests_under_its_number() -> None:
    sections = {name: _numbered(text) for name, text in _sections(_BEHAVIOR).items()}
    promised = {name: each for name, each in sections.items() if each and not name.startswith(_KEPT)}
    kept = {name: each for name, each in sections.items() if name.startswith(_KEPT)}
    assert [_KEPT + name for name in promised] == list(kept)
    assert sum(map(len, promised.values())) > 100
    for name, promises in promised.items():
        assert list(promises) == list(range(1, len(promises) + 1)) == list(kept[_KEPT + name]), name
        for number, tests in kept[_KEPT + name].items():
            assert re.fullmatch(rf"{_REFERENCE}(?:,\s+{_REFERENCE})*\s*", tests), (name, number, tests)
        assert not re.search(_REFERENCE, " ".join(promises.values())), name


def test_every_promise_of_the_threat_model_names_a_test() -> None:
    sections = {name: text for name, text in _sections(_PAGES["threat-model.md"]).items() if name not in _UNKEPT}
    promises = [each for text in sections.values() for each in re.split(r"\n(?:- |\| (?!---))", text)[1:]]
    promises = [each for each in promises if not each.startswith(("attempt |",))]
    assert len(promises) > 25
    # What an admin may, and what comes plain, are no promises but what there is to know of them.
    facts = re.compile(r"\*\*may\*\*|The default is plain")
    for promise in promises:
        assert re.search(_REFERENCE, promise) or facts.search(promise), promise


@pytest.mark.parametrize("reference", _REFERENCES)
def test_the_test_exists(reference: str) -> None:
    path, _, name = reference.partition("::")
    source = (_TESTS / path).read_text()
    assert re.search(rf"^(?:async )?def {name}\(" if name else "^(?:async )?def test_|TestCase", source, re.MULTILINE)


@pytest.mark.parametrize("named", _NAMED)
def test_the_setting_exists_and_has_this_default(named: str) -> None:
    name, assigned, value = named.partition(" = ")
    assert name in _SETTINGS
    if assigned:
        assert _SETTINGS[name] == tomllib.loads(f"it = {value}")["it"]


def test_the_pages_name_enough_settings_to_mean_something() -> None:
    assert len(_NAMED) > 40


def test_the_page_begins_with_the_wire_in_its_order() -> None:
    headings = re.findall(r"^# (.+)$|^## (.+)$", _BEHAVIOR, flags=re.MULTILINE)
    first = [one or two for one, two in headings][:11]
    assert first == ["What the gateway promises", "On the wire", *_WIRE]


@pytest.mark.parametrize("file", sorted(path.name for path in (_TESTS / "wire").glob("test_*.py")))
def test_every_test_of_the_wire_keeps_a_promise_of_the_page(file: str) -> None:
    assert f"`wire/{file}" in _BEHAVIOR
