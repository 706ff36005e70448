"""What is on record, as everybody reads it: changes and requests in one shape, and requests counted by the hour.

Invariant: an entry reads the same whichever kind it is: when, who, what, to what, from where. What only one kind has is
null with the other. A shape for each kind, and a list of either, was turned down: who looks for what became of a key
wants its last requests and its end in the order in which they happened.
"""

from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from gateway.services.shapes import ActorShape, Shape

EntryKind = Literal["change", "request"]
OutcomeWord = Literal["answered", "refused", "aborted", "open", "interrupted"]
Told = dict[str, JsonValue] | None


class EventTarget(Shape):
    """What was acted upon, named as it was then. It may be gone, or have another name now."""

    kind: str
    """key, member, service_account, organization or gateway; route for a request without a key that is known."""
    id: str
    name: str


class RequestDetail(Shape):
    """One request that came to the proxy, and what became of it."""

    method: str | None
    """Null where the head could not be read."""
    path: str | None
    """Without the query, which is never on record; long ones are cut. Null where the head could not be read."""
    route: str | None
    """The route that it took; null where it took none."""
    upstream: str | None
    """Where that route leads, whether the request was let through or not; null where it leads nowhere."""
    status: int | None
    """Of the answer; null where none was begun."""
    outcome: OutcomeWord
    """answered: whole; refused: by the gateway; aborted: cut off; open: it lasts; interrupted: the worker died."""
    bytes_in: int
    """Of the request's body, as far as it was sent on."""
    bytes_out: int
    """Of the answer's body."""
    duration_milliseconds: float
    """From the head of the request to the end; of an open one, to when this was noted."""
    user_agent: str | None
    code: str | None
    """Of the refusal; null where it was not refused."""
    secret_id: str | None
    """Which secret of the key: after a rotation it has two for a while."""


class Event(Shape):
    """One entry: a change, or a request. Who, from where, to what, and what came of it."""

    id: str
    kind: EntryKind
    at: datetime
    """When, in UTC; of a request, when its head was whole."""
    actor: ActorShape
    action: str
    """What was done: the kind of thing and a verb, such as key.revoke; request for a request."""
    target: EventTarget
    address: str | None
    """Where the call came from; null for the system."""
    request_id: str | None
    """The X-Request-ID; null for the system."""
    before: Told
    """The fields that changed, as they were; null where there were none."""
    after: Told
    """The fields that changed, as they are since; null where the thing is gone."""
    request: RequestDetail | None
    """Null for a change."""


class EventPage(Shape):
    """One page of what is on record; `next_cursor` is null on the last one."""

    items: tuple[Event, ...]
    next_cursor: str | None
    """Give it as `cursor` to get the next page; null on the last one."""


class HourCount(Shape):
    """How many requests of one hour had one outcome."""

    hour: datetime
    """When it began, in UTC."""
    outcome: str
    """1xx (a tunnel) to 5xx: the class of a whole answer's status; `refused:` and the code of a refusal; aborted."""
    requests: int


class HourCounts(Shape):
    """Requests by hour and outcome, the oldest hour first; where there were none, there is no entry."""

    items: tuple[HourCount, ...]
