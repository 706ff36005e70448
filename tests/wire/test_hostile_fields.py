"""Which fields of a response reach the client, by name and value: nothing of the hop behind, all of the rest, in order.

The whole list is compared, so a field that is not expected fails a case as surely as one that is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.hostile_upstream import begin, check_next_client, code_of, hostile, outcome, request
from tests.wire.live import run

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

SECTION = "hostile upstream: response fields"
_OURS = {b"date", b"x-request-id", b"content-length"}

# Fields as the upstream sends them, and those of them that the client gets.
FIELDS: dict[str, tuple[bytes, list[bytes]]] = {
    "an ordinary field": (b"X-A: b", [b"X-A: b"]),
    "fields that repeat": (b"Set-Cookie: a\r\nX: 1\r\nset-cookie: b", [b"Set-Cookie: a", b"X: 1", b"set-cookie: b"]),
    "space around a value": (b"X-A: \t b c\t ", [b"X-A: b c"]),
    "no space before a value": (b"X-A:b", [b"X-A: b"]),
    "no value": (b"X-A:", [b"X-A: "]),
    "bytes above 7F": (b"X-A: \xc3\xa4\xff", [b"X-A: \xc3\xa4\xff"]),
    "every byte of a name": (b"!#$%&'*+-.^_`|~09azAZ: b", [b"!#$%&'*+-.^_`|~09azAZ: b"]),
    "Connection": (b"Connection: keep-alive", []),
    "Keep-Alive": (b"Keep-Alive: timeout=5, max=100", []),
    "Proxy-Connection": (b"Proxy-Connection: keep-alive", []),
    "Proxy-Authenticate": (b"Proxy-Authenticate: Basic", []),
    "TE": (b"TE: trailers", []),
    "Trailer": (b"Trailer: X-T", []),
    "Upgrade": (b"Upgrade: h2c", []),
    "HTTP2-Settings": (b"HTTP2-Settings: AAA", []),
    "X-Request-ID": (b"X-Request-ID: theirs", []),
    "hop-by-hop in other cases": (b"KEEP-ALIVE: a\r\ntrailer: b\r\nuPGRADE: c\r\nproxy-CONNECTION: d", []),
    "hop-by-hop with underscores": (b"Keep_Alive: a\r\nProxy_Connection: b\r\nX_Request_ID: c", []),
    "framing with underscores": (b"Content_Length: 9\r\nTransfer_Encoding: chunked", []),
    "a nominated field": (b"X-A: b\r\nConnection: X-A\r\nX-B: c", [b"X-B: c"]),
    "nominated before it comes": (b"Connection: X-A\r\nX-A: b", []),
    "nominated in another case": (b"Connection: x-a\r\nX-A: b\r\nX-a: c", []),
    "nominated in a list": (b"Connection: , X-A ,\tX-B,close\r\nX-A: b\r\nX-B: c\r\nX-C: d", [b"X-C: d"]),
    "nominated in two lists": (b"Connection: X-A\r\nX-A: b\r\nConnection: X-B\r\nX-B: c", []),
    "a nominated cookie": (b"Connection: Set-Cookie\r\nSet-Cookie: a\r\nSet-Cookie: b", []),
    "a nominated Location": (b"Connection: Location\r\nLocation: /a", []),
    "a nominated Keep-Alive": (b"Connection: Keep-Alive\r\nKeep-Alive: timeout=9", []),
    "nominated and not there": (b"Connection: X-A\r\nX-AB: b\r\nAX-A: c", [b"X-AB: b", b"AX-A: c"]),
    "nominated framing": (b"Connection: Content-Length, Transfer-Encoding", []),
    "a nominated X-Request-ID": (b"Connection: X-Request-ID", []),
    "a nominated name with a space": (b"Connection: X A\r\nX-A: b", [b"X-A: b"]),
    "CORS where the route has none": (b"Access-Control-Allow-Origin: *", [b"Access-Control-Allow-Origin: *"]),
}


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_fields_of_a_response(framing: bytes, tried: Tried) -> None:
    chunked = framing.startswith(b"T")
    body = b"2\r\nok\r\n0\r\nX-T: t\r\n\r\n" if chunked else b"ok"

    async def story() -> None:
        async with hostile() as (gate, upstream):
            for name, (sent, expected) in FIELDS.items():
                for fields in (framing + sent + b"\r\n", sent + b"\r\n" + framing):
                    client, line = await begin(gate, request(b"/first"), upstream=upstream)
                    await line.say(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body)
                    await outcome(gate, client)
                    (answer,) = client.answers
                    got = [b"%b: %b" % each for each in answer.fields if each[0].lower() not in _OURS]
                    coding = [b"Transfer-Encoding: chunked"] if chunked else []
                    assert sorted(got) == sorted(expected + coding), name
                    assert [each for each in got if each in expected] == expected, name
                    assert answer.body == b"ok", name
                    assert len(answer.all("x-request-id")) == len(answer.all("date")) == 1, name
                    assert answer.one("x-request-id") != "theirs"
                    await check_next_client(gate, upstream, line, fresh=False)
                    client.close()
                    gate.clients.remove(client)
                    upstream.forget()
                    await upstream.read_by_gateway()
                    tried(SECTION, 1)

    run(story())


INTERIMS: dict[str, tuple[bytes, list[bytes]]] = {
    "Link": (b"Link: </a>\r\nLink: </b>", [b"Link: </a>", b"Link: </b>"]),
    "hop-by-hop": (b"Connection: X-A\r\nX-A: b\r\nKeep-Alive: a\r\nUpgrade: b\r\nX-B: c", [b"X-B: c"]),
    "framing": (b"Content-Length: 9", []),
    "a coding": (b"Transfer-Encoding: chunked", []),
    "ids": (b"X-Request-ID: theirs", []),
}


def test_fields_of_an_interim_response(tried: Tried) -> None:
    """Written anew and in order; none for a client of HTTP/1.0, which cannot know what they are."""

    async def story() -> None:
        async with hostile() as (gate, upstream):
            for (sent, expected), minor in ((each, minor) for each in INTERIMS.values() for minor in (b"1", b"0")):
                asks = request(b"/first").replace(b"HTTP/1.1", b"HTTP/1." + minor)
                client, line = await begin(gate, asks, upstream=upstream)
                interim = b"HTTP/1.1 103 Early Hints\r\n" + sent + b"\r\n\r\n"
                await line.say(interim, b"HTTP/1.1 100 Continue\r\n\r\n" + interim)
                await gate.settled()
                assert [each.status for each in client.answers] == ([103, 103] if minor == b"1" else [])
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await outcome(gate, client)
                *hints, answer = client.answers
                for each in hints:
                    assert [b"%b: %b" % field for field in each.fields] == expected
                assert answer.body == b"ok"
                await check_next_client(gate, upstream, line, fresh=False)
                upstream.forget()
                await upstream.read_by_gateway()
                tried(SECTION, 1)

    run(story())


# Location as the upstream sends it ("TARGET" is its own authority), and as the client of a prefix `/api` gets it.
LOCATIONS = {
    "http://TARGET/a?b#c": "/api/a?b#c",
    "http://TARGET": "/api/",
    "HTTP://target/a": "/api/a",
    "http://TARGET?a": "/api/?a",
    "http://TARGET#a": "/api/#a",
    "/a": "/api/a",
    "/": "/api/",
    "a": "a",
    "?a": "?a",
    "#a": "#a",
    "": "",
    "//TARGET/a": "/api/a",
    "//TARGET.evil.test/a": "//TARGET.evil.test/a",
    "//evil.test/a": "//evil.test/a",
    "/\\evil.test": "/\\evil.test",
    "https://TARGET/a": "https://TARGET/a",
    "http://TARGET.evil.test/a": "http://TARGET.evil.test/a",
    "http://TARGET@evil.test/a": "http://TARGET@evil.test/a",
    "http://TARGET:80/a": "http://TARGET:80/a",
    "http://TARGET1/a": "http://TARGET1/a",
    "http://TARGET\\a": "http://TARGET\\a",
    "http://user@TARGET/a": "http://user@TARGET/a",
    "http://127.0.0.1/a": "http://127.0.0.1/a",
    "http://TARGET//evil.test": "http://TARGET//evil.test",
    "http://TARGET/\\evil.test": "http://TARGET/\\evil.test",
    "http://api.test/a": "http://api.test/a",
    "javascript:alert(1)": "javascript:alert(1)",
}


@pytest.mark.parametrize("rewrites", [True, False])
def test_a_location_at_the_target_becomes_one_at_the_gateway(tried: Tried, *, rewrites: bool) -> None:
    async def story() -> None:
        route = {"path": "/api", "strip_prefix": True, "rewrite_location": rewrites}
        async with hostile(routes=[route, {}]) as (gate, upstream):
            authority = f"127.0.0.1:{upstream.port}"
            for sent, expected in LOCATIONS.items():
                client = await gate.client()
                client.methods = [b"GET"]
                client.socket.send(request(b"/api/first"))
                line = await upstream.request(b"/first")
                value = sent.replace("TARGET", authority).replace("target", authority)
                head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {value}\r\n\r\n"
                await line.say(*(head.encode()[at : at + 1] for at in range(len(head))))
                await outcome(gate, client)
                wanted = expected.replace("TARGET", authority) if rewrites else value
                assert client.answers[0].all("location") == [wanted], sent
                await check_next_client(gate, upstream, line, fresh=False)
                upstream.forget()
                await upstream.read_by_gateway()
                tried(SECTION, 1)

    run(story())


def test_two_locations_are_no_response(tried: Tried) -> None:
    async def story() -> None:
        async with hostile() as (gate, upstream):
            client, line = await begin(gate, request(b"/first"), upstream=upstream)
            await line.say(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /a\r\nLocation: /a\r\n\r\n")
            await outcome(gate, client)
            assert code_of(client.answers[0]) == (502, "upstream_invalid_response")
            await gate.settled()
            upstream.look()
            await check_next_client(gate, upstream, line)
            tried(SECTION, 1)

    run(story())
