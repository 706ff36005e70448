"""Each written form is accepted in the spelling that the gateway compares by, or refused with how to write it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.proxy.request_head import _LINES
from gateway.settings import forms

Form = Callable[[str], str]


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (forms.host_pattern, "Example.COM", "example.com"),
        (forms.host_pattern, "*.Example.com", "*.example.com"),
        (forms.host_pattern, "[::1]", "[::1]"),
        (forms.host_pattern, "127.0.0.1", "127.0.0.1"),
        (forms.route_path, "/", "/"),
        (forms.route_path, "/v1/orders-2.0_~", "/v1/orders-2.0_~"),
        (forms.route_path, "/caf%C3%A9/a;b=c,d@e", "/caf%C3%A9/a;b=c,d@e"),
        (forms.route_path, "/a%2Fb", "/a%2Fb"),
        (forms.method, "M-SEARCH", "M-SEARCH"),
        (forms.permission, "gateway:keys", "gateway:keys"),
        (forms.key_prefix, "sk_live_", "sk_live_"),
        (forms.realm, "Orders API", "Orders API"),
        (forms.target, "http://a/", "http://a"),
        (forms.network, "10.0.0.1", "10.0.0.1/32"),
        (forms.health_path, "/health?deep=1", "/health?deep=1"),
        (forms.origin, "*", "*"),
        (forms.origin, "https://app.example.com", "https://app.example.com"),
        (forms.origin, "http://localhost:3000", "http://localhost:3000"),
        (forms.origin, "http://[::1]:8000", "http://[::1]:8000"),
        (forms.origin, "https://app.example.com:80", "https://app.example.com:80"),
        (forms.origin, "chrome-extension://abcdef", "chrome-extension://abcdef"),
        (forms.field_name, "X-Trace", "X-Trace"),
        (forms.field_name, "*", "*"),
        (forms.tenant_header, "customer-id", "customer-id"),
        (forms.tenant_header, "X_Tenant", "X_Tenant"),
        (forms.store_url, "sqlite:////var/lib/gateway.db", "sqlite:////var/lib/gateway.db"),
    ],
)
def test_a_good_form_comes_out_in_its_canonical_spelling(form: Form, text: str, expected: str) -> None:
    """What comes out is what other files compare with, byte by byte; putting it in again changes nothing."""
    assert form(text) == expected
    assert form(expected) == expected


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        (forms.host_pattern, "*", "leave the list empty"),
        (forms.route_path, "/admin/*", 'no patterns, and each covers all below it: write "/admin"$'),
        (forms.route_path, "/admin*", 'write "/admin"$'),
        (forms.route_path, "/admin/.*", 'write "/admin"$'),
        (forms.route_path, "/admin/**", 'write "/admin"$'),
        (forms.route_path, "/*", 'write "/"$'),
        (forms.route_path, "/users/{id}", '"{id}" in it: paths have no patterns, and each covers all .*"/users"$'),
        (forms.route_path, "/users/<id>", 'paths have no patterns, and each covers all below it: write "/users"$'),
        (forms.route_path, "/users/{id}/orders", "paths have no patterns, and each covers all below it$"),
        (forms.route_path, "/a/*/b", "paths have no patterns, and each covers all below it$"),
        (forms.route_path, "/v*.js", "no patterns, and each covers all below it$"),
        (forms.host_pattern, "a.*.com", "whole first label"),
        (forms.host_pattern, "*a.com", "whole first label"),
        (forms.host_pattern, "*.1.2", "IPv4|in front of a name"),
        (forms.host_pattern, "*.[::1]", "in front of a name"),
        (forms.host_pattern, "a.com:80", "without a port"),
        (forms.host_pattern, "a.com.", "neither"),
        (forms.route_path, "", "must begin with /"),
        (forms.route_path, "api", "must begin with /"),
        (forms.route_path, "/a?b", "do not look at queries"),
        (forms.route_path, "/a//b", 'write "/a/b"'),
        (forms.route_path, "/a/", 'write "/a"'),
        (forms.route_path, "//", 'write "/"'),
        (forms.route_path, "/a/../b", r"\. or \.\."),
        (forms.route_path, "/.", r"\. or \.\."),
        (forms.route_path, "/%2e%2E", r"write \. for %2e"),
        (forms.route_path, "/%41", "write A for %41"),
        (forms.route_path, "/a%2fb", "write %2F for %2f"),
        (forms.route_path, "/%00", "%00"),
        (forms.route_path, "/%5C", "%5C"),
        (forms.route_path, "/a\\b", "percent-encode"),
        (forms.route_path, "/100%", "two hexadecimal digits"),
        (forms.route_path, "/%zz", "two hexadecimal digits"),
        (forms.route_path, "/café", 'write "/caf%C3%A9"'),
        (forms.route_path, "/a b", 'write "/a%20b"'),
        (forms.method, "get", 'write "GET"'),
        (forms.method, "TRACE", "always refuses"),
        (forms.method, "GET POST", "such as GET"),
        (forms.permission, "orders:*", "without"),
        (forms.permission, "orders", "resource:action"),
        (forms.permission, "a:b:c", "resource:action"),
        (forms.key_prefix, "sk", "end in _"),
        (forms.key_prefix, "_", "begin with a letter"),
        (forms.realm, 'a"b', "printable"),
        (forms.realm, "", "1 to 64"),
        (forms.name, "a b", "letters, digits"),
        (forms.health_path, "health", "must be a path"),
        (forms.health_path, "/a b", "must be a path"),
        (forms.origin, "", "origin in lower case"),
        (forms.origin, "null", "origin in lower case"),
        (forms.origin, "app.example.com", "origin in lower case"),
        (forms.origin, "https://App.example.com", "origin in lower case"),
        (forms.origin, "https://app.example.com/", "origin in lower case"),
        (forms.origin, "https://app.example.com/page", "origin in lower case"),
        (forms.origin, "https://*.example.com", "origin in lower case"),
        (forms.origin, "https://user@example.com", "origin in lower case"),
        (forms.origin, "https://a\r\nb", "origin in lower case"),
        (forms.origin, "https://app.example.com:443", 'write "https://app.example.com"'),
        (forms.origin, "http://localhost:80", 'write "http://localhost"'),
        (forms.field_name, "X Trace", "such as X-Tenant"),
        (forms.field_name, "X-Trace:", "such as X-Tenant"),
        (forms.field_name, "", "such as X-Tenant"),
        (forms.field_name, "Authorization", "leaves alone"),
        (forms.field_name, "x_api_key", "leaves alone"),
        (forms.tenant_header, "Host", "leaves alone"),
        (forms.tenant_header, "X-Organization-ID", "overwritten or dropped"),
        (forms.tenant_header, "x_forwarded_for", "overwritten or dropped"),
        (forms.store_url, "mysql://a", "sqlite:///"),
        (forms.store_url, "sqlite://", "sqlite:///"),
        (forms.store_url, "sqlite:///", "must name a file"),
        (forms.store_url, "sqlite:///:memory:", "must name a file"),
        (forms.store_url, "sqlite:///a.db?mode=ro", "without options"),
        (forms.store_url, "sqlite:///a\x1b.db", "without control characters"),
        (forms.store_url, "sqlite:///\udcff.db", "in UTF-8"),
        (forms.file_name, "a\0", "without control characters"),
        (forms.file_name, "\ud800", "in UTF-8"),
        (forms.new_file_name, "é" * 2048, "of at most 4095 bytes"),
        (forms.new_file_name, "a\n", "without control characters"),
        (forms.route_path, "/\udcff", "percent-encoded"),
        (forms.route_path, "/" + "é" * 1000, "…"),
    ],
)
def test_a_bad_form_is_refused_with_what_to_write(form: Form, text: str, reason: str) -> None:
    """Each reason says what is wrong with this text, not that some pattern did not match."""
    with pytest.raises(ValueError, match=reason):
        form(text)


def test_a_tenant_header_is_a_field_that_reaches_the_policies() -> None:
    """One that the gateway takes out of every request before would be compared with nothing, and all would agree."""
    for name in (name for name, kind in _LINES._special.items() if kind != _LINES._noted):
        with pytest.raises(ValueError, match=r"leaves alone|overwritten or dropped"):
            forms.tenant_header(name.decode())


def test_a_store_address_names_a_relative_or_an_absolute_file() -> None:
    """Three slashes begin at the working directory, four at the root."""
    assert forms.store_path("sqlite:///data/gateway.db") == Path("data/gateway.db")
    assert forms.store_path("sqlite:////var/gateway.db") == Path("/var/gateway.db")


def test_the_same_server_under_two_spellings_is_found() -> None:
    """A server listed twice would get twice its share."""
    with pytest.raises(ValueError, match="same server twice"):
        forms.distinct_targets(("http://a", "http://A:80"))
    with pytest.raises(ValueError, match='"GET" twice'):
        forms.distinct(("GET", "PUT", "GET"))
