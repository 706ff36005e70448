"""`gateway orgs`: one's own organization; for the operator of the gateway, all of them."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.confirmation import confirm
from gateway.cli.connection import Connection, connected
from gateway.cli.options import Cursor, IdempotencyKey, IfMatch, Limit, Yes
from gateway.cli.references import no_secret
from gateway.cli.views import ORGANIZATION_HEADS, organization_fields, organization_row, show, show_page, show_with_key
from gateway.keys.identifiers import is_id

if TYPE_CHECKING:
    from gateway.client import Client


def _organization_id(text: str | None) -> str | None:
    """Accept an id, as a Typer callback."""
    if text is not None and not is_id("org", text):
        raise typer.BadParameter("must be org_ and 26 characters, as gateway orgs list shows it")
    return text


Own = Annotated[
    str | None, typer.Argument(metavar="[ID]", callback=_organization_id, help="Its id (org_…). Default: your own.")
]
OrganizationId = Annotated[str, typer.Argument(metavar="ID", callback=_organization_id, help="Its id (org_…).")]
ExternalId = Annotated[str | None, typer.Option("--external-id", help="What another system calls it.")]
DefaultExpiry = Annotated[
    str | None, typer.Option("--default-expiry", help="How long keys live that ask for nothing: 1h, …, 4y or never.")
]
MaxExpiry = Annotated[str | None, typer.Option("--max-expiry", help="How long keys may live at most; never: for ever.")]

app = typer.Typer(help="The organization, its rules for keys; for the operator, all of them.", no_args_is_help=True)


@app.command("list")
@connected
def list_organizations(
    connection: Connection,
    search: Annotated[str | None, typer.Option(help="The beginning of a name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> None:
    """List the organizations that you may know of."""
    page = connection.client.organizations.page(search=search, cursor=cursor, limit=limit)
    show_page(connection, page, ORGANIZATION_HEADS, [organization_row(each) for each in page.items])


@app.command()
@connected
def create(
    connection: Connection,
    name: Annotated[str, typer.Argument(metavar="NAME", callback=no_secret, help="What people call it.")],
    admin: Annotated[str, typer.Option("--admin", metavar="EMAIL", help="E-mail address of its first admin.")],
    external_id: ExternalId = None,
    default_expiry: DefaultExpiry = None,
    max_expiry: MaxExpiry = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Make an organization, its first admin and their key. The secret is printed once."""
    made = connection.client.organizations.create(
        name,
        admin=admin,
        external_id=external_id,
        default_expiry=default_expiry,
        max_expiry=max_expiry,
        idempotency_key=idempotency_key,
    )
    show_with_key(connection, made, made.key, organization_fields(made))


@app.command("show")
@connected
def show_organization(connection: Connection, organization: Own = None) -> None:
    """Show an organization and its rules for keys."""
    found = connection.client.organizations.get(_own(connection.client, organization))
    show(connection, found, organization_fields(found))


@app.command()
@connected
def update(
    connection: Connection,
    organization: Own = None,
    name: Annotated[str | None, typer.Option(callback=no_secret, help="What people call it.")] = None,
    external_id: ExternalId = None,
    default_expiry: DefaultExpiry = None,
    max_expiry: MaxExpiry = None,
    create_requires_admin: Annotated[
        bool | None, typer.Option("--admins-create/--everybody-creates", help="Who may create keys.")
    ] = None,
    revoke_requires_admin: Annotated[
        bool | None, typer.Option("--admins-revoke/--everybody-revokes", help="Who may revoke keys.")
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Change what is given."""
    from gateway.client import UNCHANGED

    never = "never"
    changed = connection.client.organizations.update(
        _own(connection.client, organization),
        name=UNCHANGED if name is None else name,
        external_id=UNCHANGED if external_id is None else external_id or None,
        default_expiry=UNCHANGED if default_expiry is None else default_expiry,
        max_expiry=UNCHANGED if max_expiry is None else None if max_expiry == never else max_expiry,
        keys_create_requires_admin=UNCHANGED if create_requires_admin is None else create_requires_admin,
        keys_revoke_requires_admin=UNCHANGED if revoke_requires_admin is None else revoke_requires_admin,
        if_match=if_match,
    )
    show(connection, changed, organization_fields(changed))


@app.command()
@connected
def delete(connection: Connection, organization: OrganizationId, yes: Yes = False) -> None:
    """Remove an organization; all of its keys are revoked."""
    found = connection.client.organizations.get(organization)
    if not yes:
        confirm("Delete", f"the organization {found.name!r} and all of its keys")
    deleted = connection.client.organizations.delete(found.id)
    show(connection, deleted, organization_fields(deleted))


def _own(client: "Client", organization: str | None) -> str:
    return client.me().organization.id if organization is None else organization
