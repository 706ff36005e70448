"""Names of request fields that do not travel on: hop-by-hop ones, and what upstreams are known to believe or to obey.

Invariant: they are in lower case with `-`, as `gateway.proxy.grammar` compares them. `gateway.settings.forms` takes
none of them for a tenant header.
"""

from typing import Final

DROPPED_NAMES: Final = (
    # Hop-by-hop, RFC 9110 section 7.6.1; trailers are dropped, so is their announcement and the wish for them.
    *(b"keep-alive", b"proxy-connection", b"te", b"trailer", b"proxy-authenticate", b"proxy-authorization"),
    *(b"http2-settings",),
    # No field of HTTP, and CGI makes HTTP_PROXY of it, which clients in the upstream obey (httpoxy, CVE-2016-5385).
    *(b"proxy",),
    # Identity: what an upstream believes comes from the gateway alone.
    *(b"x-consumer-id", b"x-consumer-username", b"x-consumer-custom-id", b"x-credential-identifier"),
    *(b"x-organization-id", b"x-anonymous-consumer", b"x-consumer-groups", b"x-authenticated-scope"),
    *(b"x-authenticated-userid", b"x-authenticated-groups", b"x-credential-username", b"x-authenticated-user"),
    *(b"remote-user", b"x-remote-user", b"x-forwarded-user", b"x-forwarded-client-cert"),
    # What proxies that log people in, or ask for their certificates, tell servers of them (RFC 9440 for the latter).
    *(b"remote-name", b"remote-email", b"remote-groups", b"x-remote-group", b"x-webauth-user", b"x-webauth-email"),
    *(b"x-forwarded-email", b"x-forwarded-groups", b"x-forwarded-preferred-username", b"x-forwarded-access-token"),
    *(b"x-auth-request-user", b"x-auth-request-email", b"x-auth-request-groups", b"x-auth-request-access-token"),
    *(b"x-auth-request-preferred-username", b"cf-access-authenticated-user-email", b"tailscale-user-login"),
    *(b"tailscale-user-name", b"x-goog-authenticated-user-email", b"x-goog-authenticated-user-id"),
    *(b"x-ms-client-principal", b"x-ms-client-principal-id", b"x-ms-client-principal-name"),
    *(b"x-ms-client-principal-idp", b"client-cert", b"client-cert-chain", b"ssl-client-cert", b"ssl-client-verify"),
    *(b"ssl-client-subject-dn", b"ssl-client-issuer-dn", b"ssl-client-s-dn", b"ssl-client-serial"),
    *(b"x-ssl-client-cert", b"x-ssl-client-verify", b"x-ssl-client-dn", b"x-ssl-client-s-dn", b"x-ssl-client-cn"),
    *(b"x-ssl-client-serial",),
    # Other spellings of what X-Forwarded-* says; the gateway sets none, so nobody does: no trusted proxy either.
    *(b"x-real-ip", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server", b"x-forwarded-scheme"),
    *(b"x-forwarded-ssl", b"x-forwarded-by", b"x-forwarded-protocol", b"x-forwarded", b"x-scheme", b"x-url-scheme"),
    *(b"x-client-ip", b"true-client-ip", b"x-cluster-client-ip", b"cf-connecting-ip", b"x-originating-ip"),
    *(b"x-remote-ip", b"x-remote-addr", b"front-end-https"),
)
OVERRIDE_NAMES: Final = (
    *(b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"),
    *(b"x-original-method", b"x-original-uri", b"x-forwarded-uri", b"x-forwarded-method", b"x-original-host"),
    *(b"x-forwarded-path", b"x-override-url", b"x-host", b"x-http-host-override"),
)
"""Dropped unless the route says `allow_method_override`."""
