"""The tests' own reader of HTTP/1.1: stricter than any server, so that what it accepts can be read in one way only.

It shares no line with the gateway, and is the second opinion beside h11. Anything that RFC 9112 calls optional,
lenient or obsolete raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.1\Z")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t -~\x80-\xff]*)\Z")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"): ([^\x00-\x08\x0a-\x1f\x7f]*)\Z")


class NotHttp(Exception):
    """The bytes are not what they should be."""


class Incomplete(Exception):
    """The bytes end too soon; `begun` is the message whose head was whole."""

    def __init__(self, begun: Message | None = None) -> None:
        super().__init__(begun)
        self.begun = begun


@dataclass(slots=True)
class Message:
    """One request or response."""

    start: tuple[bytes, ...]
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = True
    chunks: list[bytes] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The values of a field, in order."""
        return [value.decode("latin-1") for key, value in self.fields if key.lower() == name.lower().encode()]

    def one(self, name: str) -> str | None:
        """The value of a field that stands once or not at all."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    @property
    def method(self) -> bytes:
        """Of a request."""
        return self.start[0]

    @property
    def target(self) -> bytes:
        """Of a request."""
        return self.start[1]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start[0])


def read_request(data: bytes) -> tuple[Message, bytes]:
    """The first request, and what follows it; raises Incomplete or NotHttp."""
    message, rest = _read_head(data, _REQUEST_LINE)
    if len(message.all("host")) != 1:
        raise NotHttp("Host")
    rest = _read_body(message, rest, until_end=False, ended=False)
    if not message.whole:
        raise Incomplete(message)
    return message, rest


def read_requests(data: bytes) -> list[Message]:
    """All requests of a connection; raises where one is not whole."""
    requests = []
    while data:
        message, data = read_request(data)
        requests.append(message)
    return requests


def read_responses(data: bytes, methods: list[bytes], *, ended: bool) -> list[Message]:
    """All final and interim responses to requests of these methods; the last one may be not `whole`.

    `ended`: the connection was closed properly after `data`, which ends a body without a length.
    """
    responses: list[Message] = []
    waiting = list(methods)
    while data:
        message, data = _read_head(data, _STATUS_LINE)
        responses.append(message)
        if message.status < 200:
            if message.all("content-length") or message.all("transfer-encoding"):
                raise NotHttp("an interim response has a body")
            if message.status == 101:
                message.body = data
                return responses
            continue
        method = waiting.pop(0) if waiting else b"GET"
        if method != b"HEAD" and message.status not in {204, 304}:
            data = _read_body(message, data, until_end=True, ended=ended)
    return responses


def _read_head(data: bytes, start_line: re.Pattern[bytes]) -> tuple[Message, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Incomplete
    lines = head.split(b"\r\n")
    start = start_line.match(lines[0])
    if start is None:
        raise NotHttp(lines[0])
    fields = []
    for line in lines[1:]:
        match = _FIELD_LINE.match(line)
        if match is None or match.group(2) != match.group(2).strip(b" \t"):
            raise NotHttp(line)
        fields.append((match.group(1), match.group(2)))
    return Message(start.groups(), fields), rest


def _read_body(message: Message, data: bytes, *, until_end: bool, ended: bool) -> bytes:
    lengths, codings = message.all("content-length"), message.all("transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise NotHttp("framing")
    if codings:
        if codings != ["chunked"]:
            raise NotHttp(codings)
        return _read_chunks(message, data)
    if lengths:
        if not re.fullmatch(r"0|[1-9][0-9]{0,17}", lengths[0]):
            raise NotHttp(lengths)
        size = int(lengths[0])
        message.body, rest = data[:size], data[size:]
        message.whole = len(message.body) == size
        return rest
    if until_end:
        message.body, message.whole = data, ended
        return b""
    return data


def _read_chunks(message: Message, data: bytes) -> bytes:
    while True:
        match = re.match(rb"(0|[1-9a-f][0-9a-f]{0,15})\r\n", data)
        if match is None:
            if re.match(rb"[0-9a-f]{0,16}\r?\Z", data) is None:
                raise NotHttp(data[:40])
            message.whole = False
            return b""
        size = int(match.group(1), 16)
        data = data[match.end() :]
        chunk, ending, rest = data[:size], data[size : size + 2], data[size + 2 :]
        if ending and not b"\r\n".startswith(ending):
            raise NotHttp(ending)
        if ending != b"\r\n":
            message.body += chunk
            message.whole = False
            return b""
        data = rest
        if not size:
            return data
        message.body += chunk
        message.chunks.append(chunk)
