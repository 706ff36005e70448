"""What a client may not say to the upstream: identity, its way here, hop-by-hop and steering fields.

Each case is a whole head as the upstream must get it, so a field that is not in the table is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import KEY_FIELD
from tests.wire.cases import ANONYMOUS, KEYED, NOBODY, Forwarded, Refused, fields, framed, unkeyed
from tests.wire.cases import MALFORMED as MALFORMED_REQUEST
from tests.wire.cases_battery import try_case

if TYPE_CHECKING:
    from tests.wire.cases import Case
    from tests.wire.conftest import Tried

Z = b"Z: z\r\n"
ROUTES = [
    {},
    {"path": "/optional", "auth": "optional"},
    {"path": "/none", "auth": "none"},
    {"path": "/override", "allow_method_override": True},
]
IDENTITY = (
    *("X-Consumer-ID", "X-Consumer-Username", "X-Consumer-Custom-ID", "X-Credential-Identifier", "X-Organization-ID"),
    *("X-Anonymous-Consumer", "X-Consumer-Groups", "X-Authenticated-Scope", "X-Authenticated-Userid"),
    *("X-Authenticated-Groups", "X-Credential-Username", "X-Authenticated-User", "Remote-User", "X-Remote-User"),
    *("X-Forwarded-User", "X-Forwarded-Client-Cert", "X-Forwarded-Email", "X-Forwarded-Groups"),
    *("X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Auth-Request-User", "X-Auth-Request-Email"),
    *("X-Auth-Request-Groups", "X-Auth-Request-Access-Token", "X-Auth-Request-Preferred-Username", "X-WEBAUTH-USER"),
    *("Tailscale-User-Login", "Tailscale-User-Name", "X-Goog-Authenticated-User-Email"),
    *("X-Goog-Authenticated-User-ID", "X-MS-CLIENT-PRINCIPAL", "X-MS-CLIENT-PRINCIPAL-ID"),
    *("X-MS-CLIENT-PRINCIPAL-NAME", "Client-Cert", "Client-Cert-Chain", "SSL-Client-Cert", "SSL-Client-Verify"),
    *("SSL-Client-Subject-DN", "SSL-Client-Issuer-DN", "X-SSL-Client-Cert", "X-SSL-Client-Verify"),
    *("X-SSL-Client-DN", "X-SSL-Client-S-DN", "X-SSL-Client-CN", "X-SSL-Client-Serial", "SSL-Client-S-DN"),
    *("SSL-Client-Serial", "X-MS-CLIENT-PRINCIPAL-IDP", "Cf-Access-Authenticated-User-Email", "X-WEBAUTH-EMAIL"),
    *("X-Remote-Group", "Remote-Groups", "Remote-Email", "Remote-Name"),
)
WAY = (
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-ID", "X-Real-IP"),
    *("X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Scheme", "X-Forwarded-Ssl"),
    *("X-Forwarded-By", "X-Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "Front-End-Https"),
    *("X-Forwarded-Protocol", "X-Forwarded", "X-Scheme", "X-URL-Scheme", "CF-Connecting-IP", "X-Originating-IP"),
    *("X-Remote-IP", "X-Remote-Addr"),
)
STANDARD = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Request-ID")
OVERRIDES = (
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"),
    *("X-Original-Method", "X-Original-URI", "X-Forwarded-URI", "X-Forwarded-Method", "X-Original-Host"),
    *("X-Forwarded-Path", "X-Override-URL", "X-Host", "X-HTTP-Host-Override"),
)
HOPS = (
    *("Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Proxy-Authenticate", "Proxy-Authorization"),
    *("HTTP2-Settings", "Upgrade", "Proxy"),
)


def spellings(name: str) -> bytes:
    """The field as it is, in other cases, with `_` for `-`, twice, empty, and long enough not to be remembered."""
    plain, lower = name.encode(), name.lower().encode()
    cgi = name.upper().replace("-", "_").encode()
    mixed = plain.replace(b"-", b"_", 1)
    lines = [plain + b": root", lower + b":root", plain.upper() + b": \troot ", cgi + b": root", mixed + b": root"]
    return b"\r\n".join([*lines, plain + b":", plain + b": " + b"r" * 200])


FORGED: list[Case] = [
    Forwarded(
        f"{name}, {kind}",
        b"GET " + at + b" HTTP/1.1\r\nHost: h\r\n" + key + spellings(name) + b"\r\n" + Z + b"\r\n",
        b"GET " + at,
        Z,
        who=who,
    )
    for name in (*IDENTITY, *WAY, *OVERRIDES, *HOPS)
    for kind, at, key, who in (
        ("with a key", b"/", KEY_FIELD, KEYED),
        ("without a key", b"/optional", b"", ANONYMOUS),
        ("where none is asked for", b"/none", b"", NOBODY),
    )
    if kind == "with a key" or name in IDENTITY
]
NOMINATED: list[Case] = [
    Forwarded("a nominated field", fields(b"Connection: A\r\nA: b"), fields=Z),
    Forwarded("a nominated field in another case", fields(b"a-B: c\r\nConnection: A-b"), fields=Z),
    Forwarded(
        "several, in several fields", fields(b"Connection: A,,\t b ,\r\nA: 1\r\nB: 2\r\nConnection:C\r\nC: 3"), fields=Z
    ),
    Forwarded("one that stands several times", fields(b"Connection: A\r\nA: 1\r\na: 2"), fields=Z),
    Forwarded("Cookie", fields(b"Connection: Cookie\r\nCookie: a"), fields=Z),
    Forwarded("User-Agent", fields(b"Connection: user-agent\r\nUser-Agent: a"), fields=Z),
    Forwarded("Via", fields(b"Connection: Via\r\nVia: 1.1 a"), fields=Z),
    Forwarded("Host", fields(b"Connection: Host"), fields=Z),
    Forwarded(
        "identity", fields(b"Connection: X-Consumer-ID, X-Credential-Identifier\r\nX-Consumer-ID: root"), fields=Z
    ),
    Forwarded(
        "identity without a key",
        unkeyed(b"Connection: X-Anonymous-Consumer\r\n", b"/optional"),
        b"GET /optional",
        who=ANONYMOUS,
    ),
    Forwarded("the way here", fields(b"Connection: X-Forwarded-For, Forwarded, X-Request-ID"), fields=Z),
    Forwarded("what is not there", fields(b"Connection: nothing"), fields=Z),
    Forwarded("what is no name", fields(b'Connection: "A", @, A B\r\nA: b'), fields=b"A: b\r\n" + Z),
    Forwarded("an empty list", fields(b"Connection:"), fields=Z),
    Forwarded("close", fields(b"Connection: close"), fields=Z, ends=True),
    Forwarded("close in another case", fields(b"Connection: CLOSE"), fields=Z, ends=True),
    Forwarded("close among others", fields(b"A: b\r\nConnection: keep-alive, A ,close"), fields=Z, ends=True),
    Forwarded("close in a second field", fields(b"Connection: keep-alive\r\nConnection: close"), fields=Z, ends=True),
    Forwarded("close in the name of another", fields(b"Connection: closed\r\nProxy-Connection: close"), fields=Z),
    Forwarded(
        "an override",
        fields(b"Connection: X-Original-URL\r\nX-Original-URL: /admin").replace(b"/ ", b"/override ", 1),
        b"GET /override",
        Z,
    ),
    Forwarded(
        "Expect",
        framed(b"Connection: Expect\r\nExpect: 100-continue\r\nContent-Length: 1", b"a"),
        b"POST /",
        b"Expect: 100-continue\r\nContent-Length: 1\r\n",
        b"a",
    ),
]
KEPT: list[Case] = [
    Forwarded(
        "Via",
        fields(b"Via: 1.1 a\r\nvia: 1.0 b"),
        fields=Z,
        way=b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
        b'Forwarded: for=127.0.0.1;host="h";proto=http\r\nVia: 1.1 a, 1.0 b\r\n',
    ),
    Forwarded(
        "overrides where the route allows them",
        fields(b"X-Original-URL: /a\r\nx-http-method:PUT\r\nX_Original_URL: /b").replace(b"/ ", b"/override ", 1),
        b"GET /override",
        Z + b"X-Original-URL: /a\r\nx-http-method: PUT\r\n",
    ),
    Forwarded(
        "one of two overrides is nominated",
        fields(b"X-Original-URL: /a\r\nX-HTTP-Method: PUT\r\nConnection: x-http-method").replace(
            b"/ ", b"/override ", 1
        ),
        b"GET /override",
        Z + b"X-Original-URL: /a\r\n",
    ),
    *(
        Forwarded(f"{name.decode()} travels on", fields(name + b": a"), fields=name + b": a\r\n" + Z)
        for name in (
            b"Accept",
            b"Origin",
            b"Range",
            b"Cookie",
            b"X-Consumer",
            b"X-ConsumerID",
            b"Forwarded-For",
            b"X-Trace-ID",
            b"traceparent",
            b"Upgrade-Insecure-Requests",
            b"Max-Forwards",
            b"X-Consumer-ID2",
            b"Proxy-Status",
            b"Te-st",
        )
    ),
]
CASES: list[Case] = [*FORGED, *NOMINATED, *KEPT]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fields(case: Case, tried: Tried) -> None:
    tried("trust", try_case(case, routes=ROUTES))


def way(chain: bytes, proto: bytes = b"http", host: bytes = b"h", said: bytes = b"") -> bytes:
    own = b'for=127.0.0.1;host="h";proto=http'
    lines = [b"X-Forwarded-For: " + chain, b"X-Forwarded-Proto: " + proto, b"X-Forwarded-Host: " + host]
    return b"\r\n".join([*lines, b"Forwarded: " + said + own, b""])


TRUSTED: list[Case] = [
    Forwarded("nothing is said", fields(b"A: b"), fields=b"A: b\r\n" + Z),
    Forwarded(
        "a chain", fields(b"X-Forwarded-For: 1.2.3.4, 10.0.0.1"), fields=Z, way=way(b"1.2.3.4, 10.0.0.1, 127.0.0.1")
    ),
    Forwarded(
        "a chain in two fields",
        fields(b"X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 10.0.0.1"),
        fields=Z,
        way=way(b"1.2.3.4, 10.0.0.1, 127.0.0.1"),
    ),
    Forwarded("a chain in disguise", fields(b"X_Forwarded_For: 1.2.3.4"), fields=Z),
    Forwarded(
        "scheme and host",
        fields(b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test"),
        fields=Z,
        way=way(b"127.0.0.1", b"https", b"public.test"),
    ),
    Forwarded(
        "Forwarded",
        fields(b"Forwarded: for=1.2.3.4\r\nForwarded: for=_x"),
        fields=Z,
        way=way(b"127.0.0.1", said=b"for=1.2.3.4, for=_x, "),
    ),
    *(
        Forwarded(f"{name} is not the gateway's, so nobody's", fields(spellings(name)), fields=Z)
        for name in WAY
        if name not in STANDARD
    ),
    Forwarded("identity is nobody's to say", fields(spellings("X-Consumer-ID")), fields=Z),
    Forwarded("nor is an id that breaks JSON", fields(b'X-Request-ID: a"b'), fields=Z),
    Refused("a fold of the chain", fields(b"X-Forwarded-For: 1.2.3.4\r\n , 5.6.7.8"), MALFORMED_REQUEST),
]


@pytest.mark.parametrize("case", TRUSTED, ids=lambda case: case.name)
def test_a_trusted_proxy(case: Case, tried: Tried) -> None:
    tried("trust", try_case(case, server={"trusted_proxies": ["127.0.0.0/8"]}))
