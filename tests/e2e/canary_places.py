"""Every place and broken form in which a client could send a secret, as the bytes that it sends.

A list and nothing else: what becomes of them is `test_canary`'s business. `c` makes the canary of a place; `key` is the
line of a key that works, for requests that have to get past the check to reach what is of interest.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.canary import Canaries

Place = tuple[str, bytes]
_SPLITS: Final = {
    "CR": "\r",
    "LF": "\n",
    "NUL": "\0",
    "CRLF": "\r\n",
    "a fold": "\r\n ",
    "a control byte": "\x01",
    "DEL": "\x7f",
    "a blank": " ",
    "a tab": "\t",
    "a comma": ",",
    "a byte beyond ASCII": "\xe9",
}
_VALUES: Final = {
    "plain": "{}",
    "Bearer": "Bearer {}",
    "Bearer, a tab": "Bearer\t{}",
    "Bearer twice": "Bearer Bearer {}",
    "bearer quoted": 'bearer "{}"',
    "Basic": "Basic {}",
    "quoted": '"{}"',
    "single quotes": "'{}'",
    "with blanks": "  \t{}\t ",
    "named": "api_key={}",
    "Token": "Token {}",
    "Digest": 'Digest username="u", response="{}"',
    "doubled": "{0}{0}",
    "a list": "{0}, {0}",
    "cut": "{0:.40}",
    "in upper case": "{0!s}",
}
_NAMES: Final = ("X-API-KEY", "x-api-key", "Authorization")
_MISSPELT: Final = (
    *("X-APIKEY", "X_API_KEY", "X-API_KEY", "X-API-KEYS", "Api-Key", "Authorisation", "Proxy-Authorization"),
    *("X-API-KEY ", "X-API-KEY\t", " X-API-KEY", "X API KEY", "X-API-KEY\0", "X-\xc4PI-KEY", "X-API-KEY:"),
)
_FIELDS: Final = (
    *("Host", "Cookie", "X-Request-ID", "Origin", "X-Tenant", "Expect", "Upgrade", "Connection", "Referer", "Via"),
    *("User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Consumer-ID", "X-Credential-Identifier"),
    *("TE", "X-HTTP-Method-Override", "X-Original-URL", "Content-Type", "Content-Length", "Transfer-Encoding"),
    *("Keep-Alive", "Sec-WebSocket-Protocol", "Sec-WebSocket-Key", "Access-Control-Request-Headers", "If-None-Match"),
)
_HEAD: Final = "GET / HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n"


def _request(*lines: str, body: bytes = b"") -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


def credentials(c: Callable[[str], str], path: str = "/") -> Iterator[Place]:
    """Where the key belongs, and near it; nobody's key."""
    head = _HEAD.replace("/", path, 1)
    for field in _NAMES:
        for name, form in _VALUES.items():
            place = f"{field}, {name}"
            value = form.format(c(place))
            yield place, (head + f"{field}: {value.upper() if 'upper' in name else value}\r\n\r\n").encode("latin-1")
        for name, split in _SPLITS.items():
            place = f"{field} split by {name}"
            secret = c(place)
            yield place, (head + f"{field}: {secret[:26]}{split}{secret[26:]}\r\n\r\n").encode("latin-1")
        for name, line in {
            "without a colon": "{} {}",
            "with =": "{}={}",
            "too long": "{}: " + "x" * 33_000 + "{}",
            "long itself": "{0}: {1}" + "{1}" * 12,
        }.items():
            place = f"{field} {name}"
            yield place, (head + line.format(field, c(place)) + "\r\n\r\n").encode()
        place = f"{field} twice"
        yield place, (head + f"{field}: {c(place)}\r\n" * 2 + "\r\n").encode()
    for field in _MISSPELT:
        place = f"misspelt {field!r}"
        yield place, (head + f"{field}: {c(place)}\r\n\r\n").encode("latin-1")
    for place, line in {
        "a name": "{}: x",
        "a line": "{}",
        "a name with a blank": "{} x: y",
        "an empty name": ": {}",
    }.items():
        yield place, (head + line.format(c(place)) + "\r\n\r\n").encode()
    place = "two keys"
    yield place, (head + f"X-API-KEY: {c(place)}\r\nAuthorization: Bearer {c('the other')}\r\n\r\n").encode()
    place = "a hundred fields"
    yield place, (head + "".join(f"X-{n}: {c(f'{place} {n}')}\r\n" for n in range(120)) + "\r\n").encode()


def basic(canaries: Canaries) -> Place:
    """A user's password, which is looked for in base64 as well."""
    sent = base64.b64encode(f"user:{canaries.new('Basic in base64')}".encode())
    canaries.watch_text("Basic in base64", sent)
    return "Basic in base64", _HEAD.encode() + b"Authorization: Basic " + sent + b"\r\n\r\n"


