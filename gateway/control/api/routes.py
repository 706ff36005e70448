"""The admin API's routes, made from the table of operations.

Invariant: a route exists for each operation and for nothing else below `/v1`; the documentation stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import documentation
from gateway.control.api.endpoint import Endpoint
from gateway.control.api.operations import OPERATIONS

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.control.api.operation import Services
    from gateway.control.api.propagation import Propagation

# What stands in the place of an id and is none (`/keys/import`), so that a wrong method there is a 405 and no 404.
_WORDS: Final = sorted(
    {operation.path.split("/")[2] for operation in OPERATIONS if operation.path.count("/") > 1} - {"{id}"}
)
_ID: Final = f"{{id:(?!(?:{'|'.join(_WORDS)})$)[^{{}}/]+}}"


def routes(services: Services, propagation: Propagation, *, bare_authorization: bool = False) -> list[web.RouteDef]:
    """To be added to the control application."""
    endpoints = (
        Endpoint(operation, services, propagation, bare_authorization=bare_authorization) for operation in OPERATIONS
    )
    return [*(endpoint.route(_ID) for endpoint in endpoints), *documentation.routes()]
