"""Running the missing revisions, on a connection and in a transaction of the caller's.

Invariant: afterwards the store has the newest schema and an identity, if the caller commits, and is as it was if not.
"""

import os
import time
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_IDENTIFY: Final = text(
    "INSERT INTO store_identity (id, epoch, created_at) VALUES (1, :epoch, :now) ON CONFLICT DO NOTHING"
)


def run_all(connection: Connection) -> None:
    """Let Alembic run all missing revisions, and name the store."""
    run(connection, "head")
    connection.execute(_IDENTIFY, {"epoch": os.urandom(16).hex(), "now": time.time_ns() // 1000})


def run(connection: Connection, revision: str) -> None:
    """Let Alembic run the missing revisions up to this one."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