def request_lines(c: Callable[[str], str], key: str) -> Iterator[Place]:
    """In every part of the first line, with a key that is good."""
    for line in (
        *("GET /{} HTTP/1.1", "GET /a/{}/b HTTP/1.1", "GET /?k={} HTTP/1.1", "GET /a#{} HTTP/1.1", "{} / HTTP/1.1"),
        *("GET {} HTTP/1.1", "GET /a {} HTTP/1.1", "GET / HTTP/{}", "GET / {}", "GET http://{}/ HTTP/1.1"),
        *("GET http://u:{}@gateway.test/ HTTP/1.1", "GET /%zz{} HTTP/1.1", "GET /../{} HTTP/1.1", "GET /a;{} HTTP/1.1"),
        *("CONNECT {}:443 HTTP/1.1", "TRACE /{} HTTP/1.1", "OPTIONS *{} HTTP/1.1", "GET /a%2f{} HTTP/1.1", "{}"),
        *(
            "GET \\{} HTTP/1.1",
            "GET /{}",
            "GET  /{} HTTP/1.1",
            "GET /{} HTTP/1.1 ",
            "GET /{} HTTP/2.0",
            "GET /\x01{} HTTP/1.1",
        ),
        *("GET /dead/{} HTTP/1.1", "GET /nonsense/{} HTTP/1.1", "GET /dead?{} HTTP/1.1", "GET /{}%00 HTTP/1.1"),
        *(
            "POST /forbidden/{} HTTP/1.1",
            "GET /\xe9{} HTTP/1.1",
            "GET /%73%6b%5f{} HTTP/1.1",
            "OPTIONS /pages/{} HTTP/1.1",
        ),
    ):
        place = f"the line {line!r}"
        yield place, _request(line.format(c(place)), "Host: gateway.test", "Connection: close", key)
    place = "a line that is too long"
    yield place, _request(f"GET /{'x' * 9000}{c(place)} HTTP/1.1", "Host: gateway.test", key)


def fields(c: Callable[[str], str], key: str) -> Iterator[Place]:
    """In the value of every field that the gateway reads, writes or removes, with a key that is good."""
    for field in _FIELDS:
        place = f"the field {field}"
        host = [] if field == "Host" else ["Host: gateway.test"]
        yield place, _request("GET / HTTP/1.1", *host, key, "Connection: close", f"{field}: {c(place)}")
    place = "a subprotocol"
    upgrade = [
        "Connection: Upgrade, close",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {c(place)}",
    ]
    yield place, _request("GET / HTTP/1.1", "Host: gateway.test", key, *upgrade)
    place = "a preflight"
    asked = [f"Origin: https://{c(place)}", f"Access-Control-Request-Method: {c('its method')}"]
    asked += [f"Access-Control-Request-Headers: {c('its fields')}", f"X-API-KEY: {c('its key')}"]
    yield place, _request("OPTIONS /pages/x HTTP/1.1", "Host: gateway.test", "Connection: close", *asked)
    place = "another page"
    page = [f"Origin: https://{c(place)}.test", "Connection: close"]
    yield place, _request("GET /pages/x HTTP/1.1", "Host: gateway.test", key, *page)


def bodies(c: Callable[[str], str], key: str) -> Iterator[Place]:
    """In the body and in what frames it, and behind it."""
    kept = ["POST /b HTTP/1.1", "Host: gateway.test", key]
    head = [*kept, "Connection: close"]
    chunked = [*head, "Transfer-Encoding: chunked"]
    for place, body in {
        "a chunk": "34\r\n{}\r\n0\r\n\r\n",
        "a chunk's extension": "1;{}=1\r\nx\r\n0\r\n\r\n",
        "an extension's value": '1;a="{}"\r\nx\r\n0\r\n\r\n',
        "an extension that is too long": "1;" + "a" * 300 + "{}\r\nx\r\n0\r\n\r\n",
        "a chunk's size": "{}\r\nx\r\n0\r\n\r\n",
        "a chunk's end": "1\r\nx{}\r\n0\r\n\r\n",
        "a trailer": "1\r\nx\r\n0\r\nX-API-KEY: {}\r\n\r\n",
        "a broken trailer": "1\r\nx\r\n0\r\n{}\r\n\r\n",
    }.items():
        yield place, _request(*chunked, body=body.format(c(place)).encode())
    place = "behind the last chunk"
    behind = f"0\r\n\r\n{c(place)}\r\n\r\n".encode()
    yield place, _request(*kept, "Transfer-Encoding: chunked", body=behind)
    place = "a body with a length"
    yield place, _request(*head, "Content-Length: 52", body=c(place).encode())
    place = "a refused body"
    wrong = ["POST /b HTTP/1.1", "Host: gateway.test", "Connection: close", "Content-Length: 52"]
    yield place, _request(*wrong, body=c(place).encode())
    place = "behind a body"
    yield place, _request(*kept, "Content-Length: 1", body=f"x{c(place)}\r\n\r\n".encode())
    place = "pipelined garbage"
    yield place, _request("GET / HTTP/1.1", "Host: gateway.test", key, body=f"\r\n{c(place)} \0\r\n\r\n".encode())
    place = "pipelined, a bad key"
    second = _request("GET / HTTP/1.1", "Host: gateway.test", "Connection: close", f"X-API-KEY: {c(place)}")
    yield place, _request("GET / HTTP/1.1", "Host: gateway.test", key) + second


