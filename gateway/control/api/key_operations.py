"""The operations on keys: from the parts of a call to `KeyService`, and what the document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import PAGE
from gateway.keys.authority import KEYS, READ
from gateway.keys.naming import MAX_EMAIL_CHARACTERS, MAX_NAME_CHARACTERS
from gateway.services import key_request as requests
from gateway.services.key_filters import MAX_UNUSED_DAYS, KeyFilter, Sort, StatusFilter
from gateway.services.shapes import ImportedKey, IssuedKey, Key, KeyPage, Verification

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services
    from gateway.services.changed import Changed

SUBJECT: Final = "Keys"
_OWN: Final = "Members and service accounts reach their own keys; admins those of the whole organization."
_RESULT: Final = "The result must not give more than the calling key holds itself."


async def _create(services: Services, call: Call) -> Changed[IssuedKey]:
    return await services.keys.create(call.caller, call.body, call.idempotency_key)


async def _import(services: Services, call: Call) -> Changed[ImportedKey]:
    return await services.keys.import_key(call.caller, call.body, call.idempotency_key)


async def _list(services: Services, call: Call) -> KeyPage:
    wanted = KeyFilter(
        status=call.query.get("status"),
        owner=call.query.get("owner"),
        search=call.query.get("search"),
        unused_days=call.query.get("unused_days"),
        sort=call.query.get("sort"),
    )
    return await services.keys.list(call.caller, wanted, **call.page)


async def _show(services: Services, call: Call) -> Key:
    return await services.keys.show(call.caller, call.id)


async def _update(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.update(call.caller, call.id, call.body, call.if_match)


async def _disable(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.disable(call.caller, call.id)


async def _enable(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.enable(call.caller, call.id)


async def _revoke(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.revoke(call.caller, call.id, call.body)


async def _rotate(services: Services, call: Call) -> Changed[IssuedKey]:
    return await services.keys.rotate(call.caller, call.id, call.body)


async def _finish_rotation(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.finish_rotation(call.caller, call.id)


async def _delete(services: Services, call: Call) -> Changed[Key]:
    return await services.keys.delete(call.caller, call.id)


async def _verify(services: Services, call: Call) -> Verification:
    return await services.keys.verify(call.caller, call.body)


_OF_MAKING: Final = (
    "admin_required",
    "permission_escalation",
    "secret_belongs_to_owner",
    "key_not_found",
    "owner_not_found",
    "owner_ambiguous",
)

OPERATIONS: Final = (
    Operation(
        name="create_key",
        method="POST",
        path="/keys",
        subject=SUBJECT,
        summary="Create a key",
        description=f"The answer has the secret, once. {_RESULT} A member's key is made by that member alone.",
        permissions=(KEYS,),
        answers=IssuedKey,
        changes=True,
        body=requests.CreateKey,
        body_required=True,
        makes="/keys",
        versioned=True,
        refusals=_OF_MAKING,
        act=_create,
    ),
    Operation(
        name="list_keys",
        method="GET",
        path="/keys",
        subject=SUBJECT,
        summary="List and search keys",
        description=_OWN,
        permissions=(READ, KEYS),
        answers=KeyPage,
        query=(
            query.choice("status", get_args(StatusFilter), "What the key is at this moment."),
            query.text(
                "owner",
                "Whose: an id, a member's e-mail address or a service account's name. Removed ones are found as well.",
                max_characters=MAX_EMAIL_CHARACTERS,
            ),
            query.text(
                "search",
                "The beginning of the name, in any case, or the last characters of the secret.",
                max_characters=MAX_NAME_CHARACTERS,
            ),
            query.whole_number("unused_days", 1, MAX_UNUSED_DAYS, "Not used for so many days, or never since made."),
            query.choice(
                "sort",
                get_args(Sort),
                "The order: newest first, by name, next to expire, last used. Left out: as the filter suggests.",
            ),
            *PAGE,
        ),
        refusals=("owner_not_found", "owner_ambiguous"),
        act=_list,
    ),
    Operation(
        name="show_key",
        method="GET",
        path="/keys/{id}",
        subject=SUBJECT,
        summary="Show a key",
        description=_OWN,
        permissions=(READ, KEYS),
        answers=Key,
        versioned=True,
        refusals=("key_not_found",),
        act=_show,
    ),
    Operation(
        name="update_key",
        method="PATCH",
        path="/keys/{id}",
        subject=SUBJECT,
        summary="Change a key",
        description=(
            f"What is left out stays. Widening or extending: {_RESULT[0].lower()}{_RESULT[1:]} "
            "A member's key is widened and extended by that member alone."
        ),
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        body=requests.UpdateKey,
        body_required=True,
        conditional=True,
        versioned=True,
        refusals=(
            "admin_required",
            "permission_escalation",
            "secret_belongs_to_owner",
            "key_not_found",
            "key_revoked",
        ),
        act=_update,
    ),
    Operation(
        name="disable_key",
        method="POST",
        path="/keys/{id}/disable",
        subject=SUBJECT,
        summary="Disable a key",
        description="It is refused until it is enabled again.",
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        versioned=True,
        refusals=("key_not_found", "key_revoked"),
        act=_disable,
    ),
    Operation(
        name="enable_key",
        method="POST",
        path="/keys/{id}/enable",
        subject=SUBJECT,
        summary="Enable a disabled key",
        description=f"{_RESULT} One that somebody else than its owner disabled is enabled by admins alone.",
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        versioned=True,
        refusals=("admin_required", "permission_escalation", "key_not_found", "key_revoked"),
        act=_enable,
    ),
    Operation(
        name="revoke_key",
        method="POST",
        path="/keys/{id}/revoke",
        subject=SUBJECT,
        summary="Revoke a key for good",
        description="It stays in the lists. Revoking twice changes nothing.",
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        body=requests.RevokeKey,
        versioned=True,
        refusals=("admin_required", "key_not_found"),
        act=_revoke,
    ),
    Operation(
        name="rotate_key",
        method="POST",
        path="/keys/{id}/rotate",
        subject=SUBJECT,
        summary="Give a key a new secret",
        description=(
            "The answer has the new secret, once. The old one stays valid beside it for the grace period. "
            f"{_RESULT} A member's key is rotated by that member alone."
        ),
        permissions=(KEYS,),
        answers=IssuedKey,
        changes=True,
        body=requests.RotateKey,
        versioned=True,
        refusals=(
            "permission_escalation",
            "secret_belongs_to_owner",
            "key_not_found",
            "key_revoked",
            "key_expired",
            "rotation_in_progress",
        ),
        act=_rotate,
    ),
    Operation(
        name="finish_rotation",
        method="POST",
        path="/keys/{id}/finish-rotation",
        subject=SUBJECT,
        summary="End the old secret of a rotated key now",
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        versioned=True,
        refusals=("key_not_found",),
        act=_finish_rotation,
    ),
    Operation(
        name="delete_key",
        method="DELETE",
        path="/keys/{id}",
        subject=SUBJECT,
        summary="Delete a key for good",
        description="It leaves the lists; the trail still names it. The answer is its last state.",
        permissions=(KEYS,),
        answers=Key,
        changes=True,
        refusals=("admin_required", "key_not_found"),
        act=_delete,
    ),
    Operation(
        name="import_key",
        method="POST",
        path="/keys/import",
        subject=SUBJECT,
        summary="Import a key of another system",
        description=f"By the SHA-256 of its secret, which stays as it is and is never sent here. {_RESULT}",
        permissions=(KEYS,),
        answers=ImportedKey,
        changes=True,
        body=requests.ImportKey,
        body_required=True,
        makes="/keys",
        versioned=True,
        refusals=(*_OF_MAKING, "digest_in_use", "digest_retired"),
        act=_import,
    ),
    Operation(
        name="verify_key",
        method="POST",
        path="/keys/verify",
        subject=SUBJECT,
        summary="Ask whether a secret is valid, and for what",
        description=(
            "For services that cannot stand behind the proxy. Secrets of other organizations look unknown. "
            "The secret is sent in the body, and neither kept nor logged."
        ),
        permissions=(READ, KEYS),
        answers=Verification,
        body=requests.VerifyKey,
        body_required=True,
        act=_verify,
    ),
)
