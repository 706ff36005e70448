"""The admin API for programs: `Client` waits, `AsyncClient` awaits; docs/client.md shows both at work.

Unlike other packages here this one re-exports, and nothing but its own: these names are what programs import, whichever
file they live in. It imports no other part of the gateway, so that it works wherever the admin API can be called.
"""

from gateway.client.asynchronous.client import AsyncClient
from gateway.client.errors import (
    APIError,
    AuthenticationError,
    ClientError,
    ConflictError,
    ConnectionFailed,
    FieldProblem,
    InvalidArgument,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ServiceUnavailableError,
)
from gateway.client.requests import UNCHANGED
from gateway.client.synchronous.client import Client

__all__ = [
    "UNCHANGED",
    "APIError",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ClientError",
    "ConflictError",
    "ConnectionFailed",
    "FieldProblem",
    "InvalidArgument",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "ServiceUnavailableError",
]
