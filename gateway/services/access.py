"""The refusals of callers who are known and may not: one function per rule, one code per refusal.

Invariant: a call is judged in one order, so that an answer never tells what a better key would have to be asked for:
first whether the key may do this kind of thing at all (403 `insufficient_permissions`), then whether the thing exists
within its reach (404), then whether its owner may do this to it (403 `admin_required`, `operator_required`), and last
whether the outcome would give more than the caller holds (403 `permission_escalation`).
"""

from collections.abc import Iterable
from typing import NoReturn

from gateway.errors import NotAllowed
from gateway.keys.authority import READ, Authority


def require(authority: Authority, permission: str) -> None:
    """Raise NotAllowed unless the key and its owner allow the operation."""
    if not authority.allows(permission):
        _lacks((permission,))


def require_reading(authority: Authority, subject: str) -> None:
    """Raise NotAllowed unless things of this subject may be read: by `gateway:read` or the subject's own permission."""
    if not authority.may_read(subject):
        _lacks((READ, subject))


def require_admin(authority: Authority, what: str) -> None:
    """Raise NotAllowed unless the reach is the whole organization. `what` as in "may invite members"."""
    if not authority.administers:
        detail = f"Only an admin of the organization, or a service account that holds gateway:admin, may {what}."
        raise NotAllowed(detail, code="admin_required")


def require_operator(authority: Authority, what: str) -> None:
    """Raise NotAllowed unless the call is made for the organization that runs this gateway, by an admin of it."""
    if not authority.operates:
        detail = f"Only an admin of the organization that operates this gateway, with gateway:admin, may {what}."
        raise NotAllowed(detail, code="operator_required")


def require_operators_organization(authority: Authority, what: str) -> None:
    """Raise NotAllowed unless the call is made for the organization that runs this gateway."""
    if not authority.operator:
        raise NotAllowed(f"Only the organization that operates this gateway may {what}.", code="operator_required")


def require_held(authority: Authority, permissions: Iterable[str]) -> None:
    """Raise NotAllowed, naming what is missing, unless the caller holds all of what is to be handed on."""
    missing = [each for each in permissions if not authority.holds((each,))]
    if missing:
        refuse_escalation(f"This would hand on {', '.join(missing)}, which the calling key does not hold itself.")


def refuse_escalation(detail: str) -> NoReturn:
    """Refuse what would give more than the caller holds."""
    raise NotAllowed(detail, code="permission_escalation")


def _lacks(permissions: tuple[str, ...]) -> NoReturn:
    wanted = " or ".join(permissions)
    detail = f"This needs the permission {wanted}, which the API key or its owner does not hold."
    raise NotAllowed(detail, code="insufficient_permissions")
