"""Who the calling key is, and which permissions there are to give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from gateway.control.api.operation import Operation
from gateway.keys.authority import GATEWAY_PERMISSIONS, READ
from gateway.services.access import require
from gateway.services.people_shapes import Me
from gateway.services.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.control.api.operation import Call, Services

SUBJECT: Final = "You"

Source = Literal["gateway", "route", "granted"]


class KnownPermission(Shape):
    """A permission that means something here."""

    permission: str
    source: Source
    """gateway: of this API; route: a route of the proxy asks for it; granted: held by the calling key's owner."""


class KnownPermissions(Shape):
    """Every permission once, by its first source."""

    items: tuple[KnownPermission, ...]


async def _me(services: Services, call: Call) -> Me:
    return await services.authenticator.me(call.caller, uses_recorded=services.audit.recording)


async def _permissions(services: Services, call: Call) -> KnownPermissions:
    authority = call.caller.authority
    if not any(authority.allows(each) for each in GATEWAY_PERMISSIONS):
        require(authority, READ)
    sources: tuple[tuple[Source, Iterable[str]], ...] = (
        ("gateway", GATEWAY_PERMISSIONS),
        ("route", sorted(services.route_permissions)),
        ("granted", sorted(authority.owner_permissions)),
    )
    found: dict[str, Source] = {}
    for source, permissions in sources:
        found |= {each: source for each in permissions if each not in found}
    return KnownPermissions(items=tuple(KnownPermission(permission=each, source=found[each]) for each in found))


OPERATIONS: Final = (
    Operation(
        name="me",
        method="GET",
        path="/me",
        subject=SUBJECT,
        summary="Tell who the calling key is, and what it may do",
        permissions=(),
        answers=Me,
        act=_me,
    ),
    Operation(
        name="list_permissions",
        method="GET",
        path="/permissions",
        subject=SUBJECT,
        summary="List the permissions that mean something here",
        description="Those of this API, those that routes ask for, and those that the calling key's owner holds.",
        permissions=GATEWAY_PERMISSIONS,
        answers=KnownPermissions,
        act=_permissions,
    ),
)
