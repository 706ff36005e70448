"""The one path that routes match on and the upstream gets: whatever way it is spelt, it is the same."""

from __future__ import annotations

import functools
import re
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.target import ENCODED_SLASH, SEMICOLON, normalise
from tests.proxy.harness import OK, SECRET, Gate, error_of, get
from tests.proxy.profiles import scaled

PIECES = st.sampled_from(
    [
        *(
            "/",
            "//",
            "///",
            ".",
            "..",
            "/.",
            "/..",
            "/./",
            "/../",
            "a",
            "Z",
            "~",
            "-",
            "_",
            ";",
            "=",
            "@",
            ":",
            "*",
            "'",
        ),
        *(
            "%2e",
            "%2E",
            "%2f",
            "%2F",
            "%5c",
            "%61",
            "%41",
            "%7e",
            "%25",
            "%252e",
            "%20",
            "%c3%a4",
            "%00",
            "%3b",
            "%",
            "%4",
        ),
        *("\\", "..;", "%2e%2e", "%2%65", "a.b", "...", "%3f", "%23", "%0a"),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map(lambda pieces: ("/" + "".join(pieces)).encode())
SEGMENTS = st.text("abcXYZ019-_~.", min_size=1, max_size=6).filter(lambda text: text.strip(".") != "")


def normal(path: bytes) -> bytes | None:
    """The path as the gateway sees it; None where it is refused."""
    try:
        return normalise(path)[0]
    except ValueError:
        return None


@settings(max_examples=scaled(500), deadline=None)
@given(PATHS)
def test_normalising_again_changes_nothing(path: bytes) -> None:
    once = normal(path)
    if once is not None:
        assert normal(once) == once
        assert normalise(once)[1] == normalise(path)[1]


@settings(max_examples=scaled(500), deadline=None)
@given(PATHS)
def test_no_result_can_be_read_as_another_path(path: bytes) -> None:
    """No double slash, no dot segment, nothing coded that need not be, to whoever decodes once more as well."""
    result = normal(path)
    if result is None:
        return
    assert b"//" not in result
    assert b"\\" not in result
    assert result.startswith(b"/")
    decoded = unquote_to_bytes(result)
    assert b"\\" not in decoded
    assert not any(byte < 0x20 or byte == 0x7F for byte in decoded)
    for reading in (result, decoded):
        segments = [segment.partition(b";")[0] for segment in reading.split(b"/")]
        assert b"." not in segments
        assert b".." not in segments
    traits = normalise(path)[1]
    assert (b"%2F" in result) is bool(traits & ENCODED_SLASH)
    assert (b";" in decoded) is bool(traits & SEMICOLON)
    assert b"%2f" not in result


@settings(max_examples=scaled(300), deadline=None)
@given(st.lists(SEGMENTS, min_size=1, max_size=4), st.data())
def test_percent_coded_variants_are_the_same_path(segments: list[str], data: st.DataObject) -> None:
    plain = ("/" + "/".join(segments)).encode()
    variant = b"".join(
        data.draw(st.sampled_from([b"%c" % byte, b"%%%02x" % byte, b"%%%02X" % byte]))
        if byte != 0x2F
        else b"/" * data.draw(st.integers(1, 3))
        for byte in plain
    )
    assert normal(variant) == plain


@settings(max_examples=scaled(100), deadline=None)
@given(st.data())
def test_no_spelling_walks_around_the_rules_of_a_route(data: st.DataObject) -> None:
    """`/admin` needs a permission that the key lacks, everything else does not: no way to write it gets through."""
    gate = Gate(routes=[{}, {"path": "/admin", "permissions": ["admin:use"]}])
    gate.store.put(SECRET, owner_permissions=("other:use",))
    spelt = b"".join(
        data.draw(st.sampled_from([b"%c" % byte, b"%%%02x" % byte]))
        if byte != 0x2F
        else data.draw(st.sampled_from([b"/", b"//", b"/./", b"/x/../"]))
        for byte in b"/admin"
    )
    rest = data.draw(st.sampled_from([b"", b"/", b"/users", b"//", b"?a", b"/."]))
    client = gate.ask(get(spelt + rest))
    assert client.answer.status in {400, 403}
    assert not gate.upstreams


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/%61dmin", "/admin"),
        ("//admin", "/admin"),
        ("/a///b//", "/a/b/"),
        ("/%7Euser", "/~user"),
        ("/a%20b", "/a%20b"),
        ("/a%c3%a4", "/a%C3%A4"),
        ("/%2525", "/%2525"),
        ("/%3Fa", "/%3Fa"),
        ("/a+b", "/a+b"),
    ],
)
def test_the_upstream_gets_what_was_matched_and_the_query_untouched(raw: str, expected: str) -> None:
    gate = Gate()
    gate.ask(get(raw.encode() + b"?q=%61//../%2f"))
    assert gate.upstream.request.target == expected.encode() + b"?q=%61//../%2f"


