"""The requests of the mixed load: which kinds, how they look on the wire, and what may be answered to each.

Invariant: all of it follows from the seed and the request's number. How often the API may see a request is written down
before it is sent (`SENT`, `TWICE`), and what its client learned of that when it was answered (`SEEN`, `UNSEEN`).
"""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING, Any, Final

from tests.e2e.mixed_words import (
    FAULTS,
    LARGE_BYTES,
    PREFIX,
    SUMMED,
    SURVIVED,
    answer_body,
    digest_of,
    payload,
    summary,
    token_of,
)

if TYPE_CHECKING:
    from tests.e2e.mixed_answer import Answer

SENT: Final = 8
TWICE: Final = 4
"""It has no body and is idempotent: the API may see it twice."""
UNSEEN: Final = 2
"""It was refused: the API may not see it."""
SEEN: Final = 1
"""Its answer is the API's."""

_SHARES: Final = {
    "small": 430,
    "pair": 120,  # two at once
    "head": 40,
    "ten": 120,
    "chunks": 60,
    "until-close": 15,
    "post": 80,
    "post-chunked": 40,
    "expect": 15,
    "no-content": 20,
    "not-modified": 20,
    "events": 4,
    "socket": 3,
    "download": 1,
    "upload": 1,
    "upload-chunked": 1,
    "abandoned": 1,
    "abandoned-upload": 2,
    "missing_api_key": 8,
    "invalid_api_key": 8,
    "revoked_api_key": 8,
    "insufficient_permissions": 4,
    "no_route": 4,
    "refused-post": 5,
    "refused-expect": 2,
    **dict.fromkeys(FAULTS, 2),
    "stall": 1,
    "stall-in-body": 1,
}
_REFUSED: Final = {
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "revoked_api_key": 401,
    "insufficient_permissions": 403,
    "no_route": 404,
}
KINDS: Final = frozenset(_SHARES) - {"pair"}
"""All that are asked for within a thousand requests or two."""
_ALL: Final = sum(_SHARES.values()) + _SHARES["pair"]
_IN_PAIRS: Final = ("small", "ten", "chunks", "head", "small", "not-modified", "invalid_api_key", "no-content")
_POSTS: Final = SUMMED | {"abandoned-upload", "refused-post", "refused-expect"}
_CHUNKED: Final = frozenset({"post-chunked", "upload-chunked", "close-unanswered-post"})
_LARGE: Final = frozenset({"upload", "upload-chunked", "abandoned-upload"})
_OWN: Final = frozenset({b"content-type", b"cache-control", b"x-request-id", b"content-length", b"date", b"connection"})


def share(kind: str) -> float:
    """How many of all requests are of this kind, at least."""
    return _SHARES[kind] / _ALL


class Wrong(Exception):
    """The answer is not this request's, or not right."""


