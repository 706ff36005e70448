"""`client.events`: what is on record, changes and requests."""

from collections.abc import AsyncIterator
from typing import Literal

from gateway.client.asynchronous.paging import each_item
from gateway.client.asynchronous.transport import AsyncTransport
from gateway.client.call import Call
from gateway.client.requests import Moment, moment, path
from gateway.client.shapes import AuditVerification, Event, HourCounts, Page

Kind = Literal["change", "request"]


class AsyncEvents:
    """What was changed and what was asked for, by whom; newest first. A member sees what concerns themselves."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        kind: Kind | None = None,
        actor: str | None = None,
        action: str | None = None,
        key: str | None = None,
        target: str | None = None,
        status: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Event]:
        """Every entry that fits, page by page as they are asked for."""
        return each_item(
            lambda cursor: self.page(
                kind=kind,
                actor=actor,
                action=action,
                key=key,
                target=target,
                status=status,
                code=code,
                request_id=request_id,
                since=since,
                until=until,
                cursor=cursor,
                limit=limit,
            )
        )

    async def page(
        self,
        *,
        kind: Kind | None = None,
        actor: str | None = None,
        action: str | None = None,
        key: str | None = None,
        target: str | None = None,
        status: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page[Event]:
        """One page of what is on record. `key` and `target` are ids; `action` is such as "key.revoke".

        `actor` is the id of a key; an owner's id, e-mail address or name, for all of their keys; or "system".
        `status` and `code` show requests alone: "404", "4xx", "refused"; "expired_api_key". `request_id` is the
        X-Request-ID of an answer.
        """
        query = {
            "kind": kind,
            "actor": actor,
            "action": action,
            "key": key,
            "target": target,
            "status": status,
            "code": code,
            "request_id": request_id,
            "from": None if since is None else moment(since),
            "to": None if until is None else moment(until),
            "cursor": cursor,
            "limit": limit,
        }
        return await self._transport.send(Call("GET", path("audit"), Page[Event], query=query, repeatable=True))

    async def counts(
        self, *, key: str | None = None, since: Moment | None = None, until: Moment | None = None
    ) -> HourCounts:
        """How many requests there were, by hour and outcome; by default of the last day. `key` is an id."""
        query = {
            "key": key,
            "from": None if since is None else moment(since),
            "to": None if until is None else moment(until),
        }
        return await self._transport.send(
            Call("GET", path("audit", "counts"), HourCounts, query=query, repeatable=True)
        )

    async def verify(self) -> AuditVerification:
        """Whether any request is missing on record. For the operator's admins."""
        return await self._transport.send(Call("GET", path("audit", "verify"), AuditVerification, repeatable=True))
