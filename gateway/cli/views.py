"""How the things of the admin API look to people: as a line of a table, and as a list of fields.

Invariant: one look per thing, wherever it is shown. What is empty has no line.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.cli.exits import complain
from gateway.cli.last_use import last_used_text
from gateway.cli.output import Row, listed, moment, print_fields, print_json, print_table

if TYPE_CHECKING:
    from gateway.cli.connection import Connection
    from gateway.client.shapes import (
        Event,
        IssuedKey,
        Item,
        Key,
        KeysLeft,
        Member,
        Organization,
        Page,
        Propagation,
        RequestDetail,
        ServiceAccount,
        Shape,
    )

Fields = list[tuple[str, str]]

KEY_HEADS: Row = ("ID", "NAME", "TAIL", "STATUS", "OWNER", "EXPIRES", "LAST USED")
MEMBER_HEADS: Row = ("ID", "E-MAIL", "ROLE", "PERMISSIONS")
SERVICE_ACCOUNT_HEADS: Row = ("ID", "NAME", "PERMISSIONS")
ORGANIZATION_HEADS: Row = ("ID", "NAME", "EXTERNAL ID", "CREATED")
EVENT_HEADS: Row = ("AT", "ACTOR", "ACTION", "TARGET", "RESULT", "ADDRESS")


def show(connection: "Connection", shape: "Shape", fields: Fields) -> None:
    """Print one thing, and on stderr how far a change of it has come."""
    if connection.json:
        print_json(shape.raw)
    else:
        print_fields(fields)
    propagation: Propagation | None = getattr(shape, "propagation", None)
    if propagation is not None:
        _report(propagation)


def show_with_key(connection: "Connection", shape: "Shape", key: "IssuedKey | None", fields: Fields) -> None:
    """Print what was made for somebody else, and the key that came with it, which has to reach them."""
    issued = [] if key is None else [("secret", key.secret or ""), ("key", key.id), ("key of", key.owner.name)]
    show(connection, shape, [*issued, *fields])
    if key is not None and key.secret is not None:
        complain("hand the secret on now: only its hash is stored, and it is never shown again")
    elif key is not None:
        complain("this was asked for before; the secret was in the first answer, and is never shown again")


def show_page(connection: "Connection", page: "Page[Item]", heads: Row, rows: Sequence[Row]) -> None:
    """Print one page of a list."""
    if connection.json:
        print_json(page.raw)
        return
    print_table(heads, rows)
    if page.next_cursor:
        complain(f"there are more: --cursor {page.next_cursor}")


def _report(propagation: "Propagation") -> None:
    """Whoever ends a key wants to know whether it is over; where it is, there is nothing to say."""
    for worker in propagation.silent:
        until = moment(worker.until)
        complain(f"warning: worker {worker.name} has not answered yet; it follows at the latest at {until}")


def key_row(connection: "Connection", key: "Key") -> Row:
    """One line of a list of keys."""
    expires = moment(key.expires_at) or "never"
    used = last_used_text(connection, key.last_used)
    return (key.id, key.name, key.tail or "", status_text(key), key.owner.name, expires, used)


def key_fields(connection: "Connection", key: "Key") -> Fields:
    """All that is known of a key."""
    previous = key.previous_secret
    return [
        ("id", key.id),
        ("name", key.name),
        ("description", key.description),
        ("status", status_text(key)),
        ("key", f"{key.prefix or ''}…{key.tail or ''}{' (imported)' if key.imported else ''}"),
        ("old secret", f"…{previous.tail or ''}, good until {moment(previous.valid_until)}" if previous else ""),
        ("old used", last_used_text(connection, previous.last_used) if previous else ""),
        ("owner", f"{key.owner.name} ({key.owner.kind.replace('_', ' ')})"),
        ("permissions", "inherited from the owner" if key.permissions is None else listed(key.permissions)),
        ("origins", "" if key.allowed_origins is None else listed(key.allowed_origins)),
        ("created", f"{moment(key.created_at)} by {key.created_by.text}"),
        ("expires", moment(key.expires_at) or "never"),
        ("disabled", f"{moment(key.disabled_at)} by {key.disabled_by.text}" if key.disabled_by else ""),
        ("revoked", f"{moment(key.revoked_at)} by {key.revoked_by.text}" if key.revoked_by else ""),
        ("reason", key.revoked_reason or ""),
        ("last used", last_used_text(connection, key.last_used)),
        ("version", str(key.version)),
    ]


def status_text(key: "Key") -> str:
    """The status, and whether the end is near."""
    return f"{key.status} (expires soon)" if key.expires_soon else key.status


def member_row(member: "Member") -> Row:
    """One line of a list of members."""
    return (member.id, member.email, member.role, listed(member.permissions))


def member_fields(member: "Member") -> Fields:
    """All that is known of a member."""
    return [
        ("id", member.id),
        ("e-mail", member.email),
        ("role", member.role),
        ("permissions", listed(member.permissions)),
        ("external id", member.external_id or ""),
        ("created", moment(member.created_at)),
        ("version", str(member.version)),
    ]


def service_account_row(account: "ServiceAccount") -> Row:
    """One line of a list of service accounts."""
    return (account.id, account.name, listed(account.permissions))


def service_account_fields(account: "ServiceAccount") -> Fields:
    """All that is known of a service account."""
    return [
        ("id", account.id),
        ("name", account.name),
        ("description", account.description),
        ("permissions", listed(account.permissions)),
        ("external id", account.external_id or ""),
        ("created", moment(account.created_at)),
        ("version", str(account.version)),
    ]


def keys_left(keys: "KeysLeft") -> Fields:
    """What became of the keys of somebody who was removed."""
    moved = f"{keys.moved} moved to {keys.moved_to.name}" if keys.moved_to else ""
    return [("keys", ", ".join(filter(None, (f"{keys.revoked} revoked" if keys.revoked else "", moved))) or "none")]


def organization_row(organization: "Organization") -> Row:
    """One line of a list of organizations."""
    return (organization.id, organization.name, organization.external_id or "", moment(organization.created_at))


def organization_fields(organization: "Organization") -> Fields:
    """All that is known of an organization."""
    return [
        ("id", organization.id),
        ("name", organization.name),
        ("external id", organization.external_id or ""),
        ("keys live", f"{organization.default_expiry} by default, at most {organization.max_expiry or 'for ever'}"),
        ("keys created", f"by {'admins alone' if organization.keys_create_requires_admin else 'everybody'}"),
        ("keys revoked", f"by {'admins alone' if organization.keys_revoke_requires_admin else 'everybody'}"),
        ("created", moment(organization.created_at)),
        ("version", str(organization.version)),
    ]


def event_row(event: "Event") -> Row:
    """One line of what is on record. Of a request the target is what was asked for: the key is who asked."""
    request = event.request
    if request is None:
        target, result = f"{event.target.name} ({event.target.id})", ""
    else:
        target, result = f"{request.method or '?'} {request.path or '?'}", _result(request)
    return (moment(event.at), event.actor.text, event.action, target, result, event.address or "")


def _result(request: "RequestDetail") -> str:
    """The status, and what else there is to say of the end; a whole answer speaks for itself."""
    status = "" if request.status is None else str(request.status)
    words = "" if request.outcome == "answered" else (request.code or request.outcome)
    return " ".join(filter(None, (status, words)))