def other_protocols(c: Callable[[str], str]) -> Iterator[Place]:
    """What is no HTTP/1."""
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x20\x01\5\0\0\0\1" + c("HTTP/2").encode()
    yield "TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + c("TLS").encode()
    yield "Redis", f"AUTH {c('Redis')}\r\n\r\n".encode()
    yield "PROXY", f"PROXY TCP4 {c('PROXY')} 1.2.3.4 1 2\r\n\r\n".encode()


def unended(c: Callable[[str], str]) -> Iterator[Place]:
    """What has no end: whoever sends it has to close."""
    yield "only a secret", c("only a secret").encode()
    yield "a head without an end", f"GET / HTTP/1.1\r\nX-API-KEY: {c('a head without an end')}".encode()


def admin_calls(c: Callable[[str], str], key: str) -> Iterator[Place]:
    """At the control listener, beside the credentials: paths, queries, and bodies of wrong types."""
    end = ("Host: gateway.test", "Connection: close", key)
    for line in (
        *("GET /v1/keys/{} HTTP/1.1", "GET /v1/{} HTTP/1.1", "GET /{} HTTP/1.1", "GET /v1/keys?{}=1 HTTP/1.1"),
        *("GET /v1/keys?search={} HTTP/1.1", "GET /v1/keys?limit={} HTTP/1.1", "GET /v1/keys?cursor={} HTTP/1.1"),
        *(
            "GET /v1/keys?owner={} HTTP/1.1",
            "{} /v1/keys HTTP/1.1",
            "GET /v1/members/{} HTTP/1.1",
            "GET /%zz{} HTTP/1.1",
        ),
        *(
            "GET /v1/audit?actor={} HTTP/1.1",
            "GET /v1/audit?from={} HTTP/1.1",
            "DELETE /v1/keys/{} HTTP/1.1",
            "GET {}",
        ),
        *(
            "GET http://u:{}@h/v1/keys HTTP/1.1",
            "GET /v1/keys#{} HTTP/1.1",
            "GET /v1/keys HTTP/{}",
            "GET /docs/{} HTTP/1.1",
        ),
        *("GET /metrics?{} HTTP/1.1", "GET /healthz?k={} HTTP/1.1", "GET /v1/keys?status={} HTTP/1.1"),
    ):
        place = f"admin: {line!r}"
        yield place, _request(line.format(c(place)), *end)
    for field in (
        "If-Match",
        "Idempotency-Key",
        "Cookie",
        "Host",
        "X-Request-ID",
        "Expect",
        "Origin",
        "Content-Encoding",
    ):
        place = f"admin: the field {field}"
        yield place, _request("GET /v1/keys HTTP/1.1", *end[field == "Host" :], f"{field}: {c(place)}")
    for path, body in (
        *(("/v1/keys", '{{"name": "{}"}}'), ("/v1/keys", '{{"{}": 1}}'), ("/v1/keys", '{{"name": {{"{}": 1}}}}')),
        *(("/v1/keys", '{{"name": "x", "expires_at": "{}"}}'), ("/v1/keys", '{{"name": "x", "permissions": ["{}"]}}')),
        *(("/v1/keys", '{{"name": "x", "owner_id": "{}"}}'), ("/v1/keys", '{{"name": ["{}"]}}'), ("/v1/keys", "{}")),
        *(("/v1/keys", '{{"name": {}}}'), ("/v1/keys", '["{}"]'), ("/v1/keys", '"{}"'), ("/v1/keys", '{{"a": "{}')),
        *(("/v1/keys", '{{"name": "x", "description": "{}"}}'), ("/v1/keys", '{{"name": "x", "origins": ["{}"]}}')),
        *(("/v1/keys/verify", '{{"secret": "{}"}}'), ("/v1/keys/verify", '{{"secret": ["{}"]}}')),
        *(("/v1/keys/verify", '{{"secrets": "{}"}}'), ("/v1/keys/import", '{{"name": "x", "sha256": "{}"}}')),
        *(("/v1/members", '{{"email": "{}"}}'), ("/v1/members", '{{"email": "a@b.test", "role": "{}"}}')),
        *(("/v1/service-accounts", '{{"name": 1, "{}": 2}}'), ("/v1/keys", '{{"{0}": 1, "{0}": 1}}')),
    ):
        place = f"admin: {path} {body}"
        sent = body.format(c(place)).encode()
        kind = ("Content-Type: application/json", f"Content-Length: {len(sent)}")
        yield place, _request(f"POST {path} HTTP/1.1", *end, *kind, body=sent)
    place = "admin: a media type"
    sent = json.dumps({"name": "x"}).encode()
    yield (
        place,
        _request(
            "POST /v1/keys HTTP/1.1", *end, f"Content-Type: {c(place)}/x", f"Content-Length: {len(sent)}", body=sent
        ),
    )
