"""Many rows for one statement: handed over as one text of JSON, and unfolded by the database.

Invariant: both kinds of store give the same columns for the same text. Bound parameters were turned down for what comes
by the thousand: they are prepared one by one on the event loop, while a text can be made in a thread.
"""

from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

Kind = Literal["text", "bigint"]


def json_rows(connection: AsyncConnection, columns: dict[str, Kind]) -> str:
    """Return a SELECT of the rows in the parameter `rows`, an array of arrays, with these columns in their order."""
    if connection.dialect.name == "sqlite":
        parts = [f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(columns)]
        return f"SELECT {', '.join(parts)} FROM json_each(:rows)"  # noqa: S608 - names of our own columns
    parts = [f"CAST(value ->> {place} AS {kind}) AS {name}" for place, (name, kind) in enumerate(columns.items())]
    return f"SELECT {', '.join(parts)} FROM jsonb_array_elements(CAST(:rows AS jsonb))"  # noqa: S608 - the same
