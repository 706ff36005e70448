"""`gateway whoami` and `gateway permissions`: who the key is, and what there is to be allowed."""

from gateway.cli.connection import Connection, connected
from gateway.cli.output import listed, moment, print_json, print_table
from gateway.cli.views import show


@connected
def whoami(connection: Connection) -> None:
    """Say whose the key is, and what it may do now."""
    me = connection.client.me()
    role = f"{me.owner.role} " if me.owner.role else ""
    show(
        connection,
        me,
        [
            ("organization", f"{me.organization.name} ({me.organization.id})"),
            ("owner", f"{me.owner.name} ({role}{me.owner.kind.replace('_', ' ')}, {me.owner.id})"),
            ("key", f"{me.key.name} ({me.key.id})"),
            ("permissions", listed(me.permissions)),
            ("expires", moment(me.key.expires_at) or "never"),
        ],
    )


@connected
def permissions(connection: Connection) -> None:
    """List the permissions that are known here, and where each comes from."""
    known = connection.client.permissions()
    if connection.json:
        print_json(known.raw)
    else:
        print_table(("PERMISSION", "SOURCE"), [(each.permission, each.source) for each in known.items])
