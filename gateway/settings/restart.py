"""Which settings differ between two loads, and which of those a reload cannot change.

Invariant: only names leave this file, never values: what differs may be a password. What needs a restart is what the
supervisor itself holds, the sockets and the number of places in front of them, and where keys and records are: a store
that changes under a running gateway would be two truths at a time. Everything else is taken up by new processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.settings.model import Settings

RESTART_NEEDED: Final = (
    "server.listen",
    "server.workers",
    "server.backlog",
    "control.listen",
    "store.url",
    "audit.directory",
)


def changed(before: Settings, after: Settings) -> list[str]:
    """The settings whose values differ, by path ("cache.max_entries"); lists of tables as wholes ("routes")."""
    return list(_changed("", before.model_dump(), after.model_dump()))


def needing_restart(names: Iterable[str]) -> list[str]:
    """Those of them that a running gateway cannot change."""
    wanted = set(names)
    return [name for name in RESTART_NEEDED if name in wanted]


def _changed(path: str, before: object, after: object) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before:
            yield from _changed(f"{path}.{name}" if path else str(name), before[name], after[name])
    else:
        yield path
