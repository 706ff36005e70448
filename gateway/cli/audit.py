"""`gateway audit`: who changed what, who asked for what, how often, and whether any of it is missing.

Invariant: the commands that show entries take the same filters, in the same words; they are told here once.
"""

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypedDict

import typer

from gateway.cli.connection import Connection, connected
from gateway.cli.exits import ExitStatus, complain
from gateway.cli.options import Cursor, Limit
from gateway.cli.output import moment, print_json, print_table
from gateway.cli.references import key_id, no_secret
from gateway.cli.views import EVENT_HEADS, event_row, show, show_page

if TYPE_CHECKING:
    from gateway.client.shapes import AuditVerification, SegmentDifference

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Kind = Annotated[
    Literal["change", "request"] | None, typer.Option("--kind", help="Only changes, or only requests. Default: both.")
]
Actor = Annotated[
    str | None,
    typer.Option(
        "--actor",
        callback=no_secret,
        help="Only by this key (its id), by all keys of this owner (e-mail, name or id), or by 'system'.",
    ),
]
Action = Annotated[
    str | None, typer.Option("--action", callback=no_secret, help="Only this, such as key.revoke; or request.")
]
Key = Annotated[str | None, typer.Option("--key", callback=key_id, help="Only of this key: its id.")]
Target = Annotated[str | None, typer.Option("--target", callback=no_secret, help="Only of this thing: its id.")]
Status = Annotated[
    str | None,
    typer.Option(
        "--status",
        callback=no_secret,
        help="Only requests answered so: 404, 4xx; or answered, refused, aborted, open, interrupted.",
    ),
]
Code = Annotated[
    str | None,
    typer.Option("--code", callback=no_secret, help="Only requests refused for this, such as expired_api_key."),
]
RequestId = Annotated[
    str | None,
    typer.Option("--request-id", callback=no_secret, help="Only what was answered with this X-Request-ID."),
]


def _moment(text: str | None) -> str | None:
    """Accept a bare date for its beginning, as a Typer callback; whether there is such a day, the gateway says."""
    return f"{text}T00:00:00Z" if text is not None and _DATE.fullmatch(text) else text


Since = Annotated[
    str | None,
    typer.Option(
        "--from", callback=_moment, help="From this RFC 3339 date-time on, or from the start of this date (UTC)."
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--to", callback=_moment, help="Until this RFC 3339 date-time, or until the start of this date (UTC)."
    ),
]

_COUNT_HEADS = ("HOUR", "OUTCOME", "REQUESTS")
_DIFFERENCE_HEADS = ("SPOOL", "SEGMENT", "FROM", "TO", "EXPECTED", "FOUND", "MISSING", "SURPLUS", "DAMAGED BYTES")

app = typer.Typer(help="What is on record: changes and requests.", no_args_is_help=True)


class Filters(TypedDict):
    """What to show, as the client takes it."""

    kind: Literal["change", "request"] | None
    actor: str | None
    action: str | None
    key: str | None
    target: str | None
    status: str | None
    code: str | None
    request_id: str | None


@app.command("list")
@connected
def list_events(
    connection: Connection,
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
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List changes and requests, newest first. --json has all there is of each."""
    filters = Filters(
        kind=kind, actor=actor, action=action, key=key, target=target, status=status, code=code, request_id=request_id
    )
    page = connection.client.events.page(**filters, since=since, until=until, cursor=cursor, limit=limit)
    show_page(connection, page, EVENT_HEADS, [event_row(each) for each in page.items])


@app.command()
@connected
def counts(connection: Connection, key: Key = None, since: Since = None, until: Until = None) -> None:
    """Count requests by hour and outcome; by default those of the last day."""
    counted = connection.client.events.counts(key=key, since=since, until=until)
    if connection.json:
        print_json(counted.raw)
    else:
        print_table(_COUNT_HEADS, [(moment(each.hour), each.outcome, str(each.requests)) for each in counted.items])


@app.command()
@connected
def verify(connection: Connection) -> None:
    """Tell whether all that workers wrote is on record; exits with 1 where it is not. For the operator."""
    found = connection.client.events.verify()
    show(
        connection,
        found,
        [
            ("complete", "yes" if found.complete else "no"),
            ("segments", str(found.segments)),
            ("expected", str(found.expected)),
            ("found", str(found.found)),
            ("missing", str(found.missing)),
            ("surplus", str(found.surplus)),
            ("damaged", f"{found.damaged_bytes} bytes"),
        ],
    )
    if found.complete:
        return
    _explain(connection, found)
    raise typer.Exit(ExitStatus.FAILED)


def _explain(connection: Connection, found: "AuditVerification") -> None:
    if not connection.json and found.differences:
        print_table(_DIFFERENCE_HEADS, [_difference_row(each) for each in found.differences])
    complain("entries are missing, or are not what workers wrote; docs/audit.md says what may have happened")


def _difference_row(difference: "SegmentDifference") -> tuple[str, ...]:
    within = (moment(difference.first_at), moment(difference.last_at))
    counted = (difference.expected, difference.found, difference.missing, difference.surplus, difference.damaged_bytes)
    return (difference.spool, str(difference.segment), *within, *map(str, counted))
