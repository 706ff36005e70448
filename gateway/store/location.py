"""Where the SQLite file is: the one reading of `store.url`, shared by writers and by the workers' reader.

Invariant: a path comes out, or an error that says how a right URL looks. SQLAlchemy's own URL parser was turned down,
because workers need the path and may not import SQLAlchemy.
"""

from pathlib import Path
from typing import Final

from gateway.errors import ConfigProblem, ConfigurationError

_SCHEME: Final = "sqlite:///"


def sqlite_path(url: str) -> Path:
    """Return the file of a `sqlite:///relative` or `sqlite:////absolute` URL, made absolute."""
    name = url.removeprefix(_SCHEME)
    if not url.startswith(_SCHEME) or name in {"", ":memory:"} or "?" in name or "\0" in name:
        reason = (
            "must be sqlite:///path/to/file.db (relative to the working directory) or sqlite:////absolute/path/file.db"
        )
        raise ConfigurationError([ConfigProblem("store", "store.url", reason)])
    return Path(name).absolute()
