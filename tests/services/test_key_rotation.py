"""Rotation: both secrets work until the old one's time is over or finished, and a key never has a third."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from gateway.errors import Conflict, Invalid
from gateway.keys import secret as secrets
from gateway.services.shapes import LastUse
from gateway.store.schema import key_secrets, key_uses, retired_digests, secret_uses

if TYPE_CHECKING:
    from gateway.services.shapes import IssuedKey
    from tests.services.conftest import World


async def issue(world: World, **body: object) -> IssuedKey:
    return (await world.keys.create(world.admin, {"name": "CI", **body})).resource


async def works(world: World, issued: IssuedKey) -> bool:
    """Whether a worker that asks the store lets the secret through at this moment, as far as its end goes."""
    record = await world.record(issued.secret)
    if record is None:
        return False
    return record.secret_valid_until is None or world.clock.now.timestamp() < record.secret_valid_until


async def retired(world: World) -> set[bytes]:
    return {row.digest for row in await world.rows(select(retired_digests))}


def digest(issued: IssuedKey) -> bytes:
    assert issued.secret is not None
    return secrets.digest(issued.secret.encode())


@pytest.mark.parametrize(
    ("body", "hours"), [({}, 24), ({"grace": "1h"}, 1), ({"grace": "24h"}, 24), ({"grace": "7d"}, 168)]
)
async def test_old_and_new_work_side_by_side_and_then_the_new_one_alone(
    world: World, body: dict[str, str], hours: int
) -> None:
    old = await issue(world)
    new = (await world.keys.rotate(world.admin, old.id, body)).resource
    assert (new.id, new.version) == (old.id, 2)
    assert new.secret != old.secret
    assert new.tail == str(new.secret)[-6:]
    assert new.previous_secret is not None
    assert new.previous_secret.tail == old.tail
    assert new.previous_secret.valid_until == world.clock.now + timedelta(hours=hours)
    assert await works(world, old)
    assert await works(world, new)
    world.clock.advance(hours=hours)
    assert not await works(world, old)
    assert await works(world, new)
    assert (await world.keys.show(world.admin, old.id)).previous_secret is None


async def test_no_grace_ends_the_old_secret_at_once(world: World) -> None:
    old = await issue(world)
    new = (await world.keys.rotate(world.admin, old.id, {"grace": "0"})).resource
    assert not await works(world, old)
    assert await works(world, new)
    assert new.previous_secret is None
    assert await retired(world) == {digest(old)}
    newest = (await world.keys.rotate(world.admin, old.id, {"grace": "0"})).resource
    assert await retired(world) == {digest(old), digest(new)}
    assert await works(world, newest)


async def test_grace_never_outlives_the_key(world: World) -> None:
    key = await issue(world, expires="1h")
    rotated = (await world.keys.rotate(world.admin, key.id, {"grace": "7d"})).resource
    assert rotated.previous_secret is not None
    assert rotated.previous_secret.valid_until == key.expires_at
    longer = await issue(world, expires="30d")
    await world.keys.rotate(world.admin, longer.id, {"grace": "7d"})
    shortened = (await world.keys.update(world.admin, longer.id, {"expires": "1d"})).resource
    assert shortened.previous_secret is not None
    assert shortened.previous_secret.valid_until == shortened.expires_at
    prolonged = (await world.keys.update(world.admin, longer.id, {"expires": "30d"})).resource
    assert prolonged.previous_secret is not None
    assert prolonged.previous_secret.valid_until == world.clock.now + timedelta(days=7)


async def test_a_second_rotation_waits_for_the_end_of_the_first(world: World) -> None:
    first = await issue(world)
    second = (await world.keys.rotate(world.admin, first.id, {"grace": "1h"})).resource
    for grace in ("0", "1h"):
        with pytest.raises(Conflict, match="valid until 2026-03-01T13:00:00Z") as caught:
            await world.keys.rotate(world.admin, first.id, {"grace": grace})
        assert caught.value.code == "rotation_in_progress"
    world.clock.advance(hours=1)
    third = (await world.keys.rotate(world.admin, first.id)).resource
    assert await retired(world) == {digest(first)}
    assert [await works(world, key) for key in (first, second, third)] == [False, True, True]
    slots = await world.rows(select(key_secrets.c.slot).where(key_secrets.c.key_id == first.id))
    assert sorted(row.slot for row in slots) == [0, 1]


async def test_finishing_ends_the_old_secret_early_and_twice_is_harmless(world: World) -> None:
    old = await issue(world)
    new = (await world.keys.rotate(world.admin, old.id)).resource
    finished = await world.keys.finish_rotation(world.admin, old.id)
    assert (finished.resource.previous_secret, finished.resource.version) == (None, 3)
    assert finished.seq == (await world.log())[-1][0]
    assert not await works(world, old)
    assert await works(world, new)
    assert await retired(world) == {digest(old)}
    assert (await world.keys.finish_rotation(world.admin, old.id)).seq is None
    assert (await world.keys.rotate(world.admin, old.id)).resource.previous_secret is not None


async def test_finishing_after_the_end_changes_nothing(world: World) -> None:
    old = await issue(world)
    await world.keys.rotate(world.admin, old.id, {"grace": "1h"})
    world.clock.advance(hours=1)
    assert (await world.keys.finish_rotation(world.admin, old.id)).seq is None


async def test_a_revoked_key_shows_no_old_secret(world: World) -> None:
    key = await issue(world)
    await world.keys.rotate(world.admin, key.id)
    assert (await world.keys.revoke(world.admin, key.id)).resource.previous_secret is None


async def test_an_expired_key_is_not_rotated_and_a_disabled_one_stays_disabled(world: World) -> None:
    key = await issue(world, expires="1h")
    await world.keys.disable(world.admin, key.id)
    assert (await world.keys.rotate(world.admin, key.id)).resource.status == "disabled"
    world.clock.advance(hours=1)
    with pytest.raises(Conflict, match="Move its date") as caught:
        await world.keys.rotate(world.admin, key.id)
    assert caught.value.code == "key_expired"


async def test_a_rotation_shows_when_each_secret_was_used_last_and_the_key_remembers_the_newest(world: World) -> None:
    key = await issue(world)
    await world.keys.rotate(world.admin, key.id)
    ids = {
        row.valid_until is None: row.id
        for row in await world.rows(select(key_secrets).where(key_secrets.c.key_id == key.id))
    }
    uses = {new: world.clock.now + timedelta(minutes=1 if new else 2) for new in (True, False)}
    for new, at in uses.items():
        use = {"secret_id": ids[new], "used_at": at, "address": f"192.0.2.{int(new)}", "user_agent": "curl"}
        await world.execute(secret_uses.insert().values(use))
    newest = {"used": True, "idle_since": uses[False], "address": "192.0.2.0", "user_agent": "curl"}
    await world.execute(update(key_uses).where(key_uses.c.key_id == key.id).values(newest))
    shown = await world.keys.show(world.admin, key.id)
    by_old = LastUse(at=uses[False], address="192.0.2.0", user_agent="curl")
    assert shown.last_used == by_old
    assert shown.secret_last_used == LastUse(at=uses[True], address="192.0.2.1", user_agent="curl")
    assert shown.previous_secret is not None
    assert shown.previous_secret.last_used == by_old
    finished = (await world.keys.finish_rotation(world.admin, key.id)).resource
    assert finished.last_used == by_old
    assert len(await world.rows(select(secret_uses))) == 1


async def test_the_trail_tells_of_tails_and_ends(world: World) -> None:
    old = await issue(world)
    new = (await world.keys.rotate(world.admin, old.id, {"grace": "1h"})).resource
    await world.keys.finish_rotation(world.admin, old.id)
    rotate, finish = (await world.trail())[-2:]
    assert (rotate["action"], finish["action"]) == ("key.rotate", "key.finish_rotation")
    assert rotate["before"] == {"tail": old.tail}
    assert rotate["after"] == {"tail": new.tail, "previous_valid_until": "2026-03-01T13:00:00.250000Z"}
    assert finish["before"]["previous_tail"] == old.tail


@pytest.mark.parametrize("body", [{"grace": "2h"}, {"grace": 0}, {"grace": None}, {"wait": "1h"}])
async def test_other_graces_are_refused(world: World, body: dict[str, object]) -> None:
    key = await issue(world)
    with pytest.raises(Invalid, match=r"grace|wait"):
        await world.keys.rotate(world.admin, key.id, body)
