"""What to read of what is on record.

Invariant: all that is given has to fit. A filter that only one kind of entry can fit leaves the other out, rather than
being passed over for it: `status=4xx` shows requests alone, `action=key.revoke` changes alone, and both together
nothing at all.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, get_args

from gateway.errors import FieldError
from gateway.keys.request_entry import Outcome
from gateway.services.audit_shapes import EntryKind

REQUEST: Final = "request"
"""The action of every request."""
SYSTEM: Final = "system"
"""The actor that has no id."""
OUTCOMES: Final = {outcome.name.lower(): outcome for outcome in Outcome}
STATUS_RULE: Final = f"must be a status such as 404, a class such as 4xx, or one of {', '.join(OUTCOMES)}"
STATUS_PATTERN: Final = rf"^([1-5][0-9][0-9]|[1-5]xx|{'|'.join(OUTCOMES)})$"
_STATUS: Final = re.compile(r"([1-5])([0-9]{2}|xx)")


class Place(NamedTuple):
    """Where a page ended, in the order of moment and id, newest first."""

    at: datetime
    id: str


class ActedBy(NamedTuple):
    """By whom: one key, all keys of one owner, or the system; with none of them, by anybody."""

    key_id: str | None = None
    owner_id: str | None = None
    system: bool = False


class WantedStatus(NamedTuple):
    """The first and the last status that fit, or the outcome that does."""

    statuses: tuple[int, int] | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to read; all that is given has to fit.

    `actor`: the id of a key; the id, e-mail address or name of a member or service account, removed ones too, for what
    was done with any of their keys; or `system`. `key` and `target` are ids of what was acted upon; of a request, of
    the key that it came with. `status` and `code` are of requests, `request_id` is the X-Request-ID of the answer to
    either. `since` is included, `until` is not.
    """

    kind: EntryKind | None = None
    actor: str | None = None
    action: str | None = None
    key: str | None = None
    target: str | None = None
    status: str | None = None
    code: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def asks_for_changes(self) -> bool:
        """Tell whether any change can fit."""
        about_requests = self.status is not None or self.code is not None or self.action == REQUEST
        return self.kind != "request" and not about_requests

    @property
    def asks_for_requests(self) -> bool:
        """Tell whether any request can fit."""
        return self.kind != "change" and self.action in {None, REQUEST}


EVERYTHING: Final = AuditFilter()


def faults_of(wanted: AuditFilter) -> list[FieldError]:
    """Return what is wrong with the filter."""
    faults = []
    if wanted.kind is not None and wanted.kind not in get_args(EntryKind):
        faults.append(FieldError("kind", f"must be one of {', '.join(get_args(EntryKind))}"))
    if wanted.status is not None:
        try:
            read_status(wanted.status)
        except ValueError as error:
            faults.append(FieldError("status", str(error)))
    return faults


def read_status(text: str) -> WantedStatus:
    """Read `404`, `4xx` or an outcome. Raises ValueError with the rule."""
    if match := _STATUS.fullmatch(text):
        hundreds = int(match[1]) * 100
        if match[2] == "xx":
            return WantedStatus(statuses=(hundreds, hundreds + 99))
        return WantedStatus(statuses=(int(text), int(text)))
    if text in OUTCOMES:
        return WantedStatus(outcome=OUTCOMES[text])
    raise ValueError(STATUS_RULE)
