"""The directory of the record of requests: whether it is there and can be written, or can be made.

Asked when the proxy's settings are read, as certificates are, and by nobody else: who makes keys need not be able to
write there. Invariant: looking changes nothing; what is missing is made by the process that needs it. Turned down:
making it here and now, as `gateway check` may be run by another user, whose directory it would be.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway.settings.quoting import MAX_SUGGESTED_CHARACTERS, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.settings.key_path import KeyPath
    from gateway.settings.model import Settings


def problems(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Yield `audit.directory` where it is written down and cannot be used, with the rest of a sentence."""
    if settings.audit.directory is None or settings.audit.record != "all":
        return
    directory = settings.audit_directory
    for needed in (directory, directory / "spool"):
        if reason := _unusable(needed):
            yield ("audit", "directory"), f"names {_named(directory)}, {reason}"
            return


def _unusable(directory: Path) -> str:
    """Why nothing can be written below it, "" where it can; a directory that is missing is asked about its nearest."""
    try:
        nearest = next((each for each in (directory, *directory.parents) if each.exists()), directory)
        if not nearest.is_dir():
            return f"which cannot be used: {_named(nearest)} is no directory"
    except OSError as error:
        return f"which cannot be used: {(error.strerror or str(error)).lower()}"
    if os.access(nearest, os.W_OK | os.X_OK):
        return ""
    if nearest == directory:
        return "which this user may not write to"
    return f"which is not there, and this user may not make it in {_named(nearest)}"


def _named(path: Path) -> str:
    return quoted(str(path), longest=MAX_SUGGESTED_CHARACTERS)
