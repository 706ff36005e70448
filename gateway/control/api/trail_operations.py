"""Reading what is on record: from the parts of a call to `AuditService`, and what the document says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import MAX_REFERENCE_CHARACTERS, PAGE
from gateway.keys.authority import ADMIN, READ
from gateway.services.audit import VerificationResult
from gateway.services.audit_filter import STATUS_PATTERN, AuditFilter, read_status
from gateway.services.audit_shapes import EntryKind, EventPage, HourCounts

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services

SUBJECT: Final = "Audit"
_MAX_WORD_CHARACTERS: Final = 64
_MAX_REQUEST_ID_CHARACTERS: Final = 128  # as long as a trusted proxy may make it
_FILTERS: Final = ("kind", "actor", "action", "key", "target", "status", "code", "request_id")
_SINCE: Final = query.moment("from", "Since then, included.")
_UNTIL: Final = query.moment("to", "Until then, not included.")


async def _list(services: Services, call: Call) -> EventPage:
    given = {name: call.query[name] for name in _FILTERS if name in call.query}
    wanted = AuditFilter(**given, since=call.query.get("from"), until=call.query.get("to"))
    return await services.audit.list(call.caller, wanted, **call.page)


async def _counts(services: Services, call: Call) -> HourCounts:
    return await services.audit.counts(
        call.caller, key=call.query.get("key"), since=call.query.get("from"), until=call.query.get("to")
    )


async def _verify(services: Services, call: Call) -> VerificationResult:
    return await services.audit.verify(call.caller)


def _word(name: str, description: str) -> query.QueryParameter:
    return query.text(name, description, max_characters=_MAX_WORD_CHARACTERS)


def _status(name: str, description: str) -> query.QueryParameter:
    def read(value: str) -> str:
        read_status(value)
        return value

    return query.QueryParameter(name, {"type": "string", "pattern": STATUS_PATTERN}, description, read)


OPERATIONS: Final = (
    Operation(
        name="list_events",
        method="GET",
        path="/audit",
        subject=SUBJECT,
        summary="Read what is on record, newest first: changes and requests",
        description=(
            "Admins whose key allows gateway:admin read all of the organization's, and those of the operator also "
            "requests without a key that is known; everybody else what was done to them and their keys, and with "
            "their keys. A request is on record within two seconds of its end, after an outage later."
        ),
        permissions=(READ, ADMIN),
        answers=EventPage,
        query=(
            query.choice("kind", get_args(EntryKind), "Changes alone, or requests alone."),
            query.text(
                "actor",
                "Who: the id of a key; for all keys of an owner, removed ones too, their id, e-mail address or name; "
                "or `system`.",
                max_characters=MAX_REFERENCE_CHARACTERS,
            ),
            _word("action", "What: such as `key.revoke`; `request` for requests."),
            _word("key", "The id of the key that it was done to, or that a request came with."),
            _word("target", "The id of whatever it was done to."),
            _status(
                "status",
                "Requests alone: by status (`404`), by its class (`4xx`), or by outcome: `answered`, `refused`, "
                "`aborted`, `open`, `interrupted`.",
            ),
            _word("code", "Requests that were refused with this code, such as `expired_api_key`."),
            query.text(
                "request_id",
                "Those with this X-Request-ID. No index has it: with millions of requests on record, give `from` and "
                "`to` as well.",
                max_characters=_MAX_REQUEST_ID_CHARACTERS,
            ),
            _SINCE,
            _UNTIL,
            *PAGE,
        ),
        refusals=("owner_not_found", "owner_ambiguous"),
        act=_list,
    ),
    Operation(
        name="count_requests",
        method="GET",
        path="/audit/counts",
        subject=SUBJECT,
        summary="Count requests by hour and outcome",
        description=(
            "Of the hours that begin in the range, by default the last 24, at most 100 days. Admins whose key allows "
            "gateway:admin get those of the whole organization, everybody else those of the keys that are theirs now."
        ),
        permissions=(READ, ADMIN),
        answers=HourCounts,
        query=(_word("key", "The id of the key that they came with."), _SINCE, _UNTIL),
        act=_counts,
    ),
    Operation(
        name="verify_audit",
        method="GET",
        path="/audit/verify",
        subject=SUBJECT,
        summary="Tell whether any request is missing (operator)",
        description="Compares what workers wrote with what is in the store, as far back as requests are kept.",
        permissions=(ADMIN,),
        answers=VerificationResult,
        refusals=("operator_required", "requests_not_recorded"),
        act=_verify,
    ),
)
