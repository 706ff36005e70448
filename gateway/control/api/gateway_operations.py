"""The operations on the gateway itself: how it is doing, and reading its settings again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api.operation import Operation
from gateway.control.status import GatewayStatus, Reloaded
from gateway.keys.authority import ADMIN, READ

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services

SUBJECT: Final = "Gateway"


async def _status(services: Services, call: Call) -> GatewayStatus:
    return await services.gateway.status(call.caller)


async def _reload(services: Services, call: Call) -> Reloaded:
    return await services.gateway.reload(call.caller)


OPERATIONS: Final = (
    Operation(
        name="gateway_status",
        method="GET",
        path="/status",
        subject=SUBJECT,
        summary="Show how the gateway is doing (operator)",
        description="Every worker of every node, how far it follows, and what those of the node that answers count.",
        permissions=(READ,),
        answers=GatewayStatus,
        refusals=("operator_required",),
        act=_status,
    ),
    Operation(
        name="reload_gateway",
        method="POST",
        path="/reload",
        subject=SUBJECT,
        summary="Read the settings again (operator)",
        description=(
            "Of the node that answers. Every process is replaced by one with the new settings, without losing a "
            "request; bad settings change nothing, and every problem is told."
        ),
        permissions=(ADMIN,),
        answers=Reloaded,
        refusals=("operator_required", "bad_configuration", "restart_required", "reload_in_progress", "reload_failed"),
        act=_reload,
    ),
)
