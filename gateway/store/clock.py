"""The store's own clock in statements, so that moments of several machines are compared by one clock.

Invariant: microseconds since 1970, as moments are stored. Turned down: the clock of whoever writes, which may be wrong.
"""

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class StoreNow(FunctionElement[int]):
    """The moment of the statement."""

    name = "now_microseconds"
    type = BigInteger()
    inherit_cache = True


@compiles(StoreNow, "sqlite")
def _now_of_sqlite(_element: StoreNow, _compiler: SQLCompiler, **_options: object) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"


@compiles(StoreNow, "postgresql")
def _now_of_postgres(_element: StoreNow, _compiler: SQLCompiler, **_options: object) -> str:
    return "CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)"
