"""Where a body ends: Content-Length and Transfer-Encoding, alone, doubled, together and disguised.

The classes of request smuggling (CL.TE, TE.CL, TE.TE, CL.0, 0.CL, TE.0) are all here: either there is one reading, or
the request is refused and what stands behind its head is never read as anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.cases import CODING, MALFORMED, Forwarded, Refused, framed
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

LAST = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"

LENGTHS: list[Case] = [
    *(
        Refused(f"Content-Length: {value!r}", framed(b"Content-Length: " + value), MALFORMED)
        for value in (
            *(b"", b"+5", b"-5", b"-0", b"05", b"00", b"000005", b"0x5", b"5h", b"5.0", b"5e0", b"1_0", b"1 0", b"5 5"),
            *(b"5,", b",5", b"5,5", b"5, 5", b"5;5", b"five", b'"5"', b"5\xa0", b"\xa05", b"\xd9\xa5", b"\xef\xbc\x95"),
            *(b"9223372036854775808", b"18446744073709551615", b"18446744073709551621", b"9" * 40, b"0" * 40 + b"5"),
            *(b"1000000000000000000", b"5\t5", b"chunked", b"nan", b"inf", b"1e1000"),
        )
    ),
    Refused("two equal lengths", framed(b"Content-Length: 5\r\nContent-Length: 5"), MALFORMED),
    Refused("two lengths", framed(b"Content-Length: 5\r\ncontent-length: 0"), MALFORMED),
    Refused("two lengths, the first zero", framed(b"Content-Length: 0\r\nContent-Length: 5"), MALFORMED),
    Refused("two lengths, one empty", framed(b"Content-Length:\r\nContent-Length: 5"), MALFORMED),
    Refused("two lengths apart", framed(b"Content-Length: 5\r\nA: b\r\nContent-Length: 5"), MALFORMED),
    Refused("a length of GET that is none", framed(b"Content-Length: x", method=b"GET"), MALFORMED),
    Forwarded("a length", framed(b"Content-Length: 5"), b"POST /", b"Content-Length: 5\r\n", b"hello"),
    Forwarded("a length with blanks", framed(b"Content-Length:\t 5 \t"), b"POST /", b"Content-Length: 5\r\n", b"hello"),
    Forwarded("a length in upper case", framed(b"CONTENT-LENGTH:5"), b"POST /", b"Content-Length: 5\r\n", b"hello"),
    Forwarded("a length of zero", framed(b"Content-Length: 0", b""), b"POST /", b"Content-Length: 0\r\n"),
    Forwarded(
        "a length of GET", framed(b"Content-Length: 5", method=b"GET"), b"GET /", b"Content-Length: 5\r\n", b"hello"
    ),
    Forwarded(
        "a length of HEAD",
        framed(b"Content-Length: 2", b"ab", method=b"HEAD"),
        b"HEAD /",
        b"Content-Length: 2\r\n",
        b"ab",
    ),
    Forwarded(
        "a length of DELETE",
        framed(b"Content-Length: 1", b"a", method=b"DELETE"),
        b"DELETE /",
        b"Content-Length: 1\r\n",
        b"a",
    ),
    Forwarded(
        "a length in HTTP/1.0",
        framed(b"Content-Length: 5", version=b"1.0"),
        b"POST /",
        b"Content-Length: 5\r\n",
        b"hello",
        ends=True,
    ),
    Forwarded(
        "a body like a request",
        framed(b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
        b"POST /",
        b"Content-Length: %d\r\n" % len(SMUGGLED),
        SMUGGLED,
    ),
    Forwarded(
        "a body like line endings",
        framed(b"Content-Length: 4", b"\r\n\r\n"),
        b"POST /",
        b"Content-Length: 4\r\n",
        b"\r\n\r\n",
    ),
    Forwarded(
        "a body like a last chunk", framed(b"Content-Length: 5", LAST), b"POST /", b"Content-Length: 5\r\n", LAST
    ),
    Forwarded("a disguised length is none", framed(b"Content_Length: 5", b""), b"POST /"),
    Forwarded(
        "a nominated length counts",
        framed(b"Connection: Content-Length\r\nContent-Length: 5"),
        b"POST /",
        b"Content-Length: 5\r\n",
        b"hello",
    ),
]
CODINGS: list[Case] = [
    *(
        Refused(f"Transfer-Encoding: {value!r}", framed(b"Transfer-Encoding: " + value, LAST), MALFORMED)
        for value in (
            *(
                b"",
                b"chunked, chunked",
                b"chunked,",
                b",chunked",
                b"chunked;q=1",
                b'"chunked"',
                b"'chunked' x",
                b"chunked chunked",
            ),
            *(
                b"chunked, gzip",
                b"chunked, identity",
                b"gzip, chunked, chunked",
                b"gzip, , chunked",
                b"gzip;q=1, chunked",
                b"chunked\xa0",
            ),
            *(
                b"\x0bchunked",
                b"chunked\x0c",
                b"chunked\0",
                b"chun\0ked",
                b"\xffchunked",
                b"chunked\x7f",
                b"chunked\r",
                b"x: chunked",
                b"[chunked]",
            ),
            *(b"ch\xc3\xbcnked", b"\xe2\x84\xaahunked", b"chun\xe2\x84\xaaed"),
        )
    ),
    *(
        Refused(f"Transfer-Encoding: {value.decode()}", framed(b"Transfer-Encoding: " + value, LAST), CODING)
        for value in (
            b"identity",
            b"gzip",
            b"deflate",
            b"xchunked",
            b"chunkedx",
            b"cow",
            b"chunk",
            b"x-chunked",
            b"0",
            b"'chunked'",
            *(b"gzip, chunked", b"gzip,Chunked", b"identity \t, \tchunked", b"x, y, chunked", b"gzip, deflate"),
        )
    ),
    Refused("two codings", framed(CHUNKED + b"\r\n" + CHUNKED, LAST), MALFORMED),
    Refused("two codings, the first unknown", framed(b"Transfer-Encoding: x\r\n" + CHUNKED, LAST), MALFORMED),
    Refused("two codings, the second unknown", framed(CHUNKED + b"\r\nTransfer-encoding: cow", LAST), MALFORMED),
    Refused("two codings, the second empty", framed(CHUNKED + b"\r\nTransfer-Encoding:", LAST), MALFORMED),
    Refused("two codings, identity", framed(b"transfer-encoding: identity\r\n" + CHUNKED, LAST), MALFORMED),
    Refused("a coding in HTTP/1.0", framed(CHUNKED, LAST, b"1.0"), MALFORMED),
    Refused("an unknown coding in HTTP/1.0", framed(b"Transfer-Encoding: gzip", LAST, b"1.0"), MALFORMED),
    Refused("a coding of GET in HTTP/1.0", framed(CHUNKED, LAST, b"1.0", b"GET"), MALFORMED),
    Forwarded("chunked", framed(CHUNKED, LAST), b"POST /", CHUNKED + b"\r\n"),
    Forwarded("chunked in mixed case", framed(b"tRANSFER-eNCODING:ChUnKeD", LAST), b"POST /", CHUNKED + b"\r\n"),
    Forwarded("chunked with blanks", framed(b"Transfer-Encoding: \t chunked\t ", LAST), b"POST /", CHUNKED + b"\r\n"),
    Forwarded(
        "chunked of GET", framed(CHUNKED, b"1\r\na\r\n0\r\n\r\n", method=b"GET"), b"GET /", CHUNKED + b"\r\n", b"a"
    ),
    Forwarded("a disguised coding is none", framed(b"Transfer_Encoding: chunked", b""), b"POST /"),
    Forwarded(
        "a disguised coding and a length",
        framed(b"Transfer_Encoding: chunked\r\nContent-Length: 5", LAST),
        b"POST /",
        b"Content-Length: 5\r\n",
        LAST,
    ),
    Forwarded(
        "a coding in the name of another field",
        framed(b"X-Transfer-Encoding: chunked\r\nContent-Length: 5", LAST),
        b"POST /",
        b"X-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        LAST,
    ),
    Forwarded(
        "a nominated coding counts",
        framed(b"Connection: transfer-encoding\r\n" + CHUNKED, LAST),
        b"POST /",
        CHUNKED + b"\r\n",
    ),
    Forwarded(
        "TE is no coding", framed(b"TE: chunked\r\nContent-Length: 5", LAST), b"POST /", b"Content-Length: 5\r\n", LAST
    ),
]
TOGETHER: list[Case] = [
    Refused("CL.TE", framed(b"Content-Length: %d\r\n" % (len(SMUGGLED) + 5) + CHUNKED, LAST + SMUGGLED), MALFORMED),
    Refused("TE.CL", framed(CHUNKED + b"\r\nContent-Length: 4", b"1c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"), MALFORMED),
    Refused("0.CL", framed(b"Content-Length: 0\r\n" + CHUNKED, LAST), MALFORMED),
    Refused("CL.0, both", framed(CHUNKED + b"\r\nContent-Length: 0", LAST + SMUGGLED), MALFORMED),
    Refused("an empty length and chunked", framed(b"Content-Length:\r\n" + CHUNKED, LAST), MALFORMED),
    Refused("a length and an empty coding", framed(b"Content-Length: 5\r\nTransfer-Encoding:"), MALFORMED),
    Refused("a length and identity", framed(b"Content-Length: 5\r\nTransfer-Encoding: identity"), MALFORMED),
    Refused("a length and an unknown coding", framed(b"Content-Length: 5\r\nTransfer-Encoding: cow"), MALFORMED),
    Refused("a length, chunked, and HTTP/1.0", framed(b"Content-Length: 5\r\n" + CHUNKED, LAST, b"1.0"), MALFORMED),
    Refused("both, and close", framed(b"Connection: close\r\nContent-Length: 5\r\n" + CHUNKED, LAST), MALFORMED),
    Refused(
        "both, the length nominated",
        framed(b"Connection: Content-Length\r\nContent-Length: 5\r\n" + CHUNKED, LAST),
        MALFORMED,
    ),
    Refused(
        "both, the coding nominated",
        framed(b"Connection: Transfer-Encoding\r\nContent-Length: 5\r\n" + CHUNKED, LAST),
        MALFORMED,
    ),
    Refused(
        "both, and an expectation", framed(b"Expect: 100-continue\r\nContent-Length: 5\r\n" + CHUNKED, LAST), MALFORMED
    ),
]
CASES: list[Case] = [*LENGTHS, *CODINGS, *TOGETHER]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_framing(case: Case, tried: Tried) -> None:
    tried("framing", try_case(case))
