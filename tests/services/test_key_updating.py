"""Changing a key: what is left out stays, what is asked for is within the rules, and a worker reads it at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from gateway.errors import Invalid
from gateway.services.key_filters import KeyFilter
from gateway.store.schema import organizations

if TYPE_CHECKING:
    from gateway.services.shapes import IssuedKey, Key
    from tests.services.conftest import World


async def issue(world: World, **body: object) -> IssuedKey:
    return (await world.keys.create(world.admin, {"name": "CI", **body})).resource


async def change(world: World, key_id: str, **body: object) -> Key:
    return (await world.keys.update(world.admin, key_id, body)).resource


async def test_each_field_changes_by_itself_and_the_others_stay(world: World) -> None:
    issued = await issue(world, description="one", permissions=["docs:read"], expires="30d")
    before = await world.keys.show(world.admin, issued.id)
    for body, shown in (
        ({"name": " CD "}, {"name": "CD"}),
        ({"description": ""}, {"description": ""}),
        ({"permissions": ["docs:*"]}, {"permissions": ("docs:*",)}),
        ({"permissions": None}, {"permissions": None}),
        ({"expires": "1d"}, {"expires_at": world.clock.now + timedelta(days=1), "expires_soon": True}),
        ({"expires": "never"}, {"expires_at": None, "expires_soon": False}),
        ({"allowed_origins": ["https://a.example"]}, {"allowed_origins": ("https://a.example",)}),
        ({"allowed_origins": None}, {"allowed_origins": None}),
    ):
        after = await change(world, issued.id, **body)
        assert after.model_dump() == {**before.model_dump(), **shown, "version": before.version + 1}
        before = after


async def test_a_renamed_key_is_found_by_its_new_name(world: World) -> None:
    issued = await issue(world)
    await change(world, issued.id, name="ÄPFEL")
    found = await world.keys.list(world.admin, KeyFilter(search="äpf"))
    assert [key.id for key in found.items] == [issued.id]
    assert (await world.keys.list(world.admin, KeyFilter(search="ci"))).items == ()


async def test_an_expired_key_lives_on_when_its_date_is_moved_within_the_maximum(world: World) -> None:
    issued = await issue(world, expires="1d")
    await world.execute(update(organizations).values(max_expiry="30d"))
    world.clock.advance(days=2)
    with pytest.raises(Invalid, match="at most 30d from now"):
        await change(world, issued.id, expires="1y")
    moved = await change(world, issued.id, expires="30d")
    assert (moved.status, moved.expires_at) == ("active", world.clock.now + timedelta(days=30))


async def test_a_worker_reads_the_change(world: World) -> None:
    issued = await issue(world)
    await change(world, issued.id, name="CD", permissions=["docs:read"], allowed_origins=["https://a.example"])
    record = await world.record(issued.secret)
    assert record is not None
    assert (record.key_name, record.permissions, record.version) == ("CD", ("docs:read",), 2)
    assert record.allowed_origins == ("https://a.example",)


async def test_every_bad_field_is_named_at_once_and_nothing_changes(world: World) -> None:
    issued = await issue(world)
    body = {"name": None, "expires": None, "permissions": "docs:read", "allowed_origins": ["a"], "owner": "x", "id": 1}
    with pytest.raises(Invalid) as caught:
        await world.keys.update(world.admin, issued.id, {**body, "description": "fine"})
    assert [(fault.field, fault.rule) for fault in caught.value.fields][:3] == [
        ("name", "must be a string"),
        ("permissions", "must be a list"),
        ("expires", "must be a string"),
    ]
    assert [fault.field for fault in caught.value.fields][3:] == ["allowed_origins.0", "owner", "id"]
    assert (await world.keys.show(world.admin, issued.id)).version == 1


async def test_the_trail_holds_the_fields_that_changed_and_no_others(world: World) -> None:
    issued = await issue(world, permissions=["docs:read"])
    await change(world, issued.id, name="CD", permissions=["docs:*"], description="")
    told = (await world.trail())[-1]
    assert (told["action"], told["target_name"]) == ("key.update", "CI")
    assert told["before"] == {"name": "CI", "permissions": ["docs:read"]}
    assert told["after"] == {"name": "CD", "permissions": ["docs:*"]}
