"""`client.events`: the audit trail of changes.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Iterator

from gateway.client.call import Call
from gateway.client.requests import Moment, moment, path
from gateway.client.shapes import Event, Page
from gateway.client.synchronous.paging import each_item
from gateway.client.synchronous.transport import Transport


class Events:
    """What was changed, by whom; newest first. A member sees what concerns themselves."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        key: str | None = None,
        target: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Every event that fits, page by page as they are asked for."""
        return each_item(
            lambda cursor: self.page(
                actor=actor,
                action=action,
                key=key,
                target=target,
                since=since,
                until=until,
                cursor=cursor,
                limit=limit,
            )
        )

    def page(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        key: str | None = None,
        target: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page[Event]:
        """One page of the trail. `key` and `target` are ids; `action` is such as "key.revoke".

        `actor` is the id of a key; an owner's id, e-mail address or name, for all of their keys; or "system".
        """
        query = {
            "actor": actor,
            "action": action,
            "key": key,
            "target": target,
            "from": None if since is None else moment(since),
            "to": None if until is None else moment(until),
            "cursor": cursor,
            "limit": limit,
        }
        return self._transport.send(Call("GET", path("audit"), Page[Event], query=query, repeatable=True))
