"""docs/client.md: its examples run, one after the other, against a real admin API; what it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gateway.client
from gateway.client.errors import error_class
from tests.admin_api import AdminApi

if TYPE_CHECKING:
    import pytest

TEXT: Final = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == TEXT.count("```python") > 10
    with AdminApi(tmp_path) as api:
        monkeypatch.setenv("GATEWAY_ADMIN_URL", api.url)
        monkeypatch.setenv("GATEWAY_API_KEY", api.secret)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "\n".join(blocks)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "admin@example.com of Acme may" in done.stdout
    assert "name must be" in done.stdout
    assert "key_not_found" in done.stdout
    assert api.secret not in done.stdout


def test_the_table_of_exceptions_is_true() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE)
    assert len(rows) > 5
    for name, status in rows:
        assert error_class(int(status)) is getattr(gateway.client, name)


def test_everything_that_is_offered_is_named() -> None:
    for name in gateway.client.__all__:
        assert name == "FieldProblem" or f"`{name}`" in TEXT or f"{name}(" in TEXT or f"import {name}" in TEXT, name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
