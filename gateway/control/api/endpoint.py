"""The way of one call through one operation: who calls → what is asked → the service → how far it has come → answer.

Invariant: nothing is read from a body before the caller is known, so whoever has no key cannot make us hold bytes; and
a change that is committed is answered as such, whatever happens to its announcement.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from gateway.control.api.conditions import entity_tag, expected_version, idempotency_key
from gateway.control.api.credential import presented_key
from gateway.control.api.edge import REQUEST_ID
from gateway.control.api.json_body import MalformedJson, read_object
from gateway.control.api.operation import PREFIX, Call
from gateway.control.api.problems import Refused
from gateway.control.api.propagation import nobody_heard
from gateway.control.api.query import read_query
from gateway.errors import FieldError, Invalid
from gateway.keys.quoting import field_name
from gateway.services.changed import Changed
from gateway.services.requests import MAX_FAULTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.control.api.operation import Operation, Services
    from gateway.control.api.propagation import Propagation, PropagationShape
    from gateway.services.actor import Caller
    from gateway.services.shapes import Shape

BODY_TIMEOUT_SECONDS: Final = 30.0
MEDIA_TYPE: Final = "application/json"
_log: Final = logging.getLogger(__name__)


class Endpoint:
    """Serves one operation; `handle` is its route's handler."""

    __slots__ = ("_bare_authorization", "_operation", "_propagation", "_services")

    def __init__(
        self, operation: Operation, services: Services, propagation: Propagation, *, bare_authorization: bool
    ) -> None:
        self._operation = operation
        self._services = services
        self._propagation = propagation
        self._bare_authorization = bare_authorization

    def route(self, id_pattern: str) -> web.RouteDef:
        """The operation's method and path, and this; `id_pattern` takes the place of `{id}`. A GET answers HEAD."""
        path = PREFIX + self._operation.path.replace("{id}", id_pattern)
        if self._operation.method == "GET":
            return web.get(path, self.handle, expect_handler=_not_yet)
        return web.route(self._operation.method, path, self.handle, expect_handler=_not_yet)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request. Raises GatewayError, which the edge turns into a problem."""
        began = monotonic()
        if not request.raw_path.isascii():
            raise Refused(400, "malformed_request", "The request target has characters that must be percent-encoded.")
        caller = await self._caller(request)
        call = await self._call(request, caller)
        result = await self._operation.act(self._services, call)
        if not isinstance(result, Changed):
            return _answer(200, result.model_dump(mode="json"), self._headers(result))
        propagation = await self._announced(result.seq, request[REQUEST_ID])
        if result.seq is not None:
            self._log_change(request, caller, result, propagation, monotonic() - began)
        return self._changed(result, propagation)

    async def _caller(self, request: web.Request) -> Caller:
        """Find out who calls, by what the store says now. Two origins are none, as at the proxy."""
        origins = request.headers.getall("Origin", [])
        return await self._services.authenticator.authenticate(
            presented_key(request.headers, bare_authorization=self._bare_authorization),
            request.remote,
            request[REQUEST_ID],
            origin=origins[0] if len(origins) == 1 else None,
        )

    async def _call(self, request: web.Request, caller: Caller) -> Call:
        """Read all that the request says; the faults of header fields and query parameters come at once."""
        operation = self._operation
        faults: list[FieldError] = []
        query = read_query(operation.query, request.query, faults)
        key = idempotency_key(request.headers, faults) if operation.makes else None
        version = expected_version(request.headers, faults) if operation.conditional else None
        if faults:
            raise Invalid(faults)
        return Call(
            caller=caller,
            id=request.match_info.get("id", ""),
            body=await self._body(request) if operation.takes_body else {},
            query=query,
            if_match=version,
            idempotency_key=key,
        )

    async def _body(self, request: web.Request) -> Mapping[str, object]:
        """Read the body; fields are for the service to judge, unless the operation takes none."""
        body = await _read_body(request, required=self._operation.body_required)
        if self._operation.body is None and body:
            names = list(body)[:MAX_FAULTS]
            raise Invalid([FieldError(field_name(name), "is not a field of this request") for name in names])
        return body

    async def _announced(self, seq: int | None, request_id: str) -> PropagationShape:
        """Wait for the workers. A defect there must not cost the caller an answer that may hold a secret."""
        try:
            return await self._propagation.wait(seq)
        except Exception:  # noqa: BLE001 - see above; the change stands whatever this is
            _log.exception("cannot tell how far a change has come", extra={"request_id": request_id, "seq": seq})
            return nobody_heard(seq)

    def _changed(self, result: Changed[Any], propagation: PropagationShape) -> web.Response:  # Any: as in Operation
        """Made: 201. Changed: 200, or 202 while a worker is silent. Asked for again: 200."""
        body = result.resource.model_dump(mode="json") | {"propagation": propagation.model_dump(mode="json")}
        headers = self._headers(result.resource)
        if self._operation.makes is not None:
            headers["Location"] = f"{PREFIX}{self._operation.makes}/{result.resource.id}"
            return _answer(200 if result.seq is None else 201, body, headers)
        return _answer(202 if propagation.silent else 200, body, headers)

    def _headers(self, resource: Shape) -> dict[str, str]:
        version = getattr(resource, "version", None)
        return {"ETag": entity_tag(version)} if self._operation.versioned and version is not None else {}

    def _log_change(
        self,
        request: web.Request,
        caller: Caller,
        result: Changed[Any],  # Any: as in Operation
        propagation: PropagationShape,
        seconds: float,
    ) -> None:
        """One line for a change, of ids alone; who reads leaves none."""
        _log.info(
            "changed",
            extra={
                "operation": self._operation.name,
                "id": result.resource.id,
                "organization": caller.authority.organization_id,
                "key": caller.authority.key_id,
                "address": request.remote,
                "request_id": request[REQUEST_ID],
                "seq": result.seq,
                "applied": f"{propagation.applied}/{propagation.of}",
                "milliseconds": round(seconds * 1000),
            },
        )


async def _not_yet(_: web.Request) -> None:
    """Do not ask for a body before the caller is known. What else is expected is ignored (RFC 9110 section 10.1.1)."""


async def _read_body(request: web.Request, *, required: bool) -> Mapping[str, object]:
    """Read the JSON object; where none is required, an empty body is an empty object."""
    _check_media_type(request)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # this was no part of the answer
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            text = await request.read()
    except TimeoutError:
        raise Refused(408, "request_timeout", "The request did not arrive in time.", {"Connection": "close"}) from None
    if not text and not required:
        return {}
    try:
        return read_object(text)
    except MalformedJson as error:
        raise Refused(400, "malformed_json", str(error)) from None


def _check_media_type(request: web.Request) -> None:
    if not request.body_exists:
        return
    if request.content_length is not None and request.content_length > request.client_max_size:
        raise web.HTTPRequestEntityTooLarge(request.client_max_size, request.content_length)
    charset = (request.charset or "utf-8").lower()
    if request.content_type != MEDIA_TYPE or charset not in {"utf-8", "utf8", "us-ascii"}:
        raise Refused(415, "unsupported_media_type", f"Send the body as {MEDIA_TYPE}, in UTF-8.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "unsupported_media_type", "Send the body as it is, without a Content-Encoding.")


def _answer(status: int, body: dict[str, object], headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type=MEDIA_TYPE, headers=headers)
