"""Chunked bodies: sizes, extensions, endings, trailers (RFC 9112 section 7.1).

The head may be at the upstream when its body turns out to be none, so that one begins and is cut off: what must never
be there is a whole request, or a byte of what the client meant to hide behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.cases import BODY, Forwarded, Refused, chunked
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

FIELDS = b"Transfer-Encoding: chunked\r\n"
HELLO = b"\r\nhello\r\n0\r\n\r\n"
SMUGGLED = b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"


def broken(name: str, body: bytes) -> Refused:
    return Refused(name, chunked(body), BODY, begins=True)


def good(name: str, body: bytes, payload: bytes = b"hello") -> Forwarded:
    return Forwarded(name, chunked(body), b"POST /", FIELDS, payload)


SIZES: list[Case] = [
    *(
        broken(f"size {size!r}", size + HELLO)
        for size in (
            *(
                b"",
                b"x",
                b"g",
                b"0x5",
                b"5h",
                b"+5",
                b"-5",
                b"-0",
                b"5.0",
                b"5p0",
                b"0_5",
                b"5,",
                b"5 5",
                b"5\t5",
                b"5 a",
                b"5/",
            ),
            *(
                b" 5",
                b"\t5",
                b"\x0b5",
                b"5\x0b",
                b"5\x0c",
                b"5\0",
                b"\x005",
                b"5\xa0",
                b"5\x7f",
                b"\xd9\xa5",
                b"\xef\xbc\x95",
            ),
            *(b"00000000000000005", b"10000000000000005", b"fffffffffffffffff", b"5\r", b"\r5", b'"5"', b"5=a"),
        )
    ),
    broken("a size of 300 digits", b"0" * 299 + b"5" + HELLO),
    broken("a size that ends in LF", b"5\nhello\r\n0\r\n\r\n"),
    broken("a size that ends in CR", b"5\rhello\r\n0\r\n\r\n"),
    broken("a size that ends in LF CR", b"5\n\rhello\r\n0\r\n\r\n"),
    broken("everything ends in LF", b"5\nhello\n0\n\n"),
    broken("a size that is folded", b"5\r\n hello\r\n0\r\n\r\n"),
    broken("a request for a size", SMUGGLED),
    good("none", b"0\r\n\r\n", b""),
    good("one", b"5" + HELLO),
    good("two", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
    good("one byte each", b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
    good("digits in both cases", b"0A\r\n0123456789\r\n0b\r\n0123456789a\r\n0\r\n\r\n", b"01234567890123456789a"),
    good("sixteen digits", b"0000000000000005" + HELLO),
    good("a last chunk of sixteen zeros", b"5\r\nhello\r\n0000000000000000\r\n\r\n"),
    good("blanks behind a size", b"5 \t" + HELLO),
    good("a payload like a last chunk", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    good("a payload like a request", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), SMUGGLED),
]
EXTENSIONS: list[Case] = [
    broken("an extension of 257 bytes", b"5;" + b"a" * 256 + HELLO),
    broken("an extension without end", b"5;" + b"a" * 300),
    broken("an extension with LF", b"5;a\nb" + HELLO),
    broken("an extension with LF and a size behind it", b"5;\n2\r\nhello\r\n0\r\n\r\n"),
    broken("an extension that ends in LF", b"5;a\nhello\r\n0\r\n\r\n"),
    broken("an extension with CR", b"5;a\rb" + HELLO),
    broken("an extension that ends in CR CR LF", b"5;a\r" + HELLO),
    broken("an extension with NUL", b"5;a\0" + HELLO),
    broken("an extension with a control byte", b"5;a=\x01" + HELLO),
    broken("LF in the quotes of an extension", b'5;a="\n0\r\n\r\n"' + HELLO),
    broken("an extension of the last chunk with LF", b"5\r\nhello\r\n0;a\n\r\n\r\n"),
    broken("a comma for a semicolon", b"5,a=b" + HELLO),
    good("an extension", b"5;a=b" + HELLO),
    good("an extension in quotes", b'5;a="b;c"' + HELLO),
    good("an extension behind blanks", b"5 ; a = b" + HELLO),
    good("an extension like a size", b"5;0" + HELLO),
    good("an extension of 256 bytes", b"5;" + b"a" * 255 + HELLO),
    good("an extension of the last chunk", b"5\r\nhello\r\n0;a=b\r\n\r\n"),
]
ENDINGS: list[Case] = [
    broken("too long", b"5\r\nhello!\r\n0\r\n\r\n"),
    broken("too long by a line ending", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
    broken("too short", b"6\r\nhello\r\n0\r\n\r\n"),
    broken("too short by two", b"7\r\nhello\r\n0\r\n\r\n"),
    broken("no ending", b"5\r\nhello0\r\n\r\n"),
    broken("an ending of LF", b"5\r\nhello\n0\r\n\r\n"),
    broken("an ending of CR", b"5\r\nhello\r0\r\n\r\n"),
    broken("an ending of LF CR", b"5\r\nhello\n\r0\r\n\r\n"),
    broken("an ending of CR CR LF", b"5\r\nhello\r\r\n0\r\n\r\n"),
    broken("an ending of blanks", b"5\r\nhello  0\r\n\r\n"),
    broken("an ending of any two bytes", b"5\r\nhelloXX0\r\n\r\n"),
    broken("a last chunk that ends in LF", b"5\r\nhello\r\n0\n\r\n"),
    broken("a last line of LF", b"5\r\nhello\r\n0\r\n\n"),
    broken("a last line of CR and something else", b"5\r\nhello\r\n0\r\n\rX\r\n\r\n"),
    broken("a last chunk of nothing", b"5\r\nhello\r\n\r\n\r\n"),
]
TRAILERS: list[Case] = [
    broken("a request for a trailer", b"0\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"),
    broken("a trailer without a name", b"0\r\n: a\r\n\r\n"),
    broken("a trailer without a colon", b"0\r\na\r\n\r\n"),
    broken("a trailer with a space before its colon", b"0\r\nA : b\r\n\r\n"),
    broken("a trailer that is folded", b"0\r\nA: b\r\n c\r\n\r\n"),
    broken("a trailer behind a space", b"0\r\n A: b\r\n\r\n"),
    broken("a trailer that ends in LF", b"0\r\nA: b\n\r\n"),
    broken("a trailer with CR", b"0\r\nA: b\rC: d\r\n\r\n"),
    broken("a trailer with NUL", b"0\r\nA: \0\r\n\r\n"),
    broken("a trailer above 7F in its name", b"0\r\n\xc3\xa4: b\r\n\r\n"),
    broken("a trailer of 9,000 bytes", b"0\r\nA: " + b"b" * 9000 + b"\r\n\r\n"),
    broken("trailers of 9,600 bytes", b"0\r\n" + b"A: bcdef\r\n" * 1200 + b"\r\n"),
    good("a trailer", b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    good("trailers", b"0\r\nA: b\r\nA:c\r\nB:\r\n\r\n", b""),
    good("a trailer of framing", b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    good("a trailer of identity", b"0\r\nX-Consumer-ID: root\r\nX-API-KEY: x\r\nHost: evil\r\n\r\n", b""),
]
CASES: list[Case] = [*SIZES, *EXTENSIONS, *ENDINGS, *TRAILERS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_chunks(case: Case, tried: Tried) -> None:
    tried("chunks", try_case(case))
