"""The operations on organizations: from the parts of a call to their service, and what the document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import PAGE
from gateway.keys.authority import ADMIN, READ
from gateway.services import people_requests as requests
from gateway.services.people_shapes import FoundedOrganization, OrganizationPage
from gateway.services.shapes import Organization

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services
    from gateway.services.changed import Changed

SUBJECT: Final = "Organizations"


async def _create(services: Services, call: Call) -> Changed[FoundedOrganization]:
    return await services.organizations.create(call.caller, call.body, call.idempotency_key)


async def _list(services: Services, call: Call) -> OrganizationPage:
    return await services.organizations.list(call.caller, call.query.get("search"), **call.page)


async def _show(services: Services, call: Call) -> Organization:
    return await services.organizations.show(call.caller, call.id)


async def _update(services: Services, call: Call) -> Changed[Organization]:
    return await services.organizations.update(call.caller, call.id, call.body, call.if_match)


async def _delete(services: Services, call: Call) -> Changed[Organization]:
    return await services.organizations.delete(call.caller, call.id)


OPERATIONS: Final = (
    Operation(
        name="create_organization",
        method="POST",
        path="/organizations",
        subject=SUBJECT,
        summary="Found an organization (operator)",
        description="With a first admin and a key for them, which the answer shows once: hand it on.",
        permissions=(ADMIN,),
        answers=FoundedOrganization,
        changes=True,
        body=requests.CreateOrganization,
        body_required=True,
        makes="/organizations",
        versioned=True,
        refusals=("operator_required", "organization_not_found", "organization_exists", "external_id_in_use"),
        act=_create,
    ),
    Operation(
        name="list_organizations",
        method="GET",
        path="/organizations",
        subject=SUBJECT,
        summary="List organizations",
        description="The operator finds all of them, everybody else their own.",
        permissions=(READ, ADMIN),
        answers=OrganizationPage,
        query=(query.text("search", "The beginning of the name."), *PAGE),
        act=_list,
    ),
    Operation(
        name="show_organization",
        method="GET",
        path="/organizations/{id}",
        subject=SUBJECT,
        summary="Show an organization",
        permissions=(READ, ADMIN),
        answers=Organization,
        versioned=True,
        refusals=("organization_not_found",),
        act=_show,
    ),
    Operation(
        name="update_organization",
        method="PATCH",
        path="/organizations/{id}",
        subject=SUBJECT,
        summary="Change an organization's rules",
        description="What is left out stays. Name and external id are the operator's to change.",
        permissions=(ADMIN,),
        answers=Organization,
        changes=True,
        body=requests.UpdateOrganization,
        body_required=True,
        conditional=True,
        versioned=True,
        refusals=(
            "admin_required",
            "operator_required",
            "organization_not_found",
            "organization_exists",
            "external_id_in_use",
        ),
        act=_update,
    ),
    Operation(
        name="delete_organization",
        method="DELETE",
        path="/organizations/{id}",
        subject=SUBJECT,
        summary="Delete an organization (operator)",
        description="All of its keys are revoked. The operator's own organization cannot be deleted.",
        permissions=(ADMIN,),
        answers=Organization,
        changes=True,
        refusals=("operator_required", "organization_not_found", "operator_organization"),
        act=_delete,
    ),
)
