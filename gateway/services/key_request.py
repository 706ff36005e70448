"""What may be asked of a new key, and what is wrong with a request: everything at once.

Invariant: a `Draft` is valid; there is no other way to make one than `examine`, which collects the faults of all fields
before it raises. Raising at the first fault was turned down: a caller mends a request in one go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from gateway.errors import FieldError, Invalid
from gateway.keys import expiry, permissions
from gateway.keys.naming import clean_description, clean_name

MAX_PERMISSIONS: Final = 100


@dataclass(frozen=True, slots=True)
class CreateKey:
    """A request for a key, in the words of the API.

    `expires`: a preset, date or date-time; None: the organization's default. `permissions`: None: inherit the owner's.
    `owner`: an id, a member's e-mail or a service account's name; None: the caller, or for the system the first admin.
    """

    name: str
    description: str = ""
    expires: str | None = None
    permissions: Sequence[str] | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ExpiryRules:
    """An organization's presets: what a key gets that asks for nothing, and the longest life there is (None: any)."""

    default: str
    maximum: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A request found valid, at one moment, under one organization's rules."""

    name: str
    description: str
    permissions: tuple[str, ...] | None
    expires_at: datetime | None


Value = TypeVar("Value")


def examine(request: CreateKey, rules: ExpiryRules, now: datetime) -> Draft:
    """Return the draft, or raise Invalid with every fault of the request."""
    faults: list[FieldError] = []

    def checked(field: str, value: Callable[[], Value]) -> Value | None:
        try:
            return value()
        except ValueError as error:
            faults.append(FieldError(field, str(error)))
            return None

    name = checked("name", lambda: clean_name(request.name))
    description = checked("description", lambda: clean_description(request.description))
    granted = checked("permissions", lambda: _permissions(request.permissions))
    expires_at = checked("expires", lambda: _expires_at(request.expires, rules, now))
    if faults or name is None or description is None:
        raise Invalid(faults)
    return Draft(name=name, description=description, permissions=granted, expires_at=expires_at)


def _permissions(wanted: Sequence[str] | None) -> tuple[str, ...] | None:
    if wanted is None:
        return None
    if len(wanted) > MAX_PERMISSIONS:
        raise ValueError(f"must be at most {MAX_PERMISSIONS} permissions")
    for each in wanted:
        permissions.validate(each)
    return tuple(dict.fromkeys(wanted))  # in the order given, each once


def _expires_at(wanted: str | None, rules: ExpiryRules, now: datetime) -> datetime | None:
    """Apply the default where nothing is asked for, and the maximum to both: a default is cut, a wish is refused."""
    latest = None if rules.maximum is None else expiry.parse(rules.maximum, now)
    chosen = expiry.parse(rules.default if wanted is None else wanted, now)
    if latest is None or (chosen is not None and chosen <= latest):
        return chosen
    if wanted is None:
        return latest
    raise ValueError(f"is beyond what this organization allows: at most {rules.maximum} from now")
