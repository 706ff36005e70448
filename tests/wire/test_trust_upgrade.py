"""Upgrades and expectations: a WebSocket may be asked for, a body may be waited for, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD
from tests.wire.cases import EXPECTATION, HOST, Forwarded, Refused, fields, framed
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

Z = b"Z: z\r\n"
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket"
WANTED = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
HELLO = b"Content-Length: 5\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n"
CONTINUE = b"Expect: 100-continue\r\n"

DROPPED: list[Case] = [
    *(
        Forwarded(f"Upgrade: {value.decode()}", fields(b"Connection: Upgrade\r\nUpgrade: " + value), fields=Z)
        for value in (
            b"h2c",
            b"h2",
            b"TLS/1.0",
            b"foo",
            b"websocket/13",
            b"websocket, h2c",
            b"h2c, websocket",
            b"websockets",
            b'"websocket"',
            b"",
            b"HTTP/2.0",
            b"connect-udp",
        )
    ),
    Forwarded(
        "h2c as Java's client asks for it",
        fields(b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\nUpgrade: h2c"),
        fields=Z,
    ),
    Forwarded(
        "h2c with a body",
        framed(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5"),
        b"POST /",
        HELLO,
        b"hello",
    ),
    Forwarded(
        "websocket with a body", framed(SOCKET + b"\r\nContent-Length: 5", method=b"GET"), b"GET /", HELLO, b"hello"
    ),
    Forwarded(
        "websocket with chunks",
        framed(SOCKET + b"\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", method=b"GET"),
        b"GET /",
        CHUNKS,
    ),
    Forwarded("websocket of POST", framed(SOCKET, b""), b"POST /"),
    Forwarded("websocket of HEAD", framed(SOCKET, b"", method=b"HEAD"), b"HEAD /"),
    Forwarded("websocket in HTTP/1.0", framed(SOCKET, b"", b"1.0", b"GET"), b"GET /", ends=True),
    Forwarded("websocket that Connection does not name", fields(b"Upgrade: websocket"), fields=Z),
    Forwarded(
        "websocket that Connection names as something else",
        fields(b"Connection: Upgrades\r\nUpgrade: websocket"),
        fields=Z,
    ),
    Forwarded("websocket in two fields", fields(SOCKET + b"\r\nUpgrade: websocket"), fields=Z),
    Forwarded("Connection alone", fields(b"Connection: Upgrade"), fields=Z),
]
ASKED: list[Case] = [
    Forwarded("websocket", fields(SOCKET), fields=Z + WANTED),
    Forwarded(
        "websocket in another case", fields(b"connection: keep-alive, UPGRADE\r\nupgrade: WebSocket"), fields=Z + WANTED
    ),
    Forwarded(
        "websocket with its fields",
        fields(SOCKET + b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"),
        fields=b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + Z + WANTED,
    ),
    Forwarded(
        "websocket with a nominated field",
        fields(b"Connection: Upgrade, A\r\nUpgrade: websocket\r\nA: b"),
        fields=Z + WANTED,
    ),
    Forwarded(
        "websocket, a length of zero",
        framed(SOCKET + b"\r\nContent-Length: 0", b"", method=b"GET"),
        b"GET /",
        WANTED + b"Content-Length: 0\r\n",
    ),
]
EXPECTATIONS: list[Case] = [
    *(
        Refused(f"Expect: {value!r}", framed(b"Expect: " + value + b"\r\nContent-Length: 5"), EXPECTATION)
        for value in (
            b"",
            b"200-ok",
            b"100",
            b"100-continue, x",
            b"100-continue,100-continue",
            b"100-continue;q=1",
            b"100 continue",
            b"x100-continue",
            b'"100-continue"',
            b"100-continued",
        )
    ),
    Refused(
        "two expectations", framed(b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5"), EXPECTATION
    ),
    Refused("an expectation of GET that cannot be met", fields(b"Expect: x"), EXPECTATION),
    Refused("an expectation of HTTP/1.0 that cannot be met", framed(b"Expect: x", b"", b"1.0"), EXPECTATION),
    Forwarded(
        "100-continue and a length",
        framed(b"Expect: 100-continue\r\nContent-Length: 5"),
        b"POST /",
        CONTINUE + HELLO,
        b"hello",
    ),
    Forwarded(
        "100-continue and chunks",
        framed(b"expect:100-Continue\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        b"POST /",
        CONTINUE + CHUNKS,
    ),
    Forwarded("100-continue and no body", fields(b"Expect: 100-continue"), fields=Z),
    Forwarded(
        "100-continue and a length of zero",
        framed(b"Expect: 100-continue\r\nContent-Length: 0", b""),
        b"POST /",
        b"Content-Length: 0\r\n",
    ),
    Forwarded(
        "100-continue in HTTP/1.0",
        framed(b"Expect: 100-continue\r\nContent-Length: 5", version=b"1.0"),
        b"POST /",
        HELLO,
        b"hello",
        ends=True,
    ),
    Forwarded(
        "an expectation in disguise",
        b"POST / HTTP/1.1\r\n" + HOST + KEY_FIELD + b"Expec_t: x\r\n" + HELLO + b"\r\nhello",
        b"POST /",
        b"Expec_t: x\r\n" + HELLO,
        b"hello",
    ),
]
CASES: list[Case] = [*DROPPED, *ASKED, *EXPECTATIONS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_upgrades_and_expectations(case: Case, tried: Tried) -> None:
    tried("upgrades and expectations", try_case(case))