def test_a_route_may_switch_normalisation_of_what_is_forwarded_off_but_matches_all_the_same() -> None:
    gate = Gate(routes=[{}, {"path": "/raw", "normalize_path": False}])
    gate.ask(get(b"//r%61w//a%62c"))
    assert gate.upstream.request.target == b"//r%61w//a%62c"


@pytest.mark.parametrize(
    ("path", "setting"),
    [(b"/a%2fb", "allow_encoded_slash"), (b"/a;b=c/d", "allow_semicolon"), (b"/a%3bb/d", "allow_semicolon")],
)
def test_a_route_may_accept_coded_slashes_and_semicolons(path: bytes, setting: str) -> None:
    assert error_of(Gate().ask(get(path)).answer) == (400, "ambiguous_target")
    gate = Gate(routes=[{setting: True}])
    gate.ask(get(path))
    assert gate.upstream.request.target == path.replace(b"%2f", b"%2F").replace(b"%3b", b"%3B")


@pytest.mark.parametrize(
    "path", [b"/a/..%2fb", b"/a%2f..%2fb", b"/%2e%2e%2fb", b"/a/..;%2f", b"/a%2f.", b"/..;/a", b"/a%2f..%3b"]
)
def test_what_a_route_accepts_hides_no_dot_segment(path: bytes) -> None:
    gate = Gate(routes=[{"allow_encoded_slash": True, "allow_semicolon": True}])
    assert error_of(gate.ask(get(path)).answer) == (400, "ambiguous_target")


LAX = {"allow_encoded_slash": True, "allow_semicolon": True}


