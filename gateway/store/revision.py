"""The revisions of the schema that this code knows, and what it says of others.

Apart from `revisions`, which runs them: looking takes neither Alembic nor SQLAlchemy.
"""

from typing import Final

from gateway.errors import GatewayError

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005")
"""Oldest first; a test compares it with the files in migrations/versions."""


def accepted(revision: str, store: str) -> str:
    """Return the revision of a store, or refuse one that this code does not know."""
    if revision not in REVISIONS:
        detail = f"The key store {store} was written by a newer gateway (schema {revision}). Run that version or later."
        raise GatewayError(detail, code="store_newer")
    return revision
