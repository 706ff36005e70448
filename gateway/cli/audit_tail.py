"""`gateway audit tail`: the newest entries, the newest last, and each further one as it comes.

Invariant: following, each entry is shown once, and again only when it ends after it was shown as open. Requests come on
record a little out of order, as several workers write them, so each look goes back some seconds behind the newest entry
that there was at the look before. What comes later than that, after an outage or at the end of a long stream, is in the
list, and not here.
"""

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from gateway.cli.audit import Action, Actor, Code, Filters, Key, Kind, RequestId, Status, Target
from gateway.cli.connection import Connection, connected
from gateway.cli.exits import complain
from gateway.cli.output import shown
from gateway.cli.views import event_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from gateway.client import Client
    from gateway.client.shapes import Event, Page

POLL_SECONDS: Final = 1.0
OVERLAP: Final = timedelta(seconds=5)
_LARGEST_PAGE: Final = 1000
_EVERYTHING: Final = Filters(
    kind=None, actor=None, action=None, key=None, target=None, status=None, code=None, request_id=None
)

app = typer.Typer()  # its command joins those of `audit`


@app.command()
@connected
def tail(
    connection: Connection,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each entry as it comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=_LARGEST_PAGE, help="How many to begin with.")] = 20,
    kind: Kind = None,
    actor: Actor = None,
    action: Action = None,
    key: Key = None,
    target: Target = None,
    status: Status = None,
    code: Code = None,
    request_id: RequestId = None,
) -> None:
    """Show the newest changes and requests, the newest last. --json prints a line of JSON for each."""
    filters = Filters(
        kind=kind, actor=actor, action=action, key=key, target=target, status=status, code=code, request_id=request_id
    )
    looking = Tail(connection.client, filters)
    _print(connection, looking.first(lines))
    away = False
    while follow:
        time.sleep(POLL_SECONDS)
        away = _look_again(connection, looking, away=away)


class Entry(NamedTuple):
    """An entry as people get it, and as programs do."""

    event: "Event"
    raw: object

    @property
    def state(self) -> tuple[str, str]:
        """What it is told from others by, and from itself before it ended."""
        return (self.event.id, self.event.request.outcome if self.event.request else "")


class Tail:
    """Looks for what is new, again and again."""

    def __init__(self, client: "Client", filters: Filters) -> None:
        """`filters`: what to look for."""
        self._client = client
        self._filters = filters
        self._newest: datetime | None = None
        self._seen: set[tuple[str, str]] = set()

    def first(self, lines: int) -> list[Entry]:
        """Return the newest entries, the oldest first. What is there already and is not among them never comes."""
        self._newest = self._newest_of_all()
        page = self._client.events.page(**self._filters, limit=lines)
        found = list(_entries(page))
        self._seen = {each.state for each in (*found, *self._recent())}
        return found[::-1]

    def more(self) -> list[Entry]:
        """Return what has come since the look before, the oldest first."""
        newest = self._newest_of_all()
        recent = list(self._recent())
        fresh = [each for each in recent if each.state not in self._seen]
        self._newest, self._seen = newest, {each.state for each in recent}
        return fresh[::-1]

    def _newest_of_all(self) -> "datetime | None":
        """Of all entries, and not of those that fit: else a filter that seldom fits would look ever further back."""
        page = self._client.events.page(**_EVERYTHING, limit=1)
        return page.items[0].at if page.items else None

    def _recent(self) -> "Iterator[Entry]":
        since, cursor = None if self._newest is None else self._newest - OVERLAP, None
        while True:
            page = self._client.events.page(**self._filters, since=since, cursor=cursor, limit=_LARGEST_PAGE)
            yield from _entries(page)
            cursor = page.next_cursor
            if cursor is None:
                return


def _entries(page: "Page[Event]") -> "Iterator[Entry]":
    raw = page.raw["items"]
    assert isinstance(raw, list)  # noqa: S101 - it was read as a page, so it is one
    return (Entry(*each) for each in zip(page.items, raw, strict=True))


def _look_again(connection: Connection, looking: Tail, *, away: bool) -> bool:
    """Print what is new; returns whether the gateway is away, which is said once: it may be starting again."""
    from gateway.client import ConnectionFailed, ServiceUnavailableError

    try:
        _print(connection, looking.more())
    except (ConnectionFailed, ServiceUnavailableError) as error:
        if not away:
            complain(f"{error.detail} Trying on.")
        return True
    return False


def _print(connection: Connection, entries: "Iterable[Entry]") -> None:
    for each in entries:
        if connection.json:
            typer.echo(json.dumps(each.raw))  # ASCII alone, which every terminal and every program takes
        else:
            typer.echo("  ".join(shown(cell) for cell in event_row(each.event) if cell))
