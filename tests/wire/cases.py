"""The requests of the battery as data: what is sent, and what must come of it.

Four kinds. `Refused`: no request at all, so the connection ends and nothing of it goes on. `Denied`: a request that
goes no further. `Answered`: one that the gateway grants itself. `Forwarded`: a request that reaches the upstream once,
byte for byte as said here.
`cases_battery` tries each in all ways in which its bytes can arrive. Host and paths are short: every byte of a head is
an offset to try.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.proxy.harness import KEY_FIELD, OTHER_SECRET, SECRET

Verdict = tuple[int, str]
"""Status and code of an answer of the gateway's own."""

MALFORMED: Final = (400, "malformed_request")
TARGET: Final = (400, "ambiguous_target")
BODY: Final = (400, "malformed_body")
CONFLICT: Final = (400, "conflicting_credentials")
VERSION: Final = (505, "unsupported_http_version")
METHOD: Final = (405, "method_not_allowed")
CODING: Final = (501, "transfer_coding_not_supported")
EXPECTATION: Final = (417, "expectation_failed")
TOO_LARGE: Final = (413, "body_too_large")
MISSING: Final = (401, "missing_api_key")
INVALID: Final = (401, "invalid_api_key")

HOST: Final = b"Host: h\r\n"
OWNER: Final = b"X-Consumer-ID: mem_1\r\nX-Consumer-Username: ann@example.com\r\nX-Organization-ID: org_1\r\n"
KEYED: Final = OWNER + b"X-Credential-Identifier: key_1\r\n"
"""What the upstream is told of the key of these tests."""
ANONYMOUS: Final = b"X-Anonymous-Consumer: true\r\n"
NOBODY: Final = b""
SECOND: Final = b"GET /2 HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD + b"\r\n"
"""Stands behind each request."""
UPSTREAM_HOST: Final = b"{upstream}"
"""Stands for the target's authority in what is expected."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No request. `begins`: its head is one, so the upstream may have seen that, and never a whole request."""

    name: str
    sends: bytes
    verdict: Verdict
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """A request that goes no further. `ends`: so does the connection; None: that depends on how its body arrived."""

    name: str
    sends: bytes
    verdict: Verdict
    ends: bool | None = False
    fields: bytes = b""
    """Lines of the answer that others of its status do not have."""
    detail: str | None = None
    """All that it says; None: that is not looked at."""
    behind: Denied | None = None
    """What comes of the request behind it, where that is not served either."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that the gateway answers in the API's place. `ends`: as of Denied; `body`: None where there is none."""

    name: str
    sends: bytes
    status: int
    fields: bytes = b""
    body: bytes | None = None
    ends: bool | None = False


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A request that goes on: its line without the version, and its fields from behind Host up to the identity."""

    name: str
    sends: bytes
    line: bytes = b"GET /"
    fields: bytes = b""
    body: bytes = b""
    who: bytes = KEYED
    host: bytes = b"h"
    """As X-Forwarded-Host says it."""
    way: bytes | None = None
    """The lines about the request's way here, where they are not the usual ones."""
    host_field: bytes = UPSTREAM_HOST
    ends: bool = False
    """The connection ends with its answer."""
    told: bytes = b""
    """Lines that the client gets of the answer, besides those that each answer has."""

    def head(self, upstream: bytes, request_id: bytes) -> bytes:
        """The whole head that the upstream must get."""
        way = usual_way(self.host) if self.way is None else self.way
        host = self.host_field.replace(UPSTREAM_HOST, upstream)
        parts = [self.line, b" HTTP/1.1\r\nHost: ", host, b"\r\n", self.fields, self.who, way]
        return b"".join([*parts, b"X-Request-ID: ", request_id, b"\r\n\r\n"])


Case = Refused | Denied | Answered | Forwarded

LESSER: Final = b"imported-from-elsewhere"
"""A good key of another system's form, with one permission."""
EXPIRED: Final = b"imported-and-expired"
REVOKED: Final = b"imported-and-revoked"
DISABLED: Final = b"imported-and-disabled"
FOR_PAGES: Final = b"imported-for-a-page"
PAGE: Final = b"https://app.test"
"""The origin of the pages that it is for."""
KEYS: Final[dict[bytes, dict[str, object]]] = {
    LESSER: {"owner_permissions": ("other:use",)},
    EXPIRED: {"expires_at": 1.0},
    REVOKED: {"revoked_at": 1.0},
    DISABLED: {"disabled_at": 1.0},
    FOR_PAGES: {"allowed_origins": (PAGE.decode(),)},
}
"""What the store knows besides SECRET."""


def usual_way(host: bytes) -> bytes:
    """X-Forwarded-* and Forwarded for a client that nobody trusts."""
    named = b"X-Forwarded-Host: %b\r\n" % host if host else b""
    element = b';host="%b"' % host if host else b""
    own = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
    return own + named + b"Forwarded: for=127.0.0.1%b;proto=http\r\n" % element


# --- how requests are written -----------------------------------------------------------------------------------------


def line(text: bytes) -> bytes:
    """A keyed request with this request line."""
    return text + b"\r\n" + HOST + KEY_FIELD + b"\r\n"


def path(target: bytes) -> bytes:
    """A keyed GET of this target."""
    return line(b"GET " + target + b" HTTP/1.1")


def hosts(lines: bytes) -> bytes:
    """A keyed GET with these lines where its Host should be."""
    return b"GET / HTTP/1.1\r\n" + lines + KEY_FIELD + b"\r\n"


def fields(lines: bytes) -> bytes:
    """A keyed GET with these lines, the last one without its end, between two ordinary fields."""
    return b"GET / HTTP/1.1\r\n" + HOST + KEY_FIELD + lines + b"\r\nZ: z\r\n\r\n"


def unkeyed(lines: bytes = b"", target: bytes = b"/") -> bytes:
    """A GET with these whole lines and no key."""
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def framed(lines: bytes, body: bytes = b"hello", version: bytes = b"1.1", method: bytes = b"POST") -> bytes:
    """A keyed POST with these framing fields, the last one without its end, and this body."""
    return method + b" / HTTP/" + version + b"\r\n" + HOST + KEY_FIELD + lines + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    """A keyed POST with a chunked body, as it stands on the wire."""
    return framed(b"Transfer-Encoding: chunked", body)


__all__ = ["KEY_FIELD", "OTHER_SECRET", "SECRET"]
