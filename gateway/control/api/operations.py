"""All operations of the admin API, in the order in which people read of them. This is the list.

Invariant: routes, document and page are made from it; whatever is not in it does not exist. Methods and paths are
distinct, and a fixed path stands before the `{id}` that would take it, as aiohttp looks in this order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import (
    caller_operations,
    gateway_operations,
    key_operations,
    member_operations,
    organization_operations,
    service_account_operations,
    trail_operations,
)

if TYPE_CHECKING:
    from gateway.control.api.operation import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *caller_operations.OPERATIONS,
    *key_operations.OPERATIONS,
    *member_operations.OPERATIONS,
    *service_account_operations.OPERATIONS,
    *organization_operations.OPERATIONS,
    *trail_operations.OPERATIONS,
    *gateway_operations.OPERATIONS,
)

SUBJECTS: Final = {
    caller_operations.SUBJECT: "Who the calling key is, and what permissions there are.",
    key_operations.SUBJECT: "The whole life of a key: made, found, changed, rotated, ended.",
    member_operations.SUBJECT: "People of the organization, and what they may do.",
    service_account_operations.SUBJECT: "Owners of keys that are no people: pipelines, services.",
    organization_operations.SUBJECT: "Rules for keys, and whose keys they are.",
    trail_operations.SUBJECT: "Who changed what, and who asked for what.",
    gateway_operations.SUBJECT: "The gateway itself, for those who operate it.",
}
