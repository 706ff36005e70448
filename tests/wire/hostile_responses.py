"""What hostile upstreams say to one request, and what the client must see of it: a catalogue, as data.

The three faults differ in when they can be known. `HEAD`: the head itself is broken, so the answer is always a 502.
`BODY`: the head is good; the client gets a 502 where the fault came with it, and else sees its answer cut off.
`SURPLUS`: a whole good answer comes first, and where it came alone the client has got it. Every response that is no
good has MARK in it wherever a reader with other ideas would look for a body or a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.wire.hostile_upstream import MARK

HEAD: Final = "head"
BODY: Final = "body"
SURPLUS: Final = "surplus"
GOOD: Final = "good"
OK_LINE: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n"
_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\n"
_LIMIT: Final = 65_536


@dataclass(frozen=True, slots=True)
class Case:
    """One response. `ends`: the upstream closes its half behind it."""

    name: str
    response: bytes
    sees: str
    status: int = 200
    body: bytes = b"ok"
    method: bytes = b"GET"
    ends: bool = False
    code: str = "upstream_invalid_response"
    interims: tuple[int, ...] = ()
    """1xx answers that reach the client before the final one."""
    keeps: bool = True
    """A good answer's connection may serve the next request."""
    every_offset: bool = True
    """Whether it is worth cutting everywhere; else whole and byte by byte will do."""

    @property
    def whole(self) -> int:
        """Where the good answer before a surplus ends: it is marked there."""
        return self.response.index(MARK)


def _line(line: bytes) -> bytes:
    return line + b"\r\nContent-Length: 6\r\n\r\n" + MARK


def _field(text: bytes) -> bytes:
    return OK_LINE + b"Content-Length: 6\r\n" + text + b"\r\nX-A: b\r\n\r\n" + MARK


def framed(fields: bytes, body: bytes = MARK) -> bytes:
    """A whole 200 of HTTP/1.1."""
    return OK_LINE + fields + b"\r\n\r\n" + body


