"""What an operation of the admin API is: one entry of the table that routes and documentation are both made from.

Invariant: nothing is served that is not described, and nothing described that is not served, since there is one list
(`operations.py`) and both read it. Adding an operation is an entry there and a function that calls a service.

The alternative turned down: a web framework that derives the document from handlers' signatures. It would be a second
framework beside aiohttp, with its own opinion of errors, bodies and validation; the tables here are 20 lines each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from pydantic import BaseModel

    from gateway.control.api.query import QueryParameter
    from gateway.control.status import Administration
    from gateway.services.actor import Caller
    from gateway.services.audit import AuditService
    from gateway.services.authentication import Authenticator
    from gateway.services.changed import Changed
    from gateway.services.keys import KeyService
    from gateway.services.members import MemberService
    from gateway.services.organizations import OrganizationService
    from gateway.services.service_accounts import ServiceAccountService
    from gateway.services.shapes import Shape

PREFIX: Final = "/v1"

Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Services:
    """What operations may call."""

    authenticator: Authenticator
    keys: KeyService
    members: MemberService
    service_accounts: ServiceAccountService
    organizations: OrganizationService
    audit: AuditService
    gateway: Administration
    route_permissions: Collection[str] = ()
    """The permissions that routes ask for, for `GET /v1/permissions`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, read and found well formed: whose it is, and all that it says."""

    caller: Caller
    id: str
    """The `{id}` of the path; empty where the path has none."""
    body: Mapping[str, object]
    query: Mapping[str, Any]
    """Values of the operation's own parameters; Any, since each knows its own."""
    if_match: int | None
    idempotency_key: str | None

    @property
    def page(self) -> Mapping[str, Any]:
        """The parameters of `PAGE` that were given, as services call them."""
        return {name: self.query[name] for name in ("cursor", "limit") if name in self.query}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. Invariant: `makes` only with POST, `conditional` only with PATCH."""

    name: str
    method: Method
    path: str
    """Below `/v1`, with `{id}` where the thing's id stands."""
    subject: str
    """The heading that it is found under."""
    summary: str
    description: str = ""
    permissions: tuple[str, ...]
    """What the key must allow, one of them. Empty: any good key will do."""
    answers: type[Shape]
    changes: bool = False
    """`act` returns a Changed, and the answer says how far the change has come."""
    body: type[BaseModel] | None = None
    """What the body is. None: the operation takes none, or `{}`."""
    body_required: bool = False
    query: tuple[QueryParameter, ...] = ()
    makes: str | None = None
    """The path, below `/v1`, under which what was made is found; then `Idempotency-Key` is taken.

    What a repeated call made the first time may be gone since: a 404 is among its refusals."""
    conditional: bool = False
    """`If-Match` is taken."""
    versioned: bool = False
    """The answer has an ETag."""
    refusals: tuple[str, ...] = ()
    """Codes beyond those that every operation of this form has (`refusals.py`)."""
    act: Callable[[Services, Call], Awaitable[Changed[Any] | Shape]]  # Any: a Changed of whatever `answers` says

    @property
    def takes_body(self) -> bool:
        """Tell whether a body is read: that of a GET or DELETE has no meaning (RFC 9110 section 9.3.1)."""
        return self.method in {"POST", "PATCH"}
