"""Every code that the admin API refuses or fails with: its status, and one sentence of what it means.

Invariant: an operation's own codes and those that its form brings along are all that it answers with; the document says
so and tests hold it to it. docs/errors.md tells what to do about each. Deriving the codes from the errors that services
raise was turned down: nobody could read off what an operation promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.control.api.operation import Operation

_BY_STATUS: Final[Mapping[int, Mapping[str, str]]] = {
    400: {
        "invalid": "Fields, parameters or header fields break rules; `errors` names each.",
        "conflicting_credentials": "Two different keys were sent.",
        "malformed_request": "The request itself cannot be read.",
        "malformed_json": "The body is no JSON object, or says something twice.",
    },
    401: {
        "missing_api_key": "No key was sent.",
        "invalid_api_key": "The key is not known here.",
        "expired_api_key": "The key has expired, or its secret was rotated out.",
        "revoked_api_key": "The key has been revoked.",
        "disabled_api_key": "The key is disabled.",
    },
    403: {
        "insufficient_permissions": "The key or its owner lacks the permission.",
        "origin_not_allowed": "The key is for pages of other origins.",
        "admin_required": "Only admins may do this.",
        "operator_required": "Only the operator may do this.",
        "permission_escalation": "The outcome would give more than the calling key holds.",
        "secret_belongs_to_owner": "The secret of a member's key is that member's alone.",
    },
    404: {
        "unknown_path": "There is nothing at this path.",
        "key_not_found": "There is no such key within reach.",
        "owner_not_found": "There is no such owner within reach.",
        "member_not_found": "There is no such member within reach.",
        "service_account_not_found": "There is no such service account within reach.",
        "organization_not_found": "There is no such organization within reach.",
    },
    408: {"request_timeout": "The body did not arrive in time."},
    409: {
        "owner_ambiguous": "Several owners have this name.",
        "key_revoked": "The key is revoked, which is final.",
        "key_expired": "The key has expired.",
        "rotation_in_progress": "The secret before this one is still valid.",
        "digest_in_use": "A key with this secret exists.",
        "digest_retired": "A key with this secret existed, and never will again.",
        "member_exists": "The e-mail address is taken.",
        "service_account_exists": "The name is taken.",
        "organization_exists": "The name is taken.",
        "external_id_in_use": "The external id is taken.",
        "last_admin": "The organization would be left without an admin.",
        "own_account": "Nobody removes themselves.",
        "keys_need_a_choice": "There are keys, and nothing says what becomes of them.",
        "operator_organization": "The operator's own organization stays.",
        "bad_configuration": "The settings cannot be used; nothing was changed.",
        "restart_required": "A setting differs that a running gateway cannot change; nothing was changed.",
        "reload_in_progress": "Another reload is under way, or the gateway is stopping.",
        "reload_failed": "A new process did not get ready; what was not replaced goes on.",
        "requests_not_recorded": "The settings say that requests are not recorded.",
        "idempotency_key_reused": "The Idempotency-Key came with another request before.",
    },
    412: {"version_mismatch": "The thing has changed since it was read."},
    413: {"body_too_large": "The body is larger than 1 MiB."},
    415: {"unsupported_media_type": "The body is not application/json in UTF-8."},
    500: {"internal_error": "A defect of the gateway; nothing is known of the outcome."},
    503: {
        "key_store_busy": "The store is held by another writer.",
        "key_store_unavailable": "The store cannot be used.",
    },
}

MEANINGS: Final = {code: meaning for codes in _BY_STATUS.values() for code, meaning in codes.items()}
STATUSES: Final = {code: status for status, codes in _BY_STATUS.items() for code in codes}

_ALWAYS: Final = (
    "invalid",
    "conflicting_credentials",
    "malformed_request",
    "missing_api_key",
    "invalid_api_key",
    "expired_api_key",
    "revoked_api_key",
    "disabled_api_key",
    "origin_not_allowed",
    "internal_error",
    "key_store_busy",
    "key_store_unavailable",
)
_WITH_BODY: Final = ("malformed_json", "request_timeout", "body_too_large", "unsupported_media_type")


def codes_by_status(operation: Operation) -> dict[int, tuple[str, ...]]:
    """Return every code that the operation may answer with, in order of status."""
    codes = {*_ALWAYS, *operation.refusals}
    codes |= {"insufficient_permissions"} if operation.permissions else set()
    codes |= {"unknown_path"} if "{id}" in operation.path else set()
    codes |= set(_WITH_BODY) if operation.takes_body else set()
    codes |= {"version_mismatch"} if operation.conditional else set()
    codes |= {"idempotency_key_reused"} if operation.makes else set()
    found: dict[int, tuple[str, ...]] = {}
    for code, status in STATUSES.items():
        if code in codes:
            found[status] = (*found.get(status, ()), code)
    return found
