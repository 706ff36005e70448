"""Field lines: bytes, endings, folds, names, and what is written anew of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.cases import MALFORMED, Forwarded, Refused, fields, framed, hosts, line
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

LENGTH = b"Content-Length: 5"
CODING = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"

ENDINGS: list[Case] = [
    Refused("LF between fields", fields(b"A: b\nC: d"), MALFORMED),
    Refused("CR between fields", fields(b"A: b\rC: d"), MALFORMED),
    Refused("LF CR between fields", fields(b"A: b\n\rC: d"), MALFORMED),
    Refused("CR CR LF between fields", fields(b"A: b\r\r\nC: d"), MALFORMED),
    Refused("CR LF LF between fields", fields(b"A: b\r\n\nC: d"), MALFORMED),
    Refused("LF and an empty line of LF", line(b"GET / HTTP/1.1\r\nA: b\n\nGET /2 HTTP/1.1"), MALFORMED),
    Refused("an empty line of LF, and a request", fields(b"A: b\n\nGET /2 HTTP/1.1\r\nB: c"), MALFORMED),
    Refused("an empty line of CR, and a request", fields(b"A: b\r\r\nGET /2 HTTP/1.1\r\nB: c"), MALFORMED),
    Refused("framing behind LF", framed(b"A: b\nContent-Length: 5"), MALFORMED),
    Refused("framing behind CR", framed(b"A: b\rTransfer-Encoding: chunked", LAST), MALFORMED),
    Refused("framing behind NUL", framed(b"A: b\0Transfer-Encoding: chunked", LAST), MALFORMED),
    Refused("a line separator of Unicode", framed("A: b\u2028".encode() + b"\x85\n" + LENGTH), MALFORMED),
    Refused("a fold with a space", fields(b"A: b\r\n c"), MALFORMED),
    Refused("a fold with a tab", fields(b"A: b\r\n\tc"), MALFORMED),
    Refused("a fold of nothing", fields(b"A: b\r\n "), MALFORMED),
    Refused("a fold like a field", fields(b"A: b\r\n C: d"), MALFORMED),
    Refused("a fold as the first field", hosts(b" A: b\r\nHost: h\r\n"), MALFORMED),
    Refused("a folded length", framed(b"Content-Length:\r\n 5"), MALFORMED),
    Refused("a folded coding", framed(b"Transfer-Encoding:\r\n chunked", LAST), MALFORMED),
    Refused("a coding folded in its middle", framed(b"Transfer-Encoding: chun\r\n ked", LAST), MALFORMED),
    Refused("a length with a fold behind it", framed(LENGTH + b"\r\n 5"), MALFORMED),
    Refused("a fold with a vertical tab", fields(b"A: b\r\n\x0bc"), MALFORMED),
]
NAMES: list[Case] = [
    Refused("a space before the colon", fields(b"A : b"), MALFORMED),
    Refused("a tab before the colon", fields(b"A\t: b"), MALFORMED),
    Refused("a length with a space before its colon", framed(b"Content-Length : 5"), MALFORMED),
    Refused("a length with a tab before its colon", framed(b"Content-Length\t: 5"), MALFORMED),
    Refused("a coding with a space before its colon", framed(b"Transfer-Encoding : chunked", LAST), MALFORMED),
    Refused("a coding with a NUL before its colon", framed(b"Transfer-Encoding\0: chunked", LAST), MALFORMED),
    Refused("a coding with a CR before its colon", framed(b"Transfer-Encoding\r: chunked", LAST), MALFORMED),
    Refused("a coding behind a CR", framed(b"\rTransfer-Encoding: chunked", LAST), MALFORMED),
    Refused("a coding behind a byte above 7F", framed(b"\xffTransfer-Encoding: chunked", LAST), MALFORMED),
    Refused("no name", fields(b": b"), MALFORMED),
    Refused("no name and no value", fields(b":"), MALFORMED),
    Refused("no colon", fields(b"A"), MALFORMED),
    Refused("no colon, framing", framed(b"Content-Length 5"), MALFORMED),
    Refused("an equals sign for the colon", framed(b"Content-Length= 5"), MALFORMED),
    Refused("a request line for a field", fields(b"GET /2 HTTP/1.1"), MALFORMED),
    *(
        Refused(f"a name with {byte:02x}", fields(b"A%cB: c" % byte), MALFORMED)
        for byte in b'\x00\x01\x08\t\x0b\x0c\x1f "(),/;<=>?@[\\]{}\x7f\x80\xa0\xff'
    ),
]
VALUES: list[Case] = [
    *(
        Refused(f"a value with {byte:02x}", fields(b"A: b%cc" % byte), MALFORMED)
        for byte in b"\x00\x01\x07\x08\x0b\x0c\x0e\x1b\x1f\x7f"
    ),
    Refused("a control byte at the beginning", fields(b"A:\x0bb"), MALFORMED),
    Refused("a control byte at the end", fields(b"A: b\x00"), MALFORMED),
    Refused("a control byte in a field that is dropped", fields(b"TE: \x01"), MALFORMED),
    Refused("a control byte in Connection", fields(b"Connection: close\x01"), MALFORMED),
    Refused("a control byte in Cookie", fields(b"Cookie: a=b\x00; c=d"), MALFORMED),
    Forwarded("no space after the colon", fields(b"A:b"), fields=b"A: b\r\nZ: z\r\n"),
    Forwarded("blanks around a value", fields(b"A: \t b c \t "), fields=b"A: b c\r\nZ: z\r\n"),
    Forwarded("an empty value", fields(b"A:"), fields=b"A: \r\nZ: z\r\n"),
    Forwarded("a value of blanks", fields(b"A: \t "), fields=b"A: \r\nZ: z\r\n"),
    Forwarded("a value with colons", fields(b"A::b: c"), fields=b"A: :b: c\r\nZ: z\r\n"),
    Forwarded("a tab in a value", fields(b"A: b\tc"), fields=b"A: b\tc\r\nZ: z\r\n"),
    Forwarded("bytes above 7F", fields(b"A: \x80\xa0\xff"), fields=b"A: \x80\xa0\xff\r\nZ: z\r\n"),
    Forwarded("all signs of a name", fields(b"!#$%&'*+-.^_`|~9: b"), fields=b"!#$%&'*+-.^_`|~9: b\r\nZ: z\r\n"),
    Forwarded("one name twice, in order", fields(b"A: 1\r\nB: 2\r\na: 3"), fields=b"A: 1\r\nB: 2\r\na: 3\r\nZ: z\r\n"),
    Forwarded("two cookies", fields(b"Cookie: a\r\nCookie: b"), fields=b"Cookie: a\r\nCookie: b\r\nZ: z\r\n"),
    Forwarded("a request in a value", fields(b"A: GET /2 HTTP/1.1"), fields=b"A: GET /2 HTTP/1.1\r\nZ: z\r\n"),
    Forwarded("User-Agent", fields(b"user-agent:  x/1 "), fields=b"user-agent: x/1\r\nZ: z\r\n"),
    Forwarded("User_Agent", fields(b"User_Agent: x"), fields=b"User_Agent: x\r\nZ: z\r\n"),
    Forwarded("no field but what is needed", line(b"GET / HTTP/1.1")),
]
CASES: list[Case] = [*ENDINGS, *NAMES, *VALUES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_field_lines(case: Case, tried: Tried) -> None:
    tried("field lines", try_case(case))
