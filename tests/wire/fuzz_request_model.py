"""Says of any bytes of a client which requests must come of them, and with which answers: the model of the front side.

Written from the ABNF and from the contract (`docs/behavior.md`), without a line of the gateway. Invariant: one answer
for every stream, however it is cut, but for what the cutting itself decides: whether a body that nobody wants had
arrived whole when its request was refused (`may_end`), and whether it broke before it was too long (`statuses`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tests.proxy.harness import SECRET
from tests.wire.fuzz_abnf import (
    LENGTH,
    OTHER_CODINGS,
    TOKEN,
    Field,
    members,
    read_chunks,
    read_fields,
    read_length,
    real,
)

LINE_LIMIT: Final = 256
SECTION_LIMIT: Final = 2048
COUNT_LIMIT: Final = 24
BODY_LIMIT: Final = 600
PEER: Final = b"192.0.2.7"
UPSTREAM: Final = b"10.0.0.1:9000"
IDENTITY: Final = [
    *((b"X-Consumer-ID", b"mem_1"), (b"X-Consumer-Username", b"ann@example.com"), (b"X-Organization-ID", b"org_1")),
    (b"X-Credential-Identifier", b"key_1"),
]

_STEERS: Final = frozenset(
    b"host content-length transfer-encoding connection upgrade expect x-api-key authorization x-request-id"
    b" x-forwarded-for x-forwarded-proto x-forwarded-host forwarded via".split()
)
_DROPPED: Final = frozenset(
    b"keep-alive proxy-connection te trailer proxy-authenticate proxy-authorization http2-settings proxy"
    b" x-consumer-id x-consumer-username x-consumer-custom-id x-credential-identifier x-organization-id"
    b" x-anonymous-consumer x-consumer-groups x-authenticated-scope x-authenticated-userid x-authenticated-groups"
    b" x-credential-username x-real-ip x-forwarded-port x-forwarded-prefix x-forwarded-server x-forwarded-scheme"
    b" x-forwarded-ssl x-forwarded-by x-client-ip true-client-ip x-cluster-client-ip front-end-https"
    b" x-http-method-override x-http-method x-method-override x-original-url x-rewrite-url x-original-method"
    b" x-original-uri x-forwarded-uri x-forwarded-method x-original-host x-forwarded-path x-override-url"
    b" x-authenticated-user remote-user x-remote-user x-forwarded-user x-forwarded-client-cert x-forwarded-protocol"
    b" x-forwarded x-scheme x-url-scheme cf-connecting-ip x-originating-ip x-remote-ip x-remote-addr x-host"
    b" x-http-host-override x-forwarded-email x-forwarded-groups x-forwarded-preferred-username"
    b" x-forwarded-access-token x-auth-request-user x-auth-request-email x-auth-request-groups"
    b" x-auth-request-access-token x-auth-request-preferred-username x-webauth-user tailscale-user-login"
    b" tailscale-user-name x-goog-authenticated-user-email x-goog-authenticated-user-id x-ms-client-principal"
    b" x-ms-client-principal-id x-ms-client-principal-name client-cert client-cert-chain ssl-client-cert"
    b" ssl-client-verify ssl-client-subject-dn ssl-client-issuer-dn x-ssl-client-cert x-ssl-client-verify"
    b" x-ssl-client-dn x-ssl-client-s-dn x-ssl-client-cn x-ssl-client-serial ssl-client-serial ssl-client-s-dn"
    b" x-ms-client-principal-idp cf-access-authenticated-user-email x-webauth-email x-remote-group remote-groups"
    b" remote-email remote-name".split()
)
_STANDARD: Final = frozenset(b"GET HEAD POST PUT PATCH DELETE OPTIONS CONNECT TRACE".split())
_OUR_FORM: Final = re.compile(rb"sk_[0-9A-Za-z]{49}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+;=]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_TARGET: Final = re.compile(rb"[\x21-\x22\x24-\x7e]+")
_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


@dataclass(slots=True)
class Judged:
    """One request as it must be taken."""

    method: bytes = b"GET"
    """For reading its answer; GET where the request itself could not be read."""
    statuses: set[int] = field(default_factory=set)
    """Of the gateway's own answer; empty: the upstream answers."""
    forwarded: bool = False
    """It reaches the upstream, whole or with a body that comes to no end."""
    whole: bool = False
    target: bytes = b""
    raw_target: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    """As the upstream gets them, but for X-Request-ID, which stands last."""
    body: bytes = b""
    frames_in_trailers: bool = False
    """Its trailers, which are dropped, speak of framing."""
    ends: bool = False
    """The connection ends with its answer."""
    may_end: bool = False
    """Or may, by how it was cut."""
    may_wait: bool = False
    """There may be no answer yet: what is wrong with it is only noticed before its first line has ended."""


def judge(stream: bytes, peer: bytes = PEER, upstream: bytes = UPSTREAM) -> list[Judged]:
    """All requests that the gateway may see in these bytes; the last one may be without an answer."""
    found = []
    while stream:
        judged, stream = _next(stream, peer, upstream)
        if judged is None:
            break
        found.append(judged)
        if judged.ends or (judged.forwarded and not judged.whole):
            break
    return found


