"""docs/audit.md: it has every field, outcome, filter and setting that there is, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_args

from gateway.control.api.operations import OPERATIONS
from gateway.recording.records import PATH_LIMIT_BYTES, TEXT_LIMIT_BYTES, USER_AGENT_LIMIT_BYTES
from gateway.services.audit_shapes import Event, OutcomeWord, RequestDetail
from gateway.settings.model import AuditSettings

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "audit.md").read_text()


def firsts(section: str) -> list[str]:
    """Every name in the first column of the section's tables, in their order."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_field_and_outcome_is_explained_and_no_other() -> None:
    named = firsts("Field by field")
    assert set(named) == {*Event.model_fields, *RequestDetail.model_fields, "outcome", *get_args(OutcomeWord)}


def test_every_filter_of_the_api_is_named() -> None:
    (listing,) = [each for each in OPERATIONS if each.name == "list_events"]
    parameters = {each.name for each in listing.query} - {"cursor", "limit"}
    assert set(firsts("Finding")) == {f"--{name.replace('_', '-')}" for name in parameters}
    second = re.findall(r"^\| `--[^|]* \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert {name for cell in second for name in re.findall(r"`([^`]+)`", cell)} == parameters


def test_the_limits_and_defaults_are_those_of_the_code() -> None:
    assert f"Paths are cut after {PATH_LIMIT_BYTES} bytes, user agents after {USER_AGENT_LIMIT_BYTES}" in PAGE
    assert f"every other text after {TEXT_LIMIT_BYTES}" in PAGE
    settings = AuditSettings()
    assert f"`audit.retention_days` ({settings.retention_days})" in PAGE
    assert f"`audit.sync_interval_seconds` ({settings.sync_interval_seconds:g})" in PAGE
    for name in re.findall(r"`audit\.([a-z_]+)", PAGE):
        assert name in AuditSettings.model_fields, name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, heading = target.partition("#")
        assert not file or (ROOT / "docs" / file).exists(), target
        assert not heading or f"## {heading.capitalize()}\n" in PAGE, target
