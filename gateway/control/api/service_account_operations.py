"""The operations on service accounts: from the parts of a call to their service, and what the document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import PAGE, REMOVAL
from gateway.keys.authority import MEMBERS, READ
from gateway.services import people_requests as requests
from gateway.services.people_shapes import RemovedServiceAccount, ServiceAccount, ServiceAccountPage

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services
    from gateway.services.changed import Changed

SUBJECT: Final = "Service accounts"


async def _create(services: Services, call: Call) -> Changed[ServiceAccount]:
    return await services.service_accounts.create(call.caller, call.body, call.idempotency_key)


async def _list(services: Services, call: Call) -> ServiceAccountPage:
    return await services.service_accounts.list(call.caller, call.query.get("search"), **call.page)


async def _show(services: Services, call: Call) -> ServiceAccount:
    return await services.service_accounts.show(call.caller, call.id)


async def _update(services: Services, call: Call) -> Changed[ServiceAccount]:
    return await services.service_accounts.update(call.caller, call.id, call.body, call.if_match)


async def _remove(services: Services, call: Call) -> Changed[RemovedServiceAccount]:
    return await services.service_accounts.remove(call.caller, call.id, call.query)


OPERATIONS: Final = (
    Operation(
        name="create_service_account",
        method="POST",
        path="/service-accounts",
        subject=SUBJECT,
        summary="Add a service account",
        description="What is granted must be held by the calling key itself.",
        permissions=(MEMBERS,),
        answers=ServiceAccount,
        changes=True,
        body=requests.CreateServiceAccount,
        body_required=True,
        makes="/service-accounts",
        versioned=True,
        refusals=(
            "admin_required",
            "permission_escalation",
            "service_account_not_found",
            "service_account_exists",
            "external_id_in_use",
        ),
        act=_create,
    ),
    Operation(
        name="list_service_accounts",
        method="GET",
        path="/service-accounts",
        subject=SUBJECT,
        summary="List service accounts",
        description="Newest first; by name where that is searched for. Who is no admin finds itself, or none.",
        permissions=(READ, MEMBERS),
        answers=ServiceAccountPage,
        query=(query.text("search", "The beginning of the name, in any case."), *PAGE),
        act=_list,
    ),
    Operation(
        name="show_service_account",
        method="GET",
        path="/service-accounts/{id}",
        subject=SUBJECT,
        summary="Show a service account",
        permissions=(READ, MEMBERS),
        answers=ServiceAccount,
        versioned=True,
        refusals=("service_account_not_found",),
        act=_show,
    ),
    Operation(
        name="update_service_account",
        method="PATCH",
        path="/service-accounts/{id}",
        subject=SUBJECT,
        summary="Change a service account",
        description=(
            "What is left out stays. Fewer or more permissions count for all of its keys at once. "
            "What is granted must be held by the calling key itself."
        ),
        permissions=(MEMBERS,),
        answers=ServiceAccount,
        changes=True,
        body=requests.UpdateServiceAccount,
        body_required=True,
        conditional=True,
        versioned=True,
        refusals=(
            "admin_required",
            "permission_escalation",
            "service_account_not_found",
            "service_account_exists",
            "external_id_in_use",
        ),
        act=_update,
    ),
    Operation(
        name="remove_service_account",
        method="DELETE",
        path="/service-accounts/{id}",
        subject=SUBJECT,
        summary="Remove a service account",
        description="Its keys are revoked, or moved to another service account; the answer says how many.",
        permissions=(MEMBERS,),
        answers=RemovedServiceAccount,
        changes=True,
        query=REMOVAL,
        refusals=(
            "admin_required",
            "permission_escalation",
            "service_account_not_found",
            "own_account",
            "keys_need_a_choice",
        ),
        act=_remove,
    ),
)