def _refused(*statuses: int) -> tuple[Judged, bytes]:
    return Judged(statuses=set(statuses), ends=True), b""


def _next(data: bytes, peer: bytes, upstream: bytes) -> tuple[Judged | None, bytes]:
    data = data.removeprefix(b"\r\n")  # one empty line (RFC 9112 section 2.2)
    if data[:2] == b"\r\n":
        return _refused(400)
    section, ending, rest = data.partition(b"\r\n\r\n")
    hopeless = {400} if _is_hopeless(data) else set()
    too_large = _too_large(section if ending else data, whole=bool(ending))
    if too_large:
        return _refused(too_large, *hopeless)
    if not ending:
        if not hopeless:
            return None, b""
        refused, _ = _refused(400)
        refused.may_wait = b"\r\n" in data
        return refused, b""
    lines = section.split(b"\r\n")
    judged = Judged()
    head = _Head(lines, judged)
    if head.faults or hopeless:
        return _refused(*(hopeless or head.faults))
    head.admit(rest, peer, upstream)
    return judged, head.rest


def _is_hopeless(data: bytes) -> bool:
    """Whether its first line, whole or not, can be no request line: it is refused before it has ended."""
    line, ending, _ = data.partition(b"\r\n")
    if not ending:
        line = line.removesuffix(b"\r")  # which may be the beginning of its end
    return b"\n" in line or b"\r" in line or bool(line and not TOKEN.fullmatch(line[:1]))


def _too_large(data: bytes, *, whole: bool) -> int:
    line = data.find(b"\r\n")
    if whole and line < 0:
        line = len(data)
    # Less one or three: they may be the beginning of what ends it.
    if (line if line >= 0 else len(data) - 1) > LINE_LIMIT:
        return 414
    return 431 if line >= 0 and len(data) - (0 if whole else 3) - line > SECTION_LIMIT else 0


