"""Reading the trail of changes: from the parts of a call to `EventService`, and what the document says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.control.api import query
from gateway.control.api.operation import Operation
from gateway.control.api.parameters import MAX_REFERENCE_CHARACTERS, PAGE
from gateway.keys.authority import ADMIN, READ
from gateway.services.events import EventFilter, EventPage

if TYPE_CHECKING:
    from gateway.control.api.operation import Call, Services

SUBJECT: Final = "Audit"
_MAX_WORD_CHARACTERS: Final = 64


async def _list(services: Services, call: Call) -> EventPage:
    wanted = EventFilter(
        actor=call.query.get("actor"),
        action=call.query.get("action"),
        key=call.query.get("key"),
        target=call.query.get("target"),
        since=call.query.get("from"),
        until=call.query.get("to"),
    )
    return await services.events.list(call.caller, wanted, **call.page)


def _word(name: str, description: str) -> query.QueryParameter:
    return query.text(name, description, max_characters=_MAX_WORD_CHARACTERS)


OPERATIONS: Final = (
    Operation(
        name="list_events",
        method="GET",
        path="/audit",
        subject=SUBJECT,
        summary="Read the trail of changes, newest first",
        description=(
            "Admins whose key allows gateway:admin read that of the whole organization; "
            "everybody else what was done to them and their keys, and with their keys."
        ),
        permissions=(READ, ADMIN),
        answers=EventPage,
        query=(
            query.text(
                "actor",
                "Who: the id of a key; for all keys of an owner, removed ones too, their id, e-mail address or name; "
                "or `system`.",
                max_characters=MAX_REFERENCE_CHARACTERS,
            ),
            _word("action", "What: such as `key.revoke`."),
            _word("key", "The id of the key that it was done to."),
            _word("target", "The id of whatever it was done to."),
            query.moment("from", "Since then, included."),
            query.moment("to", "Until then, not included."),
            *PAGE,
        ),
        refusals=("owner_not_found", "owner_ambiguous"),
        act=_list,
    ),
)
