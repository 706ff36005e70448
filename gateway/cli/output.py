"""What commands print on stdout: a table or a list of fields for people, the admin API's JSON for programs.

Invariant: the JSON is the shape as the service returned it, unchanged. Rich tables were turned down: they wrap and
colour by what they think of the terminal, and what people see in one should be what they can grep in another.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.services.shapes import Key, Shape

Row = tuple[str, ...]


def print_json(shape: "Shape") -> None:
    """The shape as one JSON document."""
    typer.echo(shape.model_dump_json(indent=2))


def print_table(heads: Row, rows: Sequence[Row]) -> None:
    """Columns as wide as their widest cell; the last one is not padded."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """One field a line, named, values below each other."""
    present = [(name, value) for name, value in fields if value]
    width = max(len(name) for name, _ in present)
    for name, value in present:
        typer.echo(f"{name.ljust(width)}  {value}")


def key_fields(key: "Key") -> list[tuple[str, str]]:
    """All that is known of a key, for `print_fields`."""
    inherited = key.permissions is None
    return [
        ("id", key.id),
        ("name", key.name),
        ("description", key.description),
        ("status", status_text(key)),
        ("key", f"{key.prefix or ''}…{key.tail or ''}"),
        ("owner", f"{key.owner.name} ({key.owner.kind.replace('_', ' ')})"),
        (
            "permissions",
            "inherited from the owner" if inherited else ", ".join(key.permissions or ["none"]),
        ),
        ("created", f"{moment(key.created_at)} by {key.created_by.text}"),
        ("expires", moment(key.expires_at) or "never"),
        ("disabled", f"{moment(key.disabled_at)} by {key.disabled_by.text}" if key.disabled_by else ""),
        ("revoked", f"{moment(key.revoked_at)} by {key.revoked_by.text}" if key.revoked_by else ""),
        ("reason", key.revoked_reason or ""),
        ("last used", last_used_text(key)),
    ]


def status_text(key: "Key") -> str:
    """The status, and whether the end is near."""
    return f"{key.status} (expires soon)" if key.expires_soon else str(key.status)


def last_used_text(key: "Key") -> str:
    """When and from where the key was used last; empty if never."""
    return f"{moment(key.last_used.at)} from {key.last_used.address}" if key.last_used else ""


def moment(at: "datetime | None") -> str:
    """RFC 3339, to the second, in UTC."""
    return "" if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")
