"""Where the store is: the one reading of `store.url`, shared by writers and by the workers' readers.

Invariant: a path or a server's name comes out, or an error that says how a right URL looks; what is made for people to
read holds no password. SQLAlchemy's own URL parser was turned down, because workers need this and may not import
SQLAlchemy.
"""

import re
from pathlib import Path
from typing import Final

from gateway.errors import ConfigProblem, ConfigurationError

_SCHEME: Final = "sqlite:///"
_POSTGRES: Final = re.compile(r"postgres(?:ql)?://")


def is_postgres(url: str) -> bool:
    """Tell whether the store is a PostgreSQL database; else it is an SQLite file, or no store at all."""
    return _POSTGRES.match(url) is not None


def sqlite_path(url: str) -> Path:
    """Return the file of a `sqlite:///relative` or `sqlite:////absolute` URL, made absolute."""
    name = url.removeprefix(_SCHEME)
    if not url.startswith(_SCHEME) or name in {"", ":memory:"} or "?" in name or "\0" in name:
        reason = (
            "must be sqlite:///path/to/file.db (relative to the working directory) or sqlite:////absolute/path/file.db"
        )
        raise ConfigurationError([ConfigProblem("store", "store.url", reason)])
    return Path(name).absolute()


def postgres_name(url: str) -> str:
    """Return `host:port/database` of a PostgreSQL URL, for messages: neither user nor password nor options."""
    return _POSTGRES.sub("", url, count=1).rpartition("@")[2].partition("?")[0]