class _Head:
    """The faults of one head, and what comes of one without."""

    def __init__(self, lines: list[bytes], judged: Judged) -> None:
        self.judged = judged
        self.faults: set[int] = set()
        self.rest = b""
        self.minor = b"1"
        self.authority: bytes | None = None
        self.traits = False
        self.chunked = False
        self.length = 0
        self._read_line(lines[0])
        if len(lines) - 1 > COUNT_LIMIT:
            self.faults.add(431)
        fields = read_fields(lines[1:])
        if fields is None:
            self.faults.add(400)
        self.fields: list[Field] = fields or []
        if fields is not None:
            self._read_fields()

    # --- faults -------------------------------------------------------------------------------------------------------

    def _read_line(self, line: bytes) -> None:
        parts = line.split(b" ")
        if len(parts) != 3 or not TOKEN.fullmatch(parts[0]):
            self.faults.add(400)
            return
        method, target, version = parts
        if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
            self.faults.add(505 if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) else 400)
        self.minor = version[-1:]
        if method in {b"CONNECT", b"TRACE"}:
            self.faults.add(405)
        if method not in _STANDARD and method.upper() in _STANDARD:
            self.faults.add(400)
        self.judged.method, self.judged.raw_target = method, target
        if not self._read_target(method, target):
            self.faults.add(400)

    def _read_target(self, method: bytes, target: bytes) -> bool:
        if not _TARGET.fullmatch(target):
            return False
        if target == b"*":
            self.judged.target = target
            return method == b"OPTIONS"
        if target[:1] != b"/":
            match = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target)
            if match is None or not is_host(match.group(1)):
                return False
            self.authority, target = match.group(1).lower(), match.group(2)
            target = target if target[:1] == b"/" else b"/" + target
        path, mark, query = target.partition(b"?")
        plain = _path(path)
        if plain is None:
            return False
        self.traits = any(each in plain for each in (b";", b"%3B", b"%2F"))
        self.judged.target = plain + mark + query
        return True

    def _read_fields(self) -> None:
        fields = self.fields
        for name in (b"host", b"content-length", b"transfer-encoding", b"x-api-key", b"authorization"):
            if len(real(fields, name)) > 1:
                self.faults.add(400)
        hosts = real(fields, b"host")
        if not hosts and self.minor == b"1":
            self.faults.add(400)
        if hosts and (not is_host(hosts[0]) or self.authority not in {None, hosts[0].lower()}):
            self.faults.add(400)
        self.host = hosts[0].lower() if hosts else self.authority or b""
        self._read_framing(real(fields, b"content-length"), real(fields, b"transfer-encoding"))
        expectation = b", ".join(real(fields, b"expect")).lower()
        if real(fields, b"expect") and expectation != b"100-continue":
            self.faults.add(417)
        has_body = self.chunked or self.length > 0
        self.expects = bool(expectation) and self.minor == b"1" and has_body
        options = members(real(fields, b"connection"))
        self.keeps = b"close" not in options and (self.minor == b"1" or b"keep-alive" in options)
        self.nominated = options - {b"close", b"keep-alive", b"upgrade"}
        upgrade = b", ".join(real(fields, b"upgrade")).lower() == b"websocket" and b"upgrade" in options
        self.websocket = upgrade and self.judged.method == b"GET" and self.minor == b"1" and not has_body

    def _read_framing(self, lengths: list[bytes], codings: list[bytes]) -> None:
        for length in lengths:
            if codings or not LENGTH.fullmatch(length):
                self.faults.add(400)
            else:
                self.length = int(length)
        for coding in codings:
            if self.minor == b"0":
                self.faults.add(400)
            elif coding.lower() != b"chunked":
                self.faults.add(501 if OTHER_CODINGS.fullmatch(coding) else 400)
            self.chunked = True

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def admit(self, rest: bytes, peer: bytes, upstream: bytes) -> None:
        """Say whether it passes, and whether it is whole."""
        judged = self.judged
        judged.ends = not self.keeps
        if self.traits:
            judged.statuses, judged.ends = {400}, True
            return
        if self.length > BODY_LIMIT:
            judged.statuses, judged.ends = {413}, True
            return
        status, passes = self._credential()
        if status:
            arrived = not self.chunked and self.length <= len(rest)
            judged.statuses, judged.may_end = {status}, self.length > 0
            judged.ends |= status == 400 or not arrived or self.expects
            self.rest = rest[self.length :]
            return
        judged.forwarded = True
        self._frame(rest)
        judged.fields = self._forwarded(peer, upstream, passes=passes)

    def _frame(self, rest: bytes) -> None:
        judged = self.judged
        body = read_chunks(rest) if self.chunked else read_length(rest, self.length)
        judged.body, judged.whole = body.payload, body.whole
        judged.frames_in_trailers = body.frames_in_trailers
        if len(body.payload) > BODY_LIMIT:
            judged.whole = False
            judged.statuses = {413, 400} if body.broken else {413}
        elif body.broken:
            judged.statuses = {400}
        judged.ends |= not judged.whole
        self.rest = rest[body.used :]

    def _credential(self) -> tuple[int, bool]:
        """The status of a refusal or 0, and whether Authorization goes on."""
        keys, others = real(self.fields, b"x-api-key"), real(self.fields, b"authorization")
        key = keys[0] if keys else b""
        if not others:
            return (0 if key == SECRET else 401), False
        other = others[0]
        token = other[7:].strip() if other[:7].lower() == b"bearer " else None
        used = key or token
        if token is not None and used == token:
            return (0 if used == SECRET else 401), False
        ours = _OUR_FORM.search(other) is not None
        if ours and key:
            return 400, False
        return (0 if used == SECRET else 401), not ours

    def _forwarded(self, peer: bytes, upstream: bytes, *, passes: bool) -> list[tuple[bytes, bytes]]:
        fields = self.fields
        lines = [(b"Host", upstream)]
        lines += [each.line for each in fields if self._travels(each)]
        if passes:
            lines += [(b"Authorization", value) for value in real(fields, b"authorization")]
        if self.expects:
            lines.append((b"Expect", b"100-continue"))
        if self.websocket:
            lines += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        if self.chunked:
            lines.append((b"Transfer-Encoding", b"chunked"))
        elif real(fields, b"content-length"):
            lines.append((b"Content-Length", b"%d" % self.length))
        lines += [*IDENTITY, (b"X-Forwarded-For", peer), (b"X-Forwarded-Proto", b"http")]
        if self.host:
            lines.append((b"X-Forwarded-Host", self.host))
        host = b';host="%b"' % self.host if self.host else b""
        lines.append((b"Forwarded", b"for=%b%b;proto=http" % (peer, host)))
        via = real(fields, b"via")
        if via and b"via" not in self.nominated:
            lines.append((b"Via", b", ".join(via)))
        return lines

    def _travels(self, each: Field) -> bool:
        if each.key in _DROPPED or each.key in _STEERS:
            return False
        return each.name.lower() not in self.nominated


def is_host(text: bytes) -> bool:
    """Whether it is `host[:port]`."""
    match = _HOST.fullmatch(text)
    return match is not None and len(text) <= 259 and int(match.group(1) or b"0") < 65_536


def _path(path: bytes) -> bytes | None:
    """The path in its one form (RFC 3986 section 6.2.2); None where it could be read in two ways."""
    if b"\\" in path or re.search(rb"%(?![0-9A-Fa-f]{2})", path):
        return None
    parts = re.split(rb"(%..)", path)
    for at in range(1, len(parts), 2):
        byte = int(parts[at][1:], 16)
        if byte < 0x20 or byte in {0x5C, 0x7F}:
            return None
        parts[at] = bytes([byte]) if byte in _UNRESERVED else parts[at].upper()
    path = re.sub(rb"/+", b"/", b"".join(parts))
    for segment in re.split(rb"/|%2F", path):
        if re.split(rb";|%3B", segment)[0] in {b".", b".."}:
            return None
    return path
