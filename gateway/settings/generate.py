"""Write the files that are made from the model: `python -m gateway.settings.generate [DIRECTORY]`.

Invariant: a test compares the committed files with what is made here, so a change of the model that is not written out
fails. Turned down: making them when the package is built; people read them in the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.settings.commented_file import commented_file
from gateway.settings.reference import reference
from gateway.settings.schema import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "config/gateway.toml": commented_file,
    "config/gateway.schema.json": schema,
    "docs/settings.md": reference,
}


def write(root: Path) -> None:
    """Write every generated file below `root`."""
    for name, text in GENERATED.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(*sys.argv[1:]))
