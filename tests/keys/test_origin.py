"""Origins: one spelling, that of browsers, and nothing that would open more than was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.origin import clean_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" https://APP.Example.com ", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://app.localhost", "http://app.localhost"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_an_origin_has_the_spelling_that_browsers_send(text: str, origin: str) -> None:
    assert clean_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "null", "app.example.com", "https://", "https://*.example.com", "https://app.example.com/",
        "https://app.example.com/path", "https://app.example.com?x", "https://user@app.example.com", "https://a b",
        "https://app.example.com:", "https://app.example.com:0", "https://app.example.com:65536", "ftp://app.example.com",
        "https://bücher.example", "https://app..example.com", "https://-app.example.com", "https://app.example.com.",
        "https://a\nb", "https://app.example.com https://evil.example", "https://" + "a" * 300,
        "HTTPS://app.example.com", "file://", "http://app.example.com", "http://localhost.evil.example", "http://10.0.0.1",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an origin|must begin with https"):
        clean_origin(text)


@given(st.text(max_size=60))
def test_what_is_clean_stays_as_it_is_and_holds_no_space(text: str) -> None:
    try:
        origin = clean_origin(text)
    except ValueError:
        return
    assert clean_origin(origin) == origin
    assert " " not in origin
