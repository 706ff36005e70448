"""Writes the client that waits from the one that awaits: `python -m gateway.client.generate`.

Invariant: `synchronous` is `asynchronous` without its `await`s; a test holds the two together. Precedent: httpcore and
psycopg make their synchronous halves this way. Turned down: writing both by hand, which would be two programs to mend,
and running an event loop behind a synchronous face, which breaks inside of a running one.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "asynchronous"
TARGET: Final = HERE / "synchronous"

_REPLACEMENTS: Final = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\basyncio\b", "time"),
    (r"\bhttpx\.AsyncClient\b", "httpx.Client"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"Callable\[\[str \| None\], Awaitable\[Page\[Item\]\]\]", "Callable[[str | None], Page[Item]]"),
    (r"\bAwaitable, ", ""),
    (r"for (\w+) in (\S+):\n +yield \1\n", r"yield from \2\n"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\bmay be shared by tasks\b", "may be shared by threads"),
    (r"\bgateway\.client\.asynchronous\b", "gateway.client.synchronous"),
)
_NOTE: Final = "\n\nMade from the file of this name in `asynchronous` by `python -m gateway.client.generate`.\n"


def generated() -> dict[str, str]:
    """File name → text, of everything in `synchronous` but its `__init__.py`."""
    return {path.name: _synchronous(path.read_text()) for path in SOURCE.glob("*.py") if path.name != "__init__.py"}


def _synchronous(text: str) -> str:
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    opening, docstring, rest = text.split('"""', 2)
    marked = f'{opening}"""{docstring.rstrip()}{_NOTE}"""{rest}'
    for arguments in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET / "made.py"), "-"]
        marked = subprocess.run(command, input=marked, capture_output=True, text=True, check=True).stdout  # noqa: S603 - ruff, which formats all of this
    return marked


if __name__ == "__main__":
    for name, text in generated().items():
        (TARGET / name).write_text(text)
