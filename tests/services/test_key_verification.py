"""Verify: the answer that the proxy would give, with the same codes, to whoever holds the whole secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from gateway.errors import Invalid
from gateway.services.key_verification import UNKNOWN
from gateway.store.schema import owners

if TYPE_CHECKING:
    from gateway.services.shapes import IssuedKey, Verification
    from tests.services.conftest import World


async def issue(world: World, **body: object) -> IssuedKey:
    return (await world.keys.create(world.admin, {"name": "CI", **body})).resource


async def verify(world: World, secret: str | None, *permissions: str, origin: str | None = None) -> Verification:
    return await world.keys.verify(world.admin, {"key": secret, "permissions": list(permissions), "origin": origin})


async def test_a_good_secret_is_valid_for_what_key_and_owner_both_allow(world: World) -> None:
    await world.employ("ci", "docs:*", "gateway:keys")
    issued = await issue(world, owner="ci", permissions=["*:read", "docs:write", "pay:all"])
    found = await verify(world, f"  {issued.secret}\n", "docs:read")
    assert (found.valid, found.code, found.permissions) == (True, None, ("docs:read", "docs:write"))
    assert found.key == await world.keys.show(world.admin, issued.id)
    for wanted in (("pay:all",), ("docs:delete",), ("docs:read", "pay:read"), ("docs:*",), ("gateway:keys",)):
        found = await verify(world, issued.secret, *wanted)
        assert (found.valid, found.code) == (False, "insufficient_permissions")
        assert found.permissions == ("docs:read", "docs:write")


async def test_a_key_that_inherits_is_valid_for_all_that_its_owner_holds_now(world: World) -> None:
    issued = await issue(world)
    assert (await verify(world, issued.secret, "docs:read", "gateway:admin")).permissions == ("*:*", "gateway:*")
    await world.execute(update(owners).values(permissions=("docs:read", "gateway:read")))
    assert (await verify(world, issued.secret, "docs:read")).permissions == ("docs:read", "gateway:read")
    assert (await verify(world, issued.secret, "docs:write")).code == "insufficient_permissions"


async def test_each_end_of_a_key_has_its_code(world: World) -> None:
    issued = await issue(world, expires="30d")
    await world.keys.disable(world.admin, issued.id)
    assert (await verify(world, issued.secret)).code == "disabled_api_key"
    world.clock.advance(days=30)
    assert (await verify(world, issued.secret)).code == "expired_api_key"
    await world.keys.revoke(world.admin, issued.id)
    found = await verify(world, issued.secret)
    assert (found.valid, found.code, found.permissions) == (False, "revoked_api_key", ())
    assert found.key is not None
    await world.keys.delete(world.admin, issued.id)
    assert await verify(world, issued.secret) == UNKNOWN


async def test_an_old_secret_is_good_for_its_grace_period(world: World) -> None:
    old = await issue(world)
    new = (await world.keys.rotate(world.admin, old.id, {"grace": "1h"})).resource
    assert (await verify(world, old.secret)).valid
    world.clock.advance(hours=1)
    assert (await verify(world, old.secret)).code == "expired_api_key"
    assert (await verify(world, new.secret)).valid
    await world.keys.disable(world.admin, old.id)
    assert (await verify(world, old.secret)).code == "disabled_api_key", "as the proxy says it"


async def test_what_is_unknown_malformed_or_another_organizations_looks_the_same(world: World) -> None:
    eve = await world.another()
    theirs = (await world.keys.create(eve, {"name": "Theirs"})).resource.secret
    assert theirs is not None
    for secret in (theirs, theirs[:-1] + ("a" if theirs[-1] != "a" else "b"), "legacy", "\ud800", " ", "é" * 300):
        assert await verify(world, secret) == UNKNOWN
    assert (await world.keys.verify(eve, {"key": theirs})).valid


async def test_a_key_bound_to_pages_is_valid_with_one_of_their_origins_alone(world: World) -> None:
    issued = await issue(world, allowed_origins=["https://a.example", "https://b.example"], permissions=["docs:read"])
    for origin in (None, "https://c.example", "HTTPS://A.EXAMPLE", " https://a.example", "https://a.example/", "null"):
        found = await verify(world, issued.secret, "docs:read", "pay:all", origin=origin)
        assert (found.valid, found.code, found.permissions) == (False, "origin_not_allowed", ())
        assert found.key is not None
    assert (await world.keys.verify(world.admin, {"key": issued.secret})).code == "origin_not_allowed"
    assert (await verify(world, issued.secret, "docs:read", origin="https://b.example")).valid
    assert (
        await verify(world, issued.secret, "pay:all", origin="https://a.example")
    ).code == "insufficient_permissions"
    await world.keys.disable(world.admin, issued.id)
    assert (await verify(world, issued.secret)).code == "disabled_api_key", "told before the origin, as at the proxy"


async def test_a_key_bound_to_no_page_is_valid_from_anywhere(world: World) -> None:
    issued = await issue(world)
    for origin in (None, "https://a.example", "null"):
        assert (await verify(world, issued.secret, origin=origin)).valid


async def test_a_reader_who_sees_no_other_key_verifies_what_is_presented_to_them(world: World) -> None:
    _, service = await world.employ("edge", "gateway:read")
    issued = await issue(world)
    assert (await world.keys.verify(service, {"key": issued.secret})).valid


async def test_a_bad_request_is_told_without_the_secret(world: World) -> None:
    for body in (
        {},
        {"key": 5},
        {"key": "x" * 513},
        {"key": ""},
        {"key": "a\0b"},
        {"key": "x", "permissions": ["y"]},
        {"key": "x", "origin": ""},
        {"key": "x", "origin": "x" * 301},
    ):
        with pytest.raises(Invalid) as caught:
            await world.keys.verify(world.admin, body)
        assert "xxx" not in repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
