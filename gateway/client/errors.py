"""What a call can end in other than its answer.

Invariant: every failure of a call is a `ClientError`: an `APIError` where the gateway refused, with the stable `code`
and the request id that its log and audit trail know it by, or `ConnectionFailed` where no answer came. What is wrong
with the call itself (no key, an id that is none) is an `InvalidArgument`, a ValueError, before anything is sent.

Turned down: one class per code. Codes grow with the gateway; a client that is older must still tell a 404 from a 403.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field of a request: its name, dotted where nested, and the rule that it breaks."""

    field: str
    rule: str


class InvalidArgument(ValueError):
    """A call that cannot be made."""


class ClientError(Exception):
    """A call that failed; `detail` is a sentence for people."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ConnectionFailed(ClientError):
    """No answer came. `may_have_happened`: the request may have been carried out all the same."""

    def __init__(self, detail: str, *, may_have_happened: bool) -> None:
        super().__init__(detail)
        self.may_have_happened = may_have_happened


class APIError(ClientError):
    """An answer that is not a success. `errors` names every bad field of a refused request."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        status: int,
        request_id: str | None = None,
        errors: Sequence[FieldProblem] = (),
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.errors = tuple(errors)

    def __str__(self) -> str:
        """Status, code and sentence, and the id to ask the gateway's operator about."""
        text = f"{self.status} {self.code}: {self.detail}"
        return f"{text} (request {self.request_id})" if self.request_id else text


class InvalidRequestError(APIError):
    """400: the request breaks rules; `errors` names all of them."""


class AuthenticationError(APIError):
    """401: the key is missing, unknown, expired, disabled or revoked; `code` says which."""


class PermissionDeniedError(APIError):
    """403: the key is good and may not do this."""


class NotFoundError(APIError):
    """404: there is no such thing, or it belongs to somebody else, which looks the same on purpose."""


class ConflictError(APIError):
    """409: the present state of the thing does not allow it."""


class PreconditionFailedError(APIError):
    """412: somebody else changed the thing since the version that `if_match` named."""


class ServiceUnavailableError(APIError):
    """503: the gateway cannot do it at the moment; repeats, where they are safe, have failed too."""


_CLASSES: Final[dict[int, type[APIError]]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: PreconditionFailedError,
    503: ServiceUnavailableError,
}


def error_class(status: int) -> type[APIError]:
    """Return the class for a status; `APIError` itself for those without one of their own."""
    return _CLASSES.get(status, APIError)
