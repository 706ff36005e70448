"""`gateway audit export`: all that is on record, as lines of JSON or as a table for a spreadsheet.

Invariant: whatever the number of entries, one page of them is in memory. A file is whole or is not there: it is written
beside its place and moved there at the end. No cell of the table is a formula to a spreadsheet, whatever a client
called itself; see OWASP, CSV Injection.
"""

import contextlib
import csv
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TextIO

import typer

from gateway.cli.audit import Action, Actor, Code, Filters, Key, Kind, RequestId, Since, Status, Target, Until
from gateway.cli.connection import Connection, connected
from gateway.cli.exits import ExitStatus, complain
from gateway.settings.quoting import printable

if TYPE_CHECKING:
    from gateway.client import Client

_LARGEST_PAGE: Final = 1000
_FORMULA_BEGINS: Final = tuple("=+-@＝＋－＠")  # noqa: RUF001 - the full-width ones begin a formula, too
_REQUEST_COLUMNS: Final = (
    *("method", "path", "route", "upstream", "status", "outcome", "code"),
    *("bytes_in", "bytes_out", "duration_milliseconds", "user_agent", "secret_id"),
)
COLUMNS: Final = (
    *("at", "kind", "id", "actor_id", "actor", "action", "target_kind", "target_id", "target", "address"),
    *("request_id", *_REQUEST_COLUMNS, "before", "after"),
)

app = typer.Typer()  # its command joins those of `audit`


@app.command()
@connected
def export(
    connection: Connection,
    form: Annotated[
        Literal["ndjson", "csv"],
        typer.Option("--format", help="ndjson: a line of JSON for each entry; csv: a table with a row of heads."),
    ] = "ndjson",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: standard output.")
    ] = None,
    kind: Kind = None,
    actor: Actor = None,
    action: Action = None,
    key: Key = None,
    target: Target = None,
    status: Status = None,
    code: Code = None,
    request_id: RequestId = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write everything that fits, newest first."""
    if connection.json and form == "csv":
        complain("--json and --format csv contradict each other")
        raise typer.Exit(ExitStatus.USAGE)
    filters = Filters(
        kind=kind, actor=actor, action=action, key=key, target=target, status=status, code=code, request_id=request_id
    )
    entries = _entries(connection.client, filters, since, until)
    write = _write_csv if form == "csv" else _write_lines
    if output is None:
        write(entries, sys.stdout)
        return
    try:
        with _replaced(output) as file:
            count = write(entries, file)
    except OSError as error:
        complain(f"{output}: {error.strerror}")
        raise typer.Exit(ExitStatus.FAILED) from None
    complain(f"{output}: {count} entries")


def _entries(
    client: "Client", filters: Filters, since: str | None, until: str | None
) -> Iterator[Mapping[str, object]]:
    """Every entry as the API told it, page by page."""
    cursor: str | None = None
    while True:
        page = client.events.page(**filters, since=since, until=until, cursor=cursor, limit=_LARGEST_PAGE)
        items = page.raw["items"]
        assert isinstance(items, list)  # noqa: S101 - it was read as a page, so it is one
        yield from items
        cursor = page.next_cursor
        if cursor is None:
            return


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[TextIO]:
    """A file that takes its place when it is whole, its owner's alone. What is no file, as /dev/null, is written to."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    place = path.resolve()  # a link stays one
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    made = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - it is open already
            yield file
        made.replace(place)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _write_lines(entries: Iterable[Mapping[str, object]], file: TextIO) -> int:
    count = 0
    for count, entry in enumerate(entries, start=1):  # noqa: B007 - it is what is returned
        file.write(json.dumps(entry, separators=(",", ":")) + "\n")  # ASCII alone: the same in every encoding
    return count


def _write_csv(entries: Iterable[Mapping[str, object]], file: TextIO) -> int:
    count, table = 0, csv.writer(file)
    table.writerow(COLUMNS)
    for count, entry in enumerate(entries, start=1):  # noqa: B007 - as above
        table.writerow([_cell(value) for value in _row(entry)])
    return count


def _row(entry: Mapping[str, object]) -> list[object]:
    """The entry's values in the order of COLUMNS."""
    actor, target, request = (_part(entry, name) for name in ("actor", "target", "request"))
    flat = {
        **entry,
        **{name: request.get(name) for name in _REQUEST_COLUMNS},
        "actor_id": actor.get("id"),
        "actor": actor.get("text"),
        "target_kind": target.get("kind"),
        "target_id": target.get("id"),
        "target": target.get("name"),
    }
    return [flat.get(name) for name in COLUMNS]


def _part(entry: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = entry.get(name)
    return part if isinstance(part, Mapping) else {}


def _cell(value: object) -> str:
    """One line of what can be read, which no spreadsheet takes for a formula."""
    match value:
        case None:
            return ""
        case str():
            text = printable(value)
            return f"'{text}" if text.lstrip().startswith(_FORMULA_BEGINS) else text
        case int() | float():
            return str(value)
    return json.dumps(value, separators=(",", ":"))
