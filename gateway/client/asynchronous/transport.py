"""Sends calls: the one place of the client that does I/O.

Invariant: whatever happens to a request comes out as a `ClientError`, and neither a secret nor a header field is in its
text. Turned down: a retrying transport below httpx; it would know bytes, not which calls may be repeated.
"""

import asyncio
import itertools
from typing import Final

import httpx

from gateway import __version__
from gateway.client.call import AnyShape, Call
from gateway.client.credentials import is_loopback
from gateway.client.errors import ConnectionFailed, InvalidArgument
from gateway.client.retries import pause_after_answer, pause_after_failure

CONNECT_TIMEOUT_SECONDS: Final = 5.0
# What is raised before anything was sent.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class AsyncTransport:
    """Connections to one admin API, with one key."""

    def __init__(
        self, api_key: str, base_url: str, *, timeout_seconds: float, retries: int, http: httpx.AsyncClient | None
    ) -> None:
        """Keep what every call needs. `http`: a client of the caller's own, which stays theirs to close."""
        self._fields = {"X-API-KEY": api_key, "User-Agent": f"keygate-client/{__version__}"}
        self._base_url = base_url
        self._retries = retries
        self._timeout = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS))
        self._owned = http is None
        self._http = httpx.AsyncClient(trust_env=not is_loopback(base_url)) if http is None else http

    async def send(self, call: Call[AnyShape]) -> AnyShape:
        """Return the answer; raises APIError and ConnectionFailed."""
        for attempt in itertools.count():
            try:
                response = await self._http.request(
                    call.method,
                    self._base_url + call.path,
                    params=call.parameters,
                    content=call.content,
                    headers=self._fields | call.header_fields,
                    timeout=self._timeout,
                    follow_redirects=False,  # the key is for this host alone
                )
            except httpx.InvalidURL as error:
                raise InvalidArgument(f"no such request can be sent: {error}") from None
            except httpx.RequestError as error:
                sent = not isinstance(error, _NOT_SENT)
                pause = pause_after_failure(attempt, sent=sent, repeatable=call.repeatable)
                if pause is None or attempt >= self._retries:
                    raise ConnectionFailed(self._failure(error), may_have_happened=sent) from error
            else:
                retry_after = response.headers.get("Retry-After")
                pause = pause_after_answer(response.status_code, retry_after, attempt, repeatable=call.repeatable)
                if pause is None or attempt >= self._retries:
                    return call.read(response.status_code, response.headers.get("X-Request-ID"), response.content)
            await asyncio.sleep(pause)
        raise AssertionError  # counting does not end

    def _failure(self, error: Exception) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"The admin API at {self._base_url} did not answer in time."
        if isinstance(error, _NOT_SENT):
            cure = "Does the gateway run, and is this the address of its control listener?"
            return f"The admin API at {self._base_url} cannot be reached: {error}. {cure}"
        return f"The connection to the admin API at {self._base_url} broke off before an answer."

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()
