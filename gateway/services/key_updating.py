"""Changing what a key is called, may do, and how long it lives.

Invariant: what gives more (permissions, origins, life) needs a caller who could make the resulting key today: its own
owner where that is a member, within the organization's maximum, covered by what they hold, and an admin where only
admins make keys. What takes away, or only renames, needs reach alone. A revoked key is history and is not rewritten.
"""

from datetime import datetime
from typing import Any

from gateway.keys.naming import folded
from gateway.services.access import require_admin
from gateway.services.changed import Changed
from gateway.services.key_changing import Change
from gateway.services.key_request import UpdateKey
from gateway.services.key_rules import opens, refuse_revoked, require_coverage, require_own_key, widens
from gateway.services.shapes import Key


async def update_key(change: Change, request: UpdateKey, *, admins_only: bool) -> Changed[Key]:
    """Apply what the request has and the key has otherwise. `admins_only`: the organization has admins make keys."""
    refuse_revoked(change.row)
    values = {name: value for name, value in _asked(request).items() if getattr(change.row, name) != value}
    if not values:
        return change.nothing()
    if _gives_more(change, values):
        if admins_only:
            require_admin(change.authority, "give a key more permissions, origins or time here")
        require_own_key(change.authority, change.row.owner_kind, change.row.owner_id)
        resulting = values.get("permissions", change.row.permissions)
        require_coverage(change.authority, resulting, change.row.owner_permissions)
    return await change.apply("key.update", values)


def _asked(request: UpdateKey) -> dict[str, Any]:  # Any: each column has its own type
    """Return the columns as the request wants them."""
    asked = {name: getattr(request, name) for name in request.model_fields_set}
    if "expires" in asked:
        asked["expires_at"] = asked.pop("expires").at
    if "name" in asked:
        asked["name_search"] = folded(request.name)
    return asked


def _gives_more(change: Change, values: dict[str, Any]) -> bool:
    row = change.row
    return (
        ("permissions" in values and widens(row.permissions, values["permissions"]))
        or ("allowed_origins" in values and opens(row.allowed_origins, values["allowed_origins"]))
        or ("expires_at" in values and _extends(row.expires_at, values["expires_at"]))
    )


def _extends(before: datetime | None, after: datetime | None) -> bool:
    """Tell whether the second end is later. None: never."""
    return before is not None and (after is None or after > before)
