"""What every answer of the control listener has, whoever gave it: a request id, no caching, and a shape for failures.

Invariant: nothing that goes wrong behind this middleware reaches a client as anything but a problem with a request id,
and the log says the same id. A defect is logged by where it happened and what kind it was, without its message: those
of drivers and of validators quote what they were given, which may be a secret or a digest.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import traceback
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.control.api.problems import INTERNAL_ERROR, Problems, Refused
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

REQUEST_ID: Final = web.RequestKey("request_id", str)
_PLACES_SHOWN: Final = 12
_log: Final = logging.getLogger(__name__)

_REFUSALS: Final = {
    404: ("unknown_path", "There is nothing at this path; /openapi.json and /docs list what there is."),
    405: ("method_not_allowed", "This path does not have that method; Allow names those that it has."),
    413: ("body_too_large", "The body is larger than this API accepts."),
}


_MALFORMED: Final = Refused(400, "malformed_request", "The request is not one that this API understands.")


class RequestIds:
    """Ids that are unique over processes and restarts: 64 random bits of this process, and a count; as the proxy's."""

    __slots__ = ("_count", "_run")

    def __init__(self) -> None:
        self._run = secrets.token_hex(8)
        self._count = itertools.count()

    def next(self) -> str:
        """Return a new one."""
        return f"{self._run}{next(self._count):012x}"


def edge(problems: Problems, request_ids: RequestIds) -> Middleware:
    """Make the outermost middleware."""

    @web.middleware
    async def at_the_edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = request_ids.next()
        try:
            response = await handler(request)
        except GatewayError as error:
            response = problems.answer(error, request_id)
        except web.HTTPException as error:
            response = problems.answer(_refused(error), request_id)
        except ConnectionError:  # the client is gone; aiohttp knows what to do
            raise
        except web.RequestPayloadError:
            response = problems.answer(_MALFORMED, request_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the reason
            _log.error(  # without the message, which may hold a secret
                "failed", extra={"request_id": request_id, "exception": _kinds(error), "at": _places(error)}
            )
            response = problems.answer(INTERNAL_ERROR, request_id)
        if not response.prepared and response.status >= HTTPStatus.BAD_REQUEST and "Expect" in request.headers:
            response.force_close()  # whether the body still comes is up to the client, so nothing may follow
        return response

    return at_the_edge


def finish(response: web.StreamResponse, request_id: str) -> None:
    """Add what every answer has."""
    response.headers["X-Request-ID"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "keygate"  # and not which versions of what it is made of


def _refused(error: web.HTTPException) -> GatewayError:
    """Turn what aiohttp refuses by itself into our shape."""
    if error.status not in _REFUSALS:
        return _MALFORMED
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Refused(error.status, *_REFUSALS[error.status], headers)


def _kinds(error: BaseException) -> str:
    """Name the classes of the exception and of what caused it."""
    kinds = [type(error).__qualname__]
    while (cause := error.__cause__ or error.__context__) is not None and len(kinds) < _PLACES_SHOWN:
        kinds.append(type(cause).__qualname__)
        error = cause
    return " < ".join(kinds)


def _places(error: BaseException) -> str:
    """Name the places in the code that led there, the innermost first."""
    frames = traceback.extract_tb(error.__traceback__)[::-1][:_PLACES_SHOWN]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
