"""Requests on record, as entries of the one list: what to ask the audit store for, and how an entry of it reads.

Invariant: the bounds of what a caller may read are set here first, and filters only narrow them: a filter that asks for
more than that finds nothing. `None` for a query means that no request can fit, and that the store need not be asked.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, cast

from gateway.keys.authority import ADMIN, Authority
from gateway.keys.identifiers import is_id
from gateway.keys.request_entry import Outcome, RequestEntry, entry_id
from gateway.services.audit_filter import REQUEST, ActedBy, AuditFilter, Place, WantedStatus, read_status
from gateway.services.audit_shapes import Event, EventTarget, OutcomeWord, RequestDetail
from gateway.services.shapes import ActorShape
from gateway.store.audit_query import EntryQuery

ANONYMOUS: Final = "Anonymous"
_GATEWAY: Final = "gateway"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_WORDS: Final = {outcome: cast("OutcomeWord", outcome.name.lower()) for outcome in Outcome}


def entry_query(
    authority: Authority, wanted: AuditFilter, actor: ActedBy, beyond: Place | None, limit: int
) -> EntryQuery | None:
    """Return what to ask for; None where no request can fit. `wanted` has no faults."""
    target = wanted.target
    if not wanted.asks_for_requests or actor.system or (target is not None and not is_id("key", target)):
        return None
    everything = authority.administers and authority.allows(ADMIN)
    keys = {each for each in (wanted.key, target, actor.key_id) if each is not None}
    owners = {each for each in (None if everything else authority.owner_id, actor.owner_id) if each is not None}
    if len(keys) > 1 or len(owners) > 1:
        return None
    status = WantedStatus() if wanted.status is None else read_status(wanted.status)
    return EntryQuery(
        organization_id=authority.organization_id,
        anonymous=authority.operates and not keys and not owners,
        owner_id=next(iter(owners), None),
        key_id=next(iter(keys), None),
        statuses=status.statuses,
        outcome=status.outcome,
        code=wanted.code,
        request_id=wanted.request_id,
        since=None if wanted.since is None else _microseconds(wanted.since),
        until=None if wanted.until is None else _microseconds(wanted.until),
        before=None if beyond is None else (_microseconds(beyond.at), beyond.id),
        limit=limit,
    )


def request_event(spool: str, entry: RequestEntry) -> Event:
    """Return the entry as it reads."""
    return Event(
        id=entry_id(spool, entry.position),
        kind="request",
        at=_EPOCH + timedelta(microseconds=entry.at),
        actor=_actor(entry),
        action=REQUEST,
        target=_target(entry),
        address=entry.address or None,
        request_id=entry.request_id or None,
        before=None,
        after=None,
        request=RequestDetail(
            method=entry.method or None,
            path=entry.path or None,
            route=entry.route or None,
            upstream=entry.upstream or None,
            status=entry.status or None,
            outcome=_WORDS[entry.outcome],
            bytes_in=entry.bytes_in,
            bytes_out=entry.bytes_out,
            duration_milliseconds=entry.duration / 1000,
            user_agent=entry.user_agent or None,
            code=entry.code or None,
            secret_id=entry.secret_id or None,
        ),
    )


def _actor(entry: RequestEntry) -> ActorShape:
    if not entry.key_id:
        return ActorShape(id=None, text=ANONYMOUS)
    return ActorShape(id=entry.key_id, text=f"API Key: {entry.key_name}")


def _target(entry: RequestEntry) -> EventTarget:
    """Return the key, of which this is a use; without one what was asked for, or the gateway where no route fits."""
    if entry.key_id:
        return EventTarget(kind="key", id=entry.key_id, name=entry.key_name)
    if entry.route:
        return EventTarget(kind="route", id=entry.route, name=entry.route)
    return EventTarget(kind=_GATEWAY, id=_GATEWAY, name=_GATEWAY)


def _microseconds(moment: datetime) -> int:
    """Return the moment, or 0 for one before 1970, which no entry is older than and no store has to count in days."""
    return max(0, (moment - _EPOCH) // _MICROSECOND)