@pytest.mark.parametrize(
    "path",
    [
        *(b"/admin%2Fx", b"/admin%2fx", b"/admin%2F", b"/admin;v=1/x", b"/admin;v=1", b"/admin;", b"/;v=1/admin"),
        *(b"/%2Fadmin", b"/%61dmin%2Fx", b"//admin%2Fx", b"/admin%2Fx;v=1", b"/admin;v=1%2Fx", b"/admin;%2F/x"),
        *(b"/a/admin%2Fx", b"/a;v=1/admin/x", b"/a;/admin;/x", b"/a%2Fadmin%2Fx", b"/a;v=1%2Fadmin/x"),
        *(b"/a;%2Fb/admin", b"/a;x%2Fadmin", b"/a/admin;x%2Fy", b"/a;%2Fb/%2Fadmin"),
        *(b"/admin%3Bx/y", b"/admin%3b", b"/%3Bx/admin", b"/admin%3Bx%2Fy", b"/a%2Fadmin%3B;%2Fb/x"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_what_a_route_accepts_is_no_way_to_what_another_one_covers(path: bytes, method: bytes) -> None:
    """Servers decode slashes and semicolons, cut segments there, or do both: to none of them may it be `/admin`.

    As it was to Shiro (CVE-2020-13933). Whether the route there asks for more, serves this method, or is as lax itself.
    """
    for there in ({"permissions": ["admin:use"]}, {"methods": ["POST"]}, LAX, {"auth": "none", **LAX}):
        gate = Gate(routes=[LAX, {"path": "/admin", **there}, {"path": "/a/admin", **there}])
        client = gate.ask(get(path).replace(b"GET", method))
        assert error_of(client.answer) == (400, "ambiguous_target")
        assert not gate.upstreams


@pytest.mark.parametrize(
    ("path", "there"),
    [
        *((b"/a%2Fb;c/x", "/a/b;c"), (b"/a%2Fb;v=1/x", "/a%2Fb"), (b"/a;v=1%2Fb", "/a;v=1/b")),
        *((b"/a%3Bb/x", "/a;b"), (b"/a%3Bv%2Fb/c", "/a/c"), (b"/a;v/b%3Bc", "/a/b;c")),
        (b"/a%3By%2Fb;w%2Fv/c", "/a/b/c"),
    ],
)
def test_nor_to_one_whose_own_path_has_them(path: bytes, there: str) -> None:
    """What decodes slashes may leave semicolons alone, and the other way about."""
    gate = Gate(routes=[LAX, {"path": there, **LAX, "permissions": ["admin:use"]}])
    gate.store.put(SECRET, owner_permissions=("other:use",))
    client = gate.ask(get(path))
    assert client.answer.status in {400, 403}
    assert not gate.upstreams


@pytest.mark.parametrize(
    "path",
    [
        *(b"/admins%2Fx", b"/a%2Fadmin", b"/admi;n", b"/b;admin/x", b"/b%2F%2Fadmin", b"/b;v=1%2Fx/admin"),
        *(b"/docs%2Fa", b"/docs/a%2Fb;v=1/c", b"/docs;v=1"),
    ],
)
def test_what_leads_to_the_same_route_in_every_reading_goes_on(path: bytes) -> None:
    gate = Gate(routes=[LAX, {"path": "/admin", "permissions": ["admin:use"]}])
    gate.ask(get(path))
    assert gate.upstream.request.target == path


@settings(max_examples=scaled(200), deadline=None)
@given(st.lists(st.sampled_from(["/", "%2F", ";", "%3B", "a", "admin", "b"]), max_size=8).map("".join))
def test_no_reading_of_what_is_forwarded_is_another_routes(rest: str) -> None:
    """Whatever order of the two a server has, or whichever one it does: read by a second opinion."""
    gate = Gate(routes=[LAX, {"path": "/a/b", **LAX}, {"path": "/admin", "permissions": ["admin:use"]}])
    gate.store.put(SECRET, owner_permissions=("other:use",))
    gate.ask(get(b"/" + rest.encode()))
    if not gate.upstreams:
        return
    target = gate.upstream.request.target.decode()
    cut = functools.partial(re.compile("[^/]*").sub, lambda segment: segment.group().split(";")[0])
    readings = [target, unquote(target), cut(target), cut(unquote(target)), unquote(cut(target))]
    readings.append(cut(readings[-1]))
    prefixes = {"/".join([each for each in reading.split("/") if each][:2]) for reading in readings}
    assert not any(each.split("/")[0] == "admin" for each in prefixes), target
    assert len({each == "a/b" for each in prefixes}) == 1, target


@pytest.mark.parametrize(("path", "setting"), [("/a%2Fb", "allow_encoded_slash"), ("/a;v=1", "allow_semicolon")])
def test_a_route_whose_own_path_can_be_read_in_two_ways_answers_for_both(path: str, setting: str) -> None:
    """Whatever stands in front of the other way: it was written down so. What is below it is not."""
    route: dict[str, Any] = {"path": path, setting: True}
    secret: dict[str, Any] = {"path": f"/a/{'b/' if '%' in path else ''}secret", "permissions": ["admin:use"]}
    for others in ([], [{"auth": "none"}], [secret], [{}, secret]):
        gate = Gate(routes=[route, *others])
        for below in (path, f"{path}/c"):
            gate.ask(get(below.encode()))
            assert gate.upstreams[-1].request.target == below.encode()
        before = len(gate.upstreams)
        client = gate.ask(get(f"{path}/secret".encode()))
        if secret in others:
            assert error_of(client.answer) == (400, "ambiguous_target")
        assert len(gate.upstreams) == before + (secret not in others)


@pytest.mark.parametrize("routes", [[{}], [{}, {"path": "/a"}], [{}, {"path": "/a/b/c"}]])
def test_the_asterisk_is_forwarded_whatever_other_routes_there_are(routes: list[dict[str, str]]) -> None:
    gate = Gate(routes=routes)
    client = gate.ask(get(b"*").replace(b"GET", b"OPTIONS"))
    gate.upstream.send(OK)
    assert gate.upstream.request.target == b"*"
    assert client.answer.status == 200
