"""The operations on members: from the parts of a call to `MemberService`, and what the document says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import PAGE, REMOVAL
from gateway.keys.authority import MEMBERS, READ
from gateway.services import people_requests as requests
from gateway.services.people_shapes import InvitedMember, Member, MemberPage, RemovedMember

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services
    from gateway.services.changed import Changed

SUBJECT: Final = "Members"


async def _create(services: Services, call: Call) -> Changed[InvitedMember]:
    return await services.members.create(call.caller, call.body, call.idempotency_key)


async def _list(services: Services, call: Call) -> MemberPage:
    return await services.members.list(call.caller, call.query.get("search"), **call.page)


async def _show(services: Services, call: Call) -> Member:
    return await services.members.show(call.caller, call.id)


async def _update(services: Services, call: Call) -> Changed[Member]:
    return await services.members.update(call.caller, call.id, call.body, call.if_match)


async def _remove(services: Services, call: Call) -> Changed[RemovedMember]:
    return await services.members.remove(call.caller, call.id, call.query)


OPERATIONS: Final = (
    Operation(
        name="create_member",
        method="POST",
        path="/members",
        subject=SUBJECT,
        summary="Add a member",
        description=(
            "`first_key` makes a key for them as well, which the answer shows once: hand it to the member, "
            "who rotates it. What is granted must be held by the calling key itself."
        ),
        permissions=(MEMBERS,),
        answers=InvitedMember,
        changes=True,
        body=requests.CreateMember,
        body_required=True,
        makes="/members",
        versioned=True,
        refusals=("admin_required", "permission_escalation", "member_not_found", "member_exists", "external_id_in_use"),
        act=_create,
    ),
    Operation(
        name="list_members",
        method="GET",
        path="/members",
        subject=SUBJECT,
        summary="List members",
        description="Newest first; by e-mail address where that is searched for. Who is no admin finds themselves.",
        permissions=(READ, MEMBERS),
        answers=MemberPage,
        query=(query.text("search", "The beginning of the e-mail address, in any case."), *PAGE),
        act=_list,
    ),
    Operation(
        name="show_member",
        method="GET",
        path="/members/{id}",
        subject=SUBJECT,
        summary="Show a member",
        permissions=(READ, MEMBERS),
        answers=Member,
        versioned=True,
        refusals=("member_not_found",),
        act=_show,
    ),
    Operation(
        name="update_member",
        method="PATCH",
        path="/members/{id}",
        subject=SUBJECT,
        summary="Change a member",
        description=(
            "What is left out stays. Fewer or more permissions count for all of their keys at once. "
            "What is granted must be held by the calling key itself."
        ),
        permissions=(MEMBERS,),
        answers=Member,
        changes=True,
        body=requests.UpdateMember,
        body_required=True,
        conditional=True,
        versioned=True,
        refusals=(
            "admin_required",
            "permission_escalation",
            "member_not_found",
            "member_exists",
            "external_id_in_use",
            "last_admin",
        ),
        act=_update,
    ),
    Operation(
        name="remove_member",
        method="DELETE",
        path="/members/{id}",
        subject=SUBJECT,
        summary="Remove a member",
        description="Their keys are revoked, or moved to a service account; the answer says how many.",
        permissions=(MEMBERS,),
        answers=RemovedMember,
        changes=True,
        query=REMOVAL,
        refusals=(
            "admin_required",
            "permission_escalation",
            "member_not_found",
            "service_account_not_found",
            "last_admin",
            "own_account",
            "keys_need_a_choice",
        ),
        act=_remove,
    ),
)
