"""Who sent what comes on a connection, and what the upstream is told of that: address, forwarding fields, request id.

Invariant: what a client says of itself counts for nothing; a proxy of `trusted_proxies` is believed. What was made for
the last request is kept, since a client repeats itself.
"""

import asyncio
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from gateway.proxy.forwarding import believed_address, forwarding_fields
from gateway.proxy.request_head import FORWARDED_FOR, REQUEST_ID, SHORTEST_SECRET_BYTES, VIA, RequestHead, presented

if TYPE_CHECKING:
    from gateway.proxy.worker import Worker

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What ids look like that proxies in front send (UUIDs, trace ids, base64), and what JSON need not escape."""


class ClientOrigin:
    """See the module."""

    __slots__ = ("_forwarding", "_seen", "_worker", "peer", "trusted")

    def __init__(self, transport: asyncio.BaseTransport, worker: "Worker") -> None:
        peer: tuple[str, ...] = transport.get_extra_info("peername") or ("",)
        address = peer[0].partition("%")[0].removeprefix("::ffff:")
        networks = worker.trusted_networks
        self._worker = worker
        self.peer = address.encode()
        """The address at the other end."""
        self.trusted = bool(networks and address) and any(ip_address(address) in network for network in networks)
        """Whether it is a proxy whose word on the client is believed."""
        self._seen: tuple[bytes | None, bytes] = (None, b"")
        self._forwarding = (b"", b"")

    def request_id_field(self, head: RequestHead) -> bytes:
        """A trusted proxy's X-Request-ID, or a new one.

        Proxies hand on what a client sent: one with a key in it would stand in logs and answers.
        """
        if self.trusted:
            received = head.special[REQUEST_ID]
            if received and _REQUEST_ID.fullmatch(received) and not self._holds_credential(received, head):
                return b"X-Request-ID: " + received
        return self._worker.request_id_field()

    def _holds_credential(self, text: bytes, head: RequestHead) -> bool:
        if self._worker.own_form.search(text):
            return True
        return any(len(each) >= SHORTEST_SECRET_BYTES and text.find(each) >= 0 for each in presented(head))

    def address(self, head: RequestHead) -> bytes:
        """Who sent a request: the peer, or whom the trusted proxies in front saw; the last answer is kept."""
        chain = head.special[FORWARDED_FOR] if self.trusted else None
        if chain is None:
            return self.peer
        if chain != self._seen[0]:
            self._seen = chain, believed_address(chain, self.peer, self._worker.trusted_networks)
        return self._seen[1]

    def forwarding_fields(self, head: RequestHead) -> bytes:
        """X-Forwarded-* and Forwarded for a request; the last ones are kept, since a client repeats its Host."""
        worker = self._worker
        tls = worker.tls is not None
        if self.trusted or head.special[VIA] is not None:
            return forwarding_fields(head, self.peer, trusted=self.trusted, tls=tls, via=worker.settings.via)
        host, fields = self._forwarding
        if host != head.host or not fields:
            fields = forwarding_fields(head, self.peer, trusted=False, tls=tls, via=worker.settings.via)
            self._forwarding = (head.host, fields)
        return fields
