"""What loading a file of settings says where it refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError
from gateway.settings.loading import load

if TYPE_CHECKING:
    from pathlib import Path


def complaint(tmp_path: Path, text: str, *, proxy: bool = True) -> str:
    """Of a file with this text; empty where nothing is wrong. `proxy`: for commands that need an upstream."""
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    try:
        load(file, require_upstream=proxy)
    except ConfigurationError as error:
        return error.detail
    return ""
