"""Repeated calls: one thing is made however often and however close to each other the calls come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from gateway.errors import Conflict, Invalid, NotFound
from gateway.services.keys import KeyService
from gateway.store.engine import create_engine
from gateway.store.schema import idempotency_keys, keys

if TYPE_CHECKING:
    from tests.services.conftest import World


async def count(world: World) -> int:
    return int((await world.rows(select(func.count()).select_from(keys)))[0][0])


async def test_a_repeated_create_answers_with_the_same_key_and_without_its_secret(world: World) -> None:
    body = {"name": "CI", "permissions": ["docs:read"], "expires": "1d"}
    first = await world.keys.create(world.admin, body, "one")
    await world.keys.disable(world.admin, first.resource.id)
    world.clock.advance(hours=23)
    before = await world.log()
    again = await world.keys.create(world.admin, dict(reversed(body.items())), "one")
    assert (again.resource.id, again.seq) == (first.resource.id, None)
    assert (again.resource.secret, again.resource.code) == (None, "secret_already_issued")
    assert again.resource.status == "disabled"
    assert first.resource.code is None
    assert await world.log() == before


async def test_a_repeated_import_answers_with_the_same_key(world: World) -> None:
    body = {"name": "Old", "sha256": "0" * 64, "entropy_bits": 256}
    first = await world.keys.import_key(world.admin, body, "one")
    again = await world.keys.import_key(world.admin, body, "one")
    assert (again.resource, again.seq) == (first.resource, None)


async def test_of_many_calls_at_once_one_makes_a_key_and_the_others_find_it(world: World) -> None:
    before = await count(world)
    body = {"name": "CI"}
    another_process = create_engine(world.url)
    services = [world.keys, KeyService(another_process, clock=world.clock)]
    made = await asyncio.gather(*(services[n % 2].create(world.admin, body, "one") for n in range(10)))
    await another_process.dispose()
    assert await count(world) == before + 1
    assert len({each.resource.id for each in made}) == 1
    assert sorted(each.resource.secret is not None for each in made) == [False] * 9 + [True]


async def test_another_request_by_the_same_key_is_refused(world: World) -> None:
    await world.keys.create(world.admin, {"name": "CI"}, "one")
    for call in (
        world.keys.create(world.admin, {"name": "CD"}, "one"),
        world.keys.create(world.admin, {"name": "CI", "description": ""}, "one"),
        world.keys.create(world.admin, {}, "one"),
        world.keys.import_key(world.admin, {"name": "CI"}, "one"),
        world.service_accounts.create(world.admin, {"name": "CI"}, "one"),
    ):
        with pytest.raises(Conflict) as caught:
            await call
        assert caught.value.code == "idempotency_key_reused"


async def test_after_a_day_the_key_is_forgotten(world: World) -> None:
    first = await world.keys.create(world.admin, {"name": "CI"}, "one")
    world.clock.advance(hours=24)
    again = await world.keys.create(world.admin, {"name": "CI"}, "one")
    assert again.resource.id != first.resource.id
    assert len(await world.rows(select(idempotency_keys))) == 1


async def test_a_call_that_failed_can_be_sent_again_and_mended(world: World) -> None:
    with pytest.raises(Invalid):
        await world.keys.create(world.admin, {"name": ""}, "one")
    await world.keys.create(world.admin, {"name": "CI"}, "one")


async def test_the_keys_belong_to_who_calls_by_whichever_of_their_keys(world: World) -> None:
    first = await world.keys.create(world.admin, {"name": "CI", "permissions": []}, "one")
    _, bob = await world.invite("bob@example.com")
    assert (await world.keys.create(bob, {"name": "Other"}, "one")).resource.secret is not None
    by_another_key = await world.limited("gateway:keys")
    repeated = await world.keys.create(by_another_key, {"name": "CI", "permissions": []}, "one")
    assert repeated.resource.id == first.resource.id


async def test_a_key_that_was_deleted_since_is_not_found_again(world: World) -> None:
    first = await world.keys.create(world.admin, {"name": "CI"}, "one")
    await world.keys.delete(world.admin, first.resource.id)
    with pytest.raises(NotFound):
        await world.keys.create(world.admin, {"name": "CI"}, "one")


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "\n"])
async def test_a_key_of_another_form_is_refused(world: World, key: str) -> None:
    with pytest.raises(Invalid, match="Idempotency-Key: must be 1 to 255 visible ASCII"):
        await world.keys.create(world.admin, {"name": "CI"}, key)
