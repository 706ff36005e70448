"""What the control listener answers when it says no: problem details (RFC 9457), in the proxy's own shape.

Invariant: one shape for every refusal and failure, whoever says no. `code` is stable and is in docs/errors.md; what
went wrong inside (a path, a driver's words, a traceback) goes to our log and never into an answer.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web
from multidict import CIMultiDict

from gateway.errors import (
    Conflict,
    GatewayError,
    Invalid,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    StoreBusy,
    Unauthenticated,
    Unreachable,
)
from gateway.services.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.errors import FieldError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 1
_STATUSES: Final[tuple[tuple[type[GatewayError], int], ...]] = (
    (Unauthenticated, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (Conflict, 409),
    (PreconditionFailed, 412),
)
_INSUFFICIENT: Final = frozenset({"insufficient_permissions", "origin_not_allowed"})
_log: Final = logging.getLogger(__name__)


class FieldProblem(Shape):
    """One bad field: its name, dotted where it is nested, a query parameter's or header field's own; and its rule."""

    field: str
    rule: str


class Problem(Shape):
    """Why a request was not served. Compare `code`, show `detail`, and quote `request_id` when you ask for help."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: tuple[FieldProblem, ...] = ()
    """Every bad field at once; left out where no field is bad."""


class Refused(GatewayError):
    """What HTTP itself forbids: a method, a media type, a size. It has its status, and needs no class of its own."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers` are further fields of the answer."""
        super().__init__(detail, code=code)
        self.status = status
        self.headers = headers or {}


INTERNAL_ERROR: Final = Refused(500, "internal_error", "The gateway failed on this request; its log says why.")


class Problems:
    """Makes the answers. `realm` is named in the challenges of a 401 and of a 403."""

    __slots__ = ("_realm",)

    def __init__(self, realm: str) -> None:
        self._realm = realm.replace("\\", "\\\\").replace('"', '\\"')

    def answer(self, error: GatewayError, request_id: str) -> web.Response:
        """Return the answer for an expected error."""
        match error:
            case Refused(status=status, headers=headers):
                return _response(status, error.code, error.detail, request_id, headers=CIMultiDict(headers))
            case Unreachable():
                return _unreachable(error, request_id)
            case Invalid(fields=fields):
                return _response(400, error.code, error.detail, request_id, errors=fields)
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 0)
        if not status:  # a failure that nobody expected here
            _log.error("failed", extra={"request_id": request_id, "reason": error.internal or error.detail})
            return self.answer(INTERNAL_ERROR, request_id)
        return _response(status, error.code, error.detail, request_id, headers=self._challenges(error))

    def _challenges(self, error: GatewayError) -> CIMultiDict[str]:
        """WWW-Authenticate of a 401, and of a good key that is not for this (RFC 6750 section 3.1), as at the proxy."""
        headers: CIMultiDict[str] = CIMultiDict()
        if isinstance(error, Unauthenticated):
            reason = "" if error.code == "missing_api_key" else ', error="invalid_token"'
        elif error.code in _INSUFFICIENT:
            reason = ', error="insufficient_scope"'
        else:
            return headers
        headers.add("WWW-Authenticate", f'Bearer realm="{self._realm}"{reason}')
        headers.add("WWW-Authenticate", f'ApiKey realm="{self._realm}"')
        return headers


def _unreachable(error: Unreachable, request_id: str) -> web.Response:
    """Say that it is our fault, and no more: the sentence of such an error names files of ours."""
    _log.warning("the store failed", extra={"request_id": request_id, "reason": error.internal or error.detail})
    if isinstance(error, StoreBusy):
        code, detail = "key_store_busy", "The key store is held by another writer. Nothing was changed; try again."
    else:
        code, detail = "key_store_unavailable", "The key store cannot be used just now; the gateway's log says why."
    headers = CIMultiDict({"Retry-After": str(RETRY_AFTER_SECONDS)})
    return _response(503, code, detail, request_id, headers=headers)


def _response(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    *,
    errors: Iterable[FieldError] | None = None,
    headers: CIMultiDict[str] | None = None,
) -> web.Response:
    body: dict[str, object] = {
        "type": f"urn:keygate:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = [{"field": each.field, "rule": each.rule} for each in errors]
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE, headers=headers)
