"""`client.keys`: make, find, change and end keys.

Invariant: a secret comes back from `create` and `rotate` alone. Changes return when they are committed; `propagation`
says how many workers have them.

Made from the file of this name in `asynchronous` by `python -m gateway.client.generate`.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from gateway.client.call import Call
from gateway.client.requests import (
    UNCHANGED,
    Expiry,
    Unchanged,
    body,
    idempotency_fields,
    if_match_fields,
    new_body,
    path,
)
from gateway.client.shapes import ChangedImportedKey, ChangedIssuedKey, ChangedKey, Key, Page, Verification
from gateway.client.synchronous.paging import each_item
from gateway.client.synchronous.transport import Transport

Sort = Literal["created", "name", "expires", "last_used"]
Status = Literal["active", "revoked", "expired", "disabled", "expires_soon"]


class Keys:
    """The keys of the caller's organization, or a member's own."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        description: str | None = None,
        expires: Expiry | None = None,
        permissions: Iterable[str] | None = None,
        owner: str | None = None,
        allowed_origins: Iterable[str] | None = None,
        idempotency_key: str | None = None,
    ) -> ChangedIssuedKey:
        """Make a key. Its `secret` is in this answer and in no other.

        `expires`: None is the organization's default. `permissions`: None inherits the owner's. `owner`: an id, a
        member's e-mail or a service account's name; None is the caller. `idempotency_key`: made here unless given;
        give one to repeat a call of an earlier run of your program.
        """
        fields = new_body(
            name=name,
            description=description,
            expires=expires,
            permissions=permissions,
            owner=owner,
            allowed_origins=allowed_origins,
        )
        headers = idempotency_fields(idempotency_key)
        call = Call("POST", path("keys"), ChangedIssuedKey, body=fields, fields=headers, repeatable=True)
        return self._transport.send(call)

    def list(
        self,
        *,
        status: Status | None = None,
        owner: str | None = None,
        search: str | None = None,
        unused_days: int | None = None,
        sort: Sort | None = None,
        limit: int | None = None,
    ) -> Iterator[Key]:
        """Every key that fits, page by page as they are asked for. `limit`: the size of a page."""
        return each_item(
            lambda cursor: self.page(
                status=status,
                owner=owner,
                search=search,
                unused_days=unused_days,
                sort=sort,
                cursor=cursor,
                limit=limit,
            )
        )

    def page(
        self,
        *,
        status: Status | None = None,
        owner: str | None = None,
        search: str | None = None,
        unused_days: int | None = None,
        sort: Sort | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Page[Key]:
        """One page of the list. `search`: the beginning of a name, or the last six characters of a secret."""
        query = {
            "status": status,
            "owner": owner,
            "search": search,
            "unused_days": unused_days,
            "sort": sort,
            "cursor": cursor,
            "limit": limit,
        }
        return self._transport.send(Call("GET", path("keys"), Page[Key], query=query, repeatable=True))

    def get(self, key_id: str) -> Key:
        """One key, without its secret."""
        return self._transport.send(Call("GET", path("keys", key_id), Key, repeatable=True))

    def update(
        self,
        key_id: str,
        *,
        name: str | Unchanged = UNCHANGED,
        description: str | Unchanged = UNCHANGED,
        expires: Expiry | Unchanged = UNCHANGED,
        permissions: Iterable[str] | Unchanged | None = UNCHANGED,
        allowed_origins: Iterable[str] | Unchanged | None = UNCHANGED,
        if_match: int | None = None,
    ) -> ChangedKey:
        """Change what is given. `permissions=None` inherits the owner's; `allowed_origins=None` allows every one.

        `if_match`: the `version` that the change is based on; PreconditionFailedError where there is a newer one.
        """
        fields = body(
            name=name,
            description=description,
            expires=expires,
            permissions=permissions,
            allowed_origins=allowed_origins,
        )
        headers = if_match_fields(if_match)
        call = Call("PATCH", path("keys", key_id), ChangedKey, body=fields, fields=headers)
        return self._transport.send(call)

    def disable(self, key_id: str) -> ChangedKey:
        """Stop the key until it is enabled again."""
        return self._transport.send(Call("POST", path("keys", key_id, "disable"), ChangedKey))

    def enable(self, key_id: str) -> ChangedKey:
        """Let a disabled key work again."""
        return self._transport.send(Call("POST", path("keys", key_id, "enable"), ChangedKey))

    def revoke(self, key_id: str, *, reason: str | None = None) -> ChangedKey:
        """End the key for good; it stays in the list."""
        fields = new_body(reason=reason)
        return self._transport.send(Call("POST", path("keys", key_id, "revoke"), ChangedKey, body=fields))

    def rotate(self, key_id: str, *, grace: Literal["0", "1h", "24h", "7d"] | None = None) -> ChangedIssuedKey:
        """Give the key a new `secret`; the old one stays good for `grace`, None being 24 hours."""
        fields = new_body(grace=grace)
        return self._transport.send(Call("POST", path("keys", key_id, "rotate"), ChangedIssuedKey, body=fields))

    def finish_rotation(self, key_id: str) -> ChangedKey:
        """End the old secret now."""
        return self._transport.send(Call("POST", path("keys", key_id, "finish-rotation"), ChangedKey))

    def delete(self, key_id: str) -> ChangedKey:
        """Remove the key for good, from the list too; the answer is the last state of it."""
        return self._transport.send(Call("DELETE", path("keys", key_id), ChangedKey))

    def import_key(
        self,
        name: str,
        *,
        sha256: str,
        entropy_bits: int,
        tail: str | None = None,
        prefix: str | None = None,
        description: str | None = None,
        expires: Expiry | None = None,
        permissions: Iterable[str] | None = None,
        owner: str | None = None,
        allowed_origins: Iterable[str] | None = None,
        idempotency_key: str | None = None,
    ) -> ChangedImportedKey:
        """Let a secret of another system work here, by its SHA-256 (hex or base64), without ever sending it.

        `entropy_bits`: how much of it is random, on your word; what can be guessed is no key.
        """
        fields = new_body(
            name=name,
            sha256=sha256,
            entropy_bits=entropy_bits,
            tail=tail,
            prefix=prefix,
            description=description,
            expires=expires,
            permissions=permissions,
            owner=owner,
            allowed_origins=allowed_origins,
        )
        headers = idempotency_fields(idempotency_key)
        call = Call("POST", path("keys", "import"), ChangedImportedKey, body=fields, fields=headers, repeatable=True)
        return self._transport.send(call)

    def verify(
        self, secret: str, *, permissions: Iterable[str] | None = None, origin: str | None = None
    ) -> Verification:
        """Whether a secret is good, and for all of `permissions`: for services that cannot stand behind the proxy.

        `origin`: the `Origin` that it came with, as the browser sent it. Without one, a key with allowed origins is
        no good.
        """
        fields = new_body(key=secret, permissions=permissions, origin=origin)
        return self._transport.send(Call("POST", path("keys", "verify"), Verification, body=fields, repeatable=True))
