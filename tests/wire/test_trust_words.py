"""What the gateway says of itself to the upstream where the settings ask for it: request ids, Via, whose key it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy.harness import OTHER_SECRET, get
from tests.wire.live import live, run

if TYPE_CHECKING:
    from tests.wire.conftest import Tried

EDGE = {"trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"from-the-edge", True),
        (b"0af7651916cd43dd8448eb211c80319c/1;o=1".replace(b";", b":"), True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"a b", False),
        (b'a"b', False),
        (b"a\\b", False),
        (b"a\xffb", False),
        (b"a, b", False),
    ],
)
def test_a_request_id_is_kept_only_from_a_trusted_proxy(said: bytes, *, kept: bool, tried: Tried) -> None:
    """And only one that can stand in a log and in JSON as it is."""

    async def whole() -> None:
        for server in (EDGE, {}):
            async with live(server=server) as gate:
                client = await gate.ask(get()[:-2] + b"X-Request-ID: " + said + b"\r\n\r\n")
                seen = gate.upstream.requests[0].one("x-request-id")
                assert (seen == said.decode("latin-1")) is (kept and server is EDGE)
                assert client.answers[0].one("x-request-id") == seen

    run(whole())
    tried("trust", 2)


@pytest.mark.parametrize(
    ("said", "told"), [(b"", "1.1 keygate"), (b"Via: 1.1 a\r\nVia: 1.0 b\r\n", "1.1 a, 1.0 b, 1.1 keygate")]
)
def test_via_where_it_is_asked_for(said: bytes, told: str, tried: Tried) -> None:
    async def whole() -> None:
        async with live(server={"via": True}) as gate:
            await gate.ask(get()[:-2] + said + b"\r\n")
            assert gate.upstream.requests[0].all("via") == [told]

    run(whole())
    tried("trust", 1)


def test_names_are_visible_ascii_whatever_is_in_them(tried: Tried) -> None:
    """A name can end no field and begin none."""
    names = {
        "Zoë Müller": "Zo%C3%AB M%C3%BCller",
        "a\r\nX-Consumer-ID: root": "a%0D%0AX-Consumer-ID: root",
        " 50% ": "%2050%25%20",
        "a\0b\x7f": "a%00b%7F",
    }

    async def whole() -> None:
        async with live() as gate:
            for name, told in names.items():
                gate.upstream.forget()
                gate.worker.cache.forget_everything()
                gate.keys.put(OTHER_SECRET, owner_name=name, owner_external_id=name, key_id="key_2")
                await gate.ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\n"))
                (request,) = gate.upstream.requests
                assert request.all("x-consumer-username") == [told]
                assert request.all("x-consumer-custom-id") == [told]
                assert request.all("x-consumer-id") == ["mem_1"]
                assert request.all("x-credential-identifier") == ["key_2"]

    run(whole())
    tried("trust", len(names))