_STATUS_LINES: Final = (
    *(b"hello", b"", b" ", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 2", b"HTTP/1.1 20", b"HTTP/1.1 20 OK"),
    *(b"HTTP/1.1 2000 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1 OK OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK"),
    *(b"HTTP/1.1 600 OK", b"HTTP/1.1 999 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK"),
    *(b" HTTP/1.1 200 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 2 0 OK", b"HTTP/1.1 0xC8 OK"),
    *(b"HTTP/1.1 200.5 OK", b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK", b"HTTP/1.2 200 OK", b"HTTP/2 200 OK"),
    *(b"HTTP/2.0 200 OK", b"HTTP/3 200", b"HTTP/0.9 200 OK", b"HTTP/11 200 OK", b"HTTP/1.10 200 OK"),
    *(b"HTTP/01.1 200 OK", b"HTTP/1.01 200 OK", b"http/1.1 200 OK", b"Http/1.1 200 OK", b"HTTP /1.1 200 OK"),
    *(b"HTTP/1 .1 200 OK", b"HTTP/1. 200 OK", b"HTTP/.1 200 OK", b"HTTP/1,1 200 OK", b"HTTPS/1.1 200 OK"),
    *(b"ICY 200 OK", b"RTSP/1.0 200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK", b"GET / HTTP/1.1", b"\0HTTP/1.1 200 OK"),
    *(b"HTTP/1.1 200 O\x01K", b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 O\x7fK", b"HTTP/1.1 200 O\rK"),
    *(b"HTTP/1.1 200 O\nK", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\n", b"\r\nHTTP/1.1 200 OK"),
    *(b"\nHTTP/1.1 200 OK", b"HTTP/1.1 200 OK\nX: " + MARK, b"HTTP/1.1 200 OK\r\n X: " + MARK),
)

_LENGTHS: Final = (
    *(b"", b"+6", b"-6", b"06", b"6, 6", b"6,6", b"6, 7", b"6,", b",6", b"0x6", b"6 6", b"6.0", b"6;", b"6e0"),
    *(b"1_0", b"six", b"\xef\xbc\x96", b"\xb2", b"1000000000000000000", b"99999999999999999999", b'"6"', b"6\x0b"),
)

_CODINGS: Final = (
    *(b"gzip", b"identity", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked;q=1", b"", b","),
    *(b"xchunked", b"chunked,", b", chunked", b'"chunked"', b"chunked\x0b", b"c hunked", b"chunked chunked"),
)

_CHUNKS: Final = {
    "a size that is no number": b"x\r\n" + MARK,
    "an empty size": b"\r\n" + MARK,
    "a negative size": b"-6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a size with a plus": b"+6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a size with 0x": b"0x6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a size with an underscore": b"0_6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a space before the size": b" 6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "two sizes": b"6 6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a size of 17 digits": b"00000000000000006\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a size that overflows": b"10000000000000006\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a bare LF behind the size": b"6\n" + MARK + b"\r\n0\r\n\r\n",
    "a bare CR behind the size": b"6\r" + MARK + b"\r\n0\r\n\r\n",
    "CR CR LF behind the size": b"6\r\r\n" + MARK + b"\r\n0\r\n\r\n",
    "NUL in an extension": b"6;a=\0\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a bare CR in an extension": b"6;a=\rb\r\n" + MARK + b"\r\n0\r\n\r\n",
    "a bare LF in an extension": b"6;a=\n" + MARK + b"\r\n0\r\n\r\n",
    "an extension too long": b"6;" + b"a" * 256 + b"\r\n" + MARK + b"\r\n0\r\n\r\n",
    "an extension that never ends": b"6;" + b"a" * 1000,
    "no end of a chunk": b"2\r\nok0\r\n\r\n" + MARK,
    "a chunk with another end": b"2\r\nokXX0\r\n\r\n" + MARK,
    "a chunk with a bare LF at its end": b"2\r\nok\n0\r\n\r\n" + MARK,
    "a chunk with LF CR at its end": b"2\r\nok\n\r0\r\n\r\n" + MARK,
    "a chunk longer than its size": b"1\r\nok\r\n0\r\n\r\n" + MARK,
    "a chunk shorter than its size": b"3\r\nok\r\n0\r\n\r\n" + MARK,
    "a last chunk with a bare LF": b"2\r\nok\r\n0\n\r\n" + MARK,
    "a last chunk and a bare LF": b"2\r\nok\r\n0\r\n\n" + MARK,
    "a trailer without a colon": b"2\r\nok\r\n0\r\nX\r\n\r\n" + MARK,
    "a trailer without a name": b"2\r\nok\r\n0\r\n: b\r\n\r\n" + MARK,
    "a folded trailer": b"2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n" + MARK,
    "a trailer with a space before its colon": b"2\r\nok\r\n0\r\nX : a\r\n\r\n" + MARK,
    "NUL in a trailer": b"2\r\nok\r\n0\r\nX: a\0\r\n\r\n" + MARK,
    "a bare LF in the trailers": b"2\r\nok\r\n0\r\nX: a\nY: b\r\n\r\n" + MARK,
    "a trailer too long": b"2\r\nok\r\n0\r\nX: " + b"a" * 8300 + b"\r\n\r\n" + MARK,
    "trailers without end": b"2\r\nok\r\n0\r\n" + b"X: 0123456789\r\n" * 700,
    "an answer for a trailer": b"2\r\nok\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n" + MARK,
}


def _heads() -> list[Case]:
    cases = [Case(f"status line {line!r}", _line(line), HEAD) for line in _STATUS_LINES]
    names = [bytes([byte]) for byte in range(256) if not (chr(byte).isalnum() and byte < 0x80)]
    names = [each for each in names if each not in b"!#$%&'*+-.^_`|~\n" and each != b":"]
    cases += [
        Case(
            f"{byte!r} in a name", _field(b"X" + byte + b"Y: b"), HEAD, every_offset=byte in b'\0\t\r "(/@\x7f\x80\xff'
        )
        for byte in names
    ]
    controls = [bytes([byte]) for byte in (*range(32), 127) if byte not in b"\t"]
    cases += [
        Case(f"{byte!r} in a value", _field(b"X: a" + byte + b"b"), HEAD, every_offset=byte in b"\0\n\r\x1b\x7f")
        for byte in controls
    ]
    lines = {
        "a line feed for a line ending": b"X: b\nSet-Cookie: " + MARK,
        "a carriage return for a line ending": b"X: b\rSet-Cookie: " + MARK,
        "CR CR LF": b"X: b\r\r\nY: c",
        "LF CR": b"X: b\n\rY: c",
        "a fold with a space": b"X: b\r\n c",
        "a fold with a tab": b"X: b\r\n\tc",
        "a fold of nothing": b"X: b\r\n ",
        "a folded length": b"X: b\r\n Content-Length: 2",
        "space before the colon": b"X : b",
        "a tab before the colon": b"X\t: b",
        "space before the name": b" X: b",
        "no name": b": b",
        "no colon": b"Xb",
        "only a colon": b":",
        "a semicolon for a colon": b"X; b",
        "a status line among the fields": b"HTTP/1.1 200 OK",
    }
    return cases + [Case(name, _field(text), HEAD) for name, text in lines.items()]


def _framings() -> list[Case]:
    chunked = b"Transfer-Encoding: chunked"
    cases = [Case(f"length {value!r}", framed(b"Content-Length: " + value), HEAD) for value in _LENGTHS]
    cases += [Case(f"coding {value!r}", framed(b"Transfer-Encoding: " + value), HEAD) for value in _CODINGS]
    heads = {
        "a length twice": b"Content-Length: 6\r\nContent-Length: 6",
        "two lengths": b"Content-Length: 6\r\nContent-Length: 2",
        "two lengths in different cases": b"content-length: 2\r\nCONTENT-LENGTH: 6",
        "a length thrice": b"Content-Length: 6\r\nContent-Length: 6\r\nContent-Length: 6",
        "a length, then a coding": b"Content-Length: 6\r\n" + chunked,
        "a coding, then a length": chunked + b"\r\nContent-Length: 6",
        "a length of nothing and a coding": b"Content-Length: 0\r\n" + chunked,
        "chunked twice": chunked + b"\r\n" + chunked,
        "a coding and chunked": b"Transfer-Encoding: gzip\r\n" + chunked,
        "chunked and a coding": chunked + b"\r\nTransfer-Encoding: gzip",
        "a length and another coding": b"Content-Length: 6\r\nTransfer-Encoding: identity",
    }
    body = b"6\r\n" + MARK + b"\r\n0\r\n\r\n"
    cases += [Case(name, framed(fields, body), HEAD) for name, fields in heads.items()]
    old = b"HTTP/1.0 200 OK\r\n" + chunked + b"\r\n"
    cases += [
        Case("chunked in HTTP/1.0", old + b"\r\n" + body, HEAD),
        Case("chunked in HTTP/1.0 that is kept", old + b"Connection: keep-alive\r\n\r\n" + body, HEAD),
        Case("a broken length of an answer to HEAD", framed(b"Content-Length: 6, 6", b""), HEAD, method=b"HEAD"),
        Case("two framings of an answer to HEAD", framed(heads["a length, then a coding"], b""), HEAD, method=b"HEAD"),
        Case("a broken length of no content", b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n", HEAD),
    ]
    # What can become no head is one at once.
    none = {
        "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 6\n\n" + MARK,
        "a page without a head": b"<html>" + MARK + b"</html>",
    }
    cases += [Case(name, text, HEAD) for name, text in none.items()]
    # Without a single CRLF CRLF there is no head; that it ends is all that can be known.
    endless = {
        "a line feed for the empty line": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\n" + MARK,
        "carriage returns alone": b"HTTP/1.1 200 OK\rContent-Length: 6\r\r" + MARK,
        "a head that ends too soon": OK_LINE + b"Content-Length: 6\r\nX: " + MARK,
    }
    cases += [Case(name, text, HEAD, ends=True, code="upstream_unreachable") for name, text in endless.items()]
    huge = {
        "a head without end": OK_LINE + b"X: " + b"a" * (_LIMIT + 100),
        "fields without end": OK_LINE + b"X: 0123456789\r\n" * 5000,
        "a status line without end": b"HTTP/1.1 200 " + b"a" * (_LIMIT + 100),
        "a head of a byte too much": (head := OK_LINE + b"X: ") + b"a" * (_LIMIT + 1 - len(head)) + b"\r\n\r\n",
    }
    return cases + [Case(name, text, HEAD) for name, text in huge.items()]


def _interims() -> list[Case]:
    final = framed(b"Content-Length: 2", b"ok")
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    switches = {
        "": b"\r\n",
        " with Upgrade": asked + b"\r\n",
        " to HTTP/2": b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        " with a length": b"Content-Length: 6\r\n\r\n" + MARK,
        " and bytes behind it": asked + b"\r\n" + MARK,
    }
    cases = [Case(f"101 unasked{how}", _SWITCH + text, HEAD) for how, text in switches.items()]
    cases += [Case(f"101 unasked{how}, then an answer", _SWITCH + text + final, HEAD) for how, text in switches.items()]
    go_on = b"HTTP/1.1 100 Continue\r\n"
    lost = "upstream_unreachable"
    return [
        *cases,
        Case("100 unasked", go_on + b"\r\n" + final, GOOD),
        Case("100 twice unasked", (go_on + b"\r\n") * 2 + final, GOOD),
        Case("103", hints + final, GOOD, interims=(103,)),
        Case(
            "102, 100 and 103", b"HTTP/1.1 102 Go\r\n\r\n" + go_on + b"\r\n" + hints + final, GOOD, interims=(102, 103)
        ),
        Case("199", b"HTTP/1.1 199 Odd\r\n\r\n" + final, GOOD, interims=(199,)),
        Case("256 interim responses", b"HTTP/1.1 102 Go\r\n\r\n" * 256 + final, GOOD, interims=(102,) * 256),
        Case("257 interim responses", b"HTTP/1.1 102 Go\r\n\r\n" * 257 + final, HEAD, interims=(102,) * 256),
        Case("300 unasked 100s", (go_on + b"\r\n") * 300 + final, HEAD),
        Case(
            "103 with a length that it has not",
            b"HTTP/1.1 103 A\r\nContent-Length: 9\r\n\r\n" + final,
            GOOD,
            interims=(103,),
        ),
        Case("103 with a body", b"HTTP/1.1 103 A\r\nContent-Length: 6\r\n\r\n" + MARK + final, HEAD, interims=(103,)),
        Case("103 with a broken field", b"HTTP/1.1 103 A\r\nX : " + MARK + b"\r\n\r\n" + final, HEAD),
        Case(
            "103 that is chunked",
            b"HTTP/1.1 103 A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + final,
            HEAD,
            interims=(103,),
        ),
        Case("103 and something else", hints + MARK + b"\r\n\r\n", HEAD, interims=(103,)),
        Case("103 and the end", hints, HEAD, interims=(103,), ends=True, code=lost),
        Case("100 for the final answer", go_on + b"Content-Length: 6\r\n\r\n" + MARK, HEAD),
        Case("100, a body and an answer", go_on + b"Content-Length: 6\r\n\r\n" + MARK + final, HEAD),
    ]


def _bodies() -> list[Case]:
    cases = [Case(f"chunks: {name}", CHUNKED + text, BODY) for name, text in _CHUNKS.items()]
    ok = framed(b"Content-Length: 2", b"ok")
    lost = "upstream_unreachable"
    cases += [
        Case(f"{size} of a length too long", framed(b"Content-Length: %d" % size, b"o" * 9), BODY, ends=True, code=lost)
        for size in (10, 11, 1000, 999_999_999_999_999_999)
    ]
    cases += [
        Case("chunks that end early", CHUNKED + b"2\r\nok\r\n", BODY, ends=True, code=lost),
        Case("a chunk that ends early", CHUNKED + b"ffffffffffffffff\r\nok", BODY, ends=True, code=lost),
        Case("chunks without the last line", CHUNKED + b"2\r\nok\r\n0\r\n", BODY, ends=True, code=lost),
        Case("chunks that end within a trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n", BODY, ends=True, code=lost),
    ]
    bare = b"HTTP/1.1 204 No Content\r\n"
    old = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"
    go_on = b"HTTP/1.1 100 Go\r\n\r\n"
    second = {"whole": framed(b"Content-Length: 6"), "a head": OK_LINE, "an empty line": b"\r\n", "100": go_on}
    return [
        *cases,
        Case("surplus after a length", ok + MARK, SURPLUS),
        Case("surplus after a length of nothing", framed(b"Content-Length: 0", MARK), SURPLUS, body=b""),
        Case("surplus after chunks", CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + MARK, SURPLUS),
        Case("surplus after trailers", CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n\r\n" + MARK, SURPLUS),
        Case(
            "surplus after Connection: close", framed(b"Content-Length: 2\r\nConnection: close", b"ok" + MARK), SURPLUS
        ),
        Case("surplus after an answer of HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok" + MARK, SURPLUS),
        Case("no content with a body", bare + b"\r\n" + MARK, SURPLUS, status=204, body=b""),
        Case("no content with a length", bare + b"Content-Length: 6\r\n\r\n" + MARK, SURPLUS, status=204, body=b""),
        Case(
            "no content with chunks", bare + b"Transfer-Encoding: chunked\r\n\r\n" + MARK, SURPLUS, status=204, body=b""
        ),
        Case("not modified with a body", old + MARK, SURPLUS, status=304, body=b""),
        Case("HEAD with a body", framed(b"Content-Length: 6"), SURPLUS, method=b"HEAD", body=b""),
        Case("HEAD with chunks", CHUNKED + MARK, SURPLUS, method=b"HEAD", body=b""),
        Case("HEAD with a body of no length", OK_LINE + b"\r\n" + MARK, SURPLUS, method=b"HEAD", body=b""),
        *(Case(f"two answers, the second {which}", ok + MARK + text, SURPLUS) for which, text in second.items()),
    ]


BROKEN_HEADS: Final = [*_heads(), *_framings()]
INTERIMS: Final = _interims()
BROKEN_BODIES: Final = _bodies()
