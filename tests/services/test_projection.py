"""What is copied into Redis means what a worker reads from the store itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from gateway.keys import secret as secrets
from gateway.services import projection
from gateway.store.engine import read_transaction
from gateway.store.record_codec import decode, encode
from gateway.store.schema import organizations, owners

if TYPE_CHECKING:
    import pytest

    from tests.services.conftest import World


async def _everything(world: World) -> dict[bytes, object]:
    async with read_transaction(world.engine) as connection:
        return {digest: record async for page in projection.of_everything(connection) for digest, record in page}


def _digest(secret: str | None) -> bytes:
    return secrets.digest((secret or "").encode())


async def test_each_record_is_the_one_that_a_worker_reads_from_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "PAGE", 2)
    _, bob = await world.invite("bob@example.com", external_id="u-9")
    account = await world.add_service_account("Deploy")
    origins = ["https://app.example.com"]
    made = [
        await world.keys.create(world.admin, {"name": "Plain"}),
        await world.keys.create(bob, {"name": "Ünïcode", "permissions": [], "expires": "2026-12-01T00:00:00Z"}),
        await world.keys.create(world.admin, {"name": "Page", "allowed_origins": origins, "owner": account}),
    ]
    rotated = await world.keys.rotate(world.admin, made[0].resource.id, {"grace": "24h"})
    await world.keys.disable(world.admin, made[1].resource.id)
    await world.keys.revoke(world.admin, made[2].resource.id, {})
    found = await _everything(world)
    all_secrets = [each.resource.secret for each in made] + [rotated.resource.secret]
    for secret in all_secrets:
        assert found[_digest(secret)] == await world.record(secret)
    assert len(found) == len(all_secrets) + 2  # and the first keys of Ada and Bob


async def test_what_is_written_down_is_read_as_it_was(world: World) -> None:
    await world.keys.create(world.admin, {"name": "Page", "permissions": ["a:b", "c:d"]})
    async with read_transaction(world.engine) as connection:
        async for page in projection.of_everything(connection):
            for digest, record in page:
                assert decode(digest, encode(record, 7)) == record


async def test_a_key_of_a_removed_owner_or_organization_is_revoked_though_nobody_revoked_it(world: World) -> None:
    made = await world.keys.create(world.admin, {"name": "Plain"})
    for table in (owners, organizations):
        await world.execute(update(table).values(removed_at=world.clock.now))
        record = (await _everything(world))[_digest(made.resource.secret)]
        assert record == await world.record(made.resource.secret)
        assert getattr(record, "revoked_at") == world.clock.now.timestamp()  # noqa: B009 - it is typed as an object
        await world.execute(update(table).values(removed_at=None))


async def test_digests_that_led_to_a_key_once_are_tombstones(world: World) -> None:
    made = await world.keys.create(world.admin, {"name": "Plain"})
    rotated = await world.keys.rotate(world.admin, made.resource.id, {"grace": "0"})
    async with read_transaction(world.engine) as connection:
        found = dict(await projection.of_keys(connection, [made.resource.id]))
    assert found == {
        _digest(made.resource.secret): None,
        _digest(rotated.resource.secret): await world.record(rotated.resource.secret),
    }


async def test_keys_that_were_moved_are_among_those_of_the_changes_of_a_removal(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    heir = await world.add_service_account("Heir")
    made = await world.keys.create(calling, {"name": "Moved"})
    before = len(await world.log())
    await world.members.remove(world.admin, bob.id, {"keys": "move", "move_to": heir})
    async with read_transaction(world.engine) as connection:
        changes = (await projection.look(connection, before, 10)).changes
        found = {digest: each async for page in projection.of_changes(connection, changes) for digest, each in page}
    assert found[_digest(made.resource.secret)] == await world.record(made.resource.secret)