class Site:
    """What requests are made of, as the parent told it."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.keys = [(secret, key.encode()) for secret, key in told["keys"]]
        self.owner: bytes = told["owner"].encode()
        self.bad: dict[str, str] = told["bad"]
        """Secrets by the code of their refusal."""
        chance = random.Random(told["seed"])  # noqa: S311 - repeatable on purpose
        self._turns = [kind for kind, count in _SHARES.items() for _ in range(count)]
        chance.shuffle(self._turns)
        self._turn = 0
        if told.get("kinds"):
            self._turns = [kind for kind in self._turns if kind in told["kinds"]]

    def turn(self, number: int) -> list[Ask]:
        """The next request, with this number; or two, to be sent at once."""
        kind = self._turns[self._turn % len(self._turns)]
        self._turn += 1
        if kind != "pair":
            return [Ask(self, number, kind)]
        return [Ask(self, each, _IN_PAIRS[each // 2 % len(_IN_PAIRS)]) for each in (number, number + 1)]


class Ask:
    """One request, and what is known of it until its answer has come."""

    __slots__ = (
        "_site",
        "bytes_in",
        "code",
        "head_only",
        "held",
        "key",
        "kind",
        "method",
        "number",
        "path",
        "sent",
        "since",
        "twice",
        "wire",
    )

    def __init__(self, site: Site, number: int, kind: str) -> None:
        self._site, self.number, self.kind = site, number, kind
        secret, self.key = site.keys[number * 7919 % len(site.keys)]
        self.code = kind if kind in _REFUSED else "revoked_api_key" if kind.startswith("refused-") else ""
        if self.code:
            secret = site.bad.get(self.code, secret)
        posts = kind in _POSTS or (kind == "reset-in-head" and number % 4 > 1)
        self.method = "POST" if posts else "HEAD" if kind == "head" else "GET"
        self.head_only = kind == "head"
        self.twice = not posts
        place = {"no_route": "/nowhere/", "insufficient_permissions": "/admin/"}.get(kind, PREFIX + kind + "/")
        token = token_of(number).decode()
        self.path = place + token
        fields = [f"{self.method} {self.path}?t={token} HTTP/1.1", "Host: mixed.example", f"X-Token: {token}"]
        if kind != "missing_api_key":
            fields.append(f"X-API-KEY: {secret}" if number % 3 else f"Authorization: Bearer {secret}")
        body = self._body(fields) if posts else b""
        self.bytes_in = len(body)
        if kind == "socket":
            nonce = base64.b64encode(token_of(number)).decode()
            fields += [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {nonce}",
            ]
        framed = _in_chunks(body) if kind in _CHUNKED else body
        head = "\r\n".join([*fields, "", ""]).encode()
        self.held = framed if kind in {"expect", "refused-expect"} else b""
        """The body, which waits to be asked for."""
        self.wire = head if self.held else head + framed
        self.sent = 0
        self.since = 0.0

    def _body(self, fields: list[str]) -> bytes:
        size = LARGE_BYTES + self.number % 4096 if self.kind in _LARGE else 16 + self.number % 2000
        if self.kind in _CHUNKED:
            fields.append("Transfer-Encoding: chunked")
        else:
            fields.append(f"Content-Length: {size}")
        if self.kind in {"expect", "refused-expect"}:
            fields.append("Expect: 100-continue")
        body = payload(self.number, size)
        return body[: size // 3] if self.kind == "abandoned-upload" else body

    def expected(self) -> bytes:
        """The body of the right answer."""
        if self.head_only:
            return b""
        if self.kind in SUMMED:
            digest = digest_of(payload(self.number, self.bytes_in))
            return summary(self.number, self.key, self._site.owner, self.bytes_in, digest)
        return answer_body(self.kind, self.number, self.key, self._site.owner)

    def check_head(self, answer: Answer) -> None:
        """That of an answer of the API's: whose it is."""
        fields = answer.fields
        whose = (fields.get(b"x-seen-token"), fields.get(b"x-seen-key"), fields.get(b"x-seen-owner"))
        if whose != (token_of(self.number), self.key, self._site.owner):
            raise Wrong(f"the answer of another request: {whose}")
        if self.code:
            raise Wrong("let through")

    def check_part(self, answer: Answer) -> None:
        """That of an answer that broke off: as far as it came, it has to be right."""
        if answer.begun and b"x-seen-token" in answer.fields:
            self.check_head(answer)
            if not self.expected().startswith(answer.body):
                raise Wrong("the part of a body that came is not right")

    def judged(self, answer: Answer) -> tuple[str, str]:
        """The class and the code of an answer that is whole: of `right`, `refused`, `fault`, or `failed` for others."""
        if answer.interim not in ([], [100]) or (answer.interim and self.kind != "expect"):
            raise Wrong(f"interim answers {answer.interim}")
        if b"x-seen-token" not in answer.fields:
            return self._judged_own(answer)
        self.check_head(answer)
        if self.kind in FAULTS and self.kind not in SURVIVED:
            raise Wrong("an answer that the API did not end is whole")
        status = {"no-content": 204, "not-modified": 304, "socket": 101}.get(self.kind, 200)
        if answer.status != status:
            raise Wrong(f"{answer.status} for {status}")
        if answer.body != self.expected():
            raise Wrong("another body")
        return "right", ""

    def _judged_own(self, answer: Answer) -> tuple[str, str]:
        """The gateway's own answer."""
        extra = set(answer.fields) - _OWN - {b"www-authenticate", b"retry-after"}
        if extra:
            raise Wrong(f"fields of somebody else's in the gateway's answer: {extra}")
        if self.head_only:  # there is no more than the status to tell
            return "failed", {502: "upstream_unreachable", 504: "upstream_timeout"}.get(answer.status, "")
        try:
            told = json.loads(answer.body)
            code, status, request_id = told["code"], told["status"], told["request_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise Wrong("no problem document") from error
        if status != answer.status or request_id.encode() != answer.fields.get(b"x-request-id"):
            raise Wrong("a problem document of another answer")
        if self.code:
            if (status, code) != (_REFUSED[self.code], self.code):
                return "failed", code
            return "refused", code
        if f"{status} {code}" in FAULTS.get(self.kind, ()):
            return "fault", code
        return "failed", code


def _in_chunks(body: bytes) -> bytes:
    """In pieces that do not fit the gateway's reads."""
    step = max(7, len(body) // 5)
    pieces = (body[at : at + step] for at in range(0, len(body), step))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
