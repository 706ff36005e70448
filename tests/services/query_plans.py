"""How SQLite would read what a call asks for: the plans of exactly the statements that were sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from gateway.store.engine import read_transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy.ext.asyncio import AsyncEngine


async def plans_of(engine: AsyncEngine, call: Awaitable[object]) -> list[str]:
    """One plan for each SELECT, on one line."""
    asked: list[tuple[str, Any]] = []  # Any: whatever the driver takes

    def note(*call: Any) -> None:  # noqa: ANN401 - the event's own arguments
        if call[2].startswith("SELECT"):
            asked.append((call[2], call[3]))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await call
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    async with read_transaction(engine) as connection:
        found: list[str] = []
        for statement, parameters in asked:
            result = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.append(" ".join(str(row.detail) for row in result))
    return found
