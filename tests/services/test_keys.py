"""Keys through their service: each change whole, logged, told in the trail, and final where it has to be."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from gateway.errors import Conflict, Invalid, NotFound
from gateway.keys import secret as secrets
from gateway.keys.record import Status
from gateway.services.actor import Actor
from gateway.services.key_request import CreateKey
from gateway.store.schema import (
    key_secrets,
    keys,
    management_events,
    metadata,
    organizations,
    retired_digests,
    secret_uses,
)
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from gateway.keys.record import CredentialRecord
    from tests.services.conftest import World


def read(world: World, secret: str) -> CredentialRecord | None:
    """Look a secret up as a worker does."""
    with contextlib.closing(SqliteReader(world.path)) as reader:
        return reader.read(secrets.digest(secret.encode()))


async def test_a_new_key_has_what_was_asked_for_and_a_worker_reads_it(world: World) -> None:
    account = await world.add_service_account("ci")
    request = CreateKey(" CI/CD Pipeline ", " deploys ", "30d", ["docs:read", "docs:read", "docs:write"], owner="ci")
    issued = await world.keys.create(world.org, request)
    assert issued.model_dump(mode="json", exclude={"id", "secret", "tail"}) == {
        "organization_id": world.org,
        "name": "CI/CD Pipeline",
        "description": "deploys",
        "prefix": "sk_",
        "status": "active",
        "expires_soon": False,
        "permissions": ["docs:read", "docs:write"],
        "owner": {"id": account, "kind": "service_account", "name": "ci"},
        "created_at": "2026-03-01T12:00:00.250000Z",
        "created_by": {"id": None, "text": "System"},
        "expires_at": "2026-03-31T12:00:00.250000Z",
        "disabled_at": None,
        "disabled_by": None,
        "revoked_at": None,
        "revoked_by": None,
        "revoked_reason": None,
        "last_used": None,
        "version": 1,
        "warnings": [],
    }
    assert issued.tail == issued.secret[-6:]
    record = read(world, issued.secret)
    assert record is not None
    assert (record.key_id, record.owner_kind) == (issued.id, "service_account")
    assert record.permissions == ("docs:read", "docs:write")
    assert record.expires_at == datetime(2026, 3, 31, 12, 0, 0, 250000, UTC).timestamp()


async def test_the_secret_is_in_the_answer_of_create_and_nowhere_else(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    assert issued.secret not in repr(issued)
    shown = await world.keys.show(world.org, issued.id)
    assert "secret" not in shown.model_dump()
    everything = "".join(path.read_bytes().hex() for path in world.path.parent.glob("gateway.db*"))
    assert issued.secret.encode().hex() not in everything
    digest = secrets.digest(issued.secret.encode()).hex()
    for event in await world.rows(select(management_events)):
        assert digest not in repr(event)


async def test_a_key_without_an_expiry_gets_the_organizations_default_of_one_year(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    assert issued.expires_at == datetime(2027, 3, 1, 12, 0, 0, 250000, UTC)
    assert (await world.keys.create(world.org, CreateKey("CI", expires="never"))).expires_at is None


async def test_the_organizations_maximum_cuts_defaults_and_refuses_wishes(world: World) -> None:
    await world.execute(update(organizations).values(max_expiry="30d"))
    issued = await world.keys.create(world.org, CreateKey("CI"))
    assert issued.expires_at == datetime(2026, 3, 31, 12, 0, 0, 250000, UTC)
    await world.keys.create(world.org, CreateKey("CI", expires="30d"))
    for expires in ("never", "6mo", "2026-04-01"):
        with pytest.raises(Invalid, match="at most 30d"):
            await world.keys.create(world.org, CreateKey("CI", expires=expires))


async def test_every_bad_field_is_named_at_once_and_nothing_is_stored(world: World) -> None:
    before = await world.log()
    with pytest.raises(Invalid) as caught:
        await world.keys.create(world.org, CreateKey("", "\x00", "soon", ["read"]))
    assert [fault.field for fault in caught.value.fields] == ["name", "description", "permissions", "expires"]
    with pytest.raises(NotFound, match="no owner"):
        await world.keys.create(world.org, CreateKey("CI", owner="nobody@example.com"))
    assert await world.log() == before


async def test_a_twin_of_a_name_is_warned_about_unless_it_is_revoked(world: World) -> None:
    first = await world.keys.create(world.org, CreateKey("Pipeline"))
    second = await world.keys.create(world.org, CreateKey("PIPELINE"))
    assert [(warning.code, first.id in warning.detail) for warning in second.warnings] == [("name_in_use", True)]
    for key in (first, second):
        await world.keys.revoke(world.org, key.id)
    assert (await world.keys.create(world.org, CreateKey("pipeline"))).warnings == ()


async def test_disable_and_enable_lead_there_and_back(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    actor = Actor("mem_7", "Member: ada@example.com")
    disabled = await world.keys.disable(world.org, issued.id, actor=actor)
    assert (disabled.status, disabled.version, disabled.disabled_at) == (Status.DISABLED, 2, world.clock.now)
    assert disabled.disabled_by is not None
    assert disabled.disabled_by.text == "Member: ada@example.com"
    record = read(world, issued.secret)
    assert record is not None
    assert record.disabled_at == world.clock.now.timestamp()
    enabled = await world.keys.enable(world.org, issued.id)
    assert enabled == (await world.keys.show(world.org, issued.id))
    assert (enabled.status, enabled.version, enabled.disabled_at, enabled.disabled_by) == (Status.ACTIVE, 3, None, None)


async def test_revoked_is_final_and_keeps_its_first_reason(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    revoked = await world.keys.revoke(world.org, issued.id, reason=" leaked ")
    world.clock.advance(hours=1)
    assert await world.keys.revoke(world.org, issued.id, reason="again") == revoked
    assert (revoked.status, revoked.revoked_reason) == (Status.REVOKED, "leaked")
    for change in (world.keys.enable, world.keys.disable):
        with pytest.raises(Conflict, match="final"):
            await change(world.org, issued.id)
    with pytest.raises(Invalid, match="reason"):
        await world.keys.revoke(world.org, issued.id, reason="\x00")


async def test_asking_for_the_present_state_changes_and_logs_nothing(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    await world.keys.enable(world.org, issued.id)
    disabled = await world.keys.disable(world.org, issued.id)
    before = await world.log()
    world.clock.advance(hours=1)
    assert await world.keys.disable(world.org, issued.id) == disabled
    assert await world.log() == before


async def test_an_expired_key_can_be_disabled_and_revoked_and_says_so_in_order(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI", expires="30d"))
    world.clock.advance(days=16)
    assert (await world.keys.show(world.org, issued.id)).expires_soon
    world.clock.advance(days=14)
    assert (await world.keys.show(world.org, issued.id)).status is Status.EXPIRED
    assert (await world.keys.disable(world.org, issued.id)).status is Status.EXPIRED
    assert (await world.keys.revoke(world.org, issued.id)).status is Status.REVOKED


async def test_a_deleted_key_is_gone_but_its_digest_stays_retired_and_its_trail_names_it(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    secret_id = (await world.rows(select(key_secrets.c.id).where(key_secrets.c.key_id == issued.id)))[0].id
    await world.execute(secret_uses.insert().values(secret_id=secret_id, used_at=world.clock.now, address="::1"))
    await world.keys.delete(world.org, issued.id)
    assert read(world, issued.secret) is None
    for call in (world.keys.show, world.keys.delete, world.keys.revoke):
        with pytest.raises(NotFound):
            await call(world.org, issued.id)
    [retired] = await world.rows(select(retired_digests))
    assert (retired.digest, retired.key_id) == (secrets.digest(issued.secret.encode()), issued.id)
    assert retired.retired_at == world.clock.now
    assert await world.rows(select(secret_uses)) == []
    assert await world.rows(select(key_secrets).where(key_secrets.c.id == secret_id)) == []
    assert ((await world.trail())[-1]["action"], (await world.trail())[-1]["target_name"]) == ("key.delete", "CI")


async def test_every_change_is_one_dense_row_of_the_log_with_the_keys_version(world: World) -> None:
    start = len(await world.log())
    issued = await world.keys.create(world.org, CreateKey("CI"))
    await world.keys.disable(world.org, issued.id)
    await world.keys.enable(world.org, issued.id)
    await world.keys.revoke(world.org, issued.id)
    await world.keys.delete(world.org, issued.id)
    assert (await world.log())[start:] == [(start + n, "key", issued.id, n) for n in range(1, 6)]


async def test_the_trail_tells_who_did_what_to_whom_before_and_after(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI", expires="never"))
    actor = Actor("key_9", "API Key: Admin key", address="192.0.2.7", request_id="req-1")
    await world.keys.revoke(world.org, issued.id, reason="leaked", actor=actor)
    create, revoke = (await world.trail())[-2:]
    assert (create["action"], create["actor_text"], create["before"]) == ("key.create", "System", None)
    assert create["after"]["name"] == "CI"
    assert (revoke["action"], revoke["target_id"]) == ("key.revoke", issued.id)
    assert (revoke["actor_id"], revoke["actor_text"]) == ("key_9", "API Key: Admin key")
    assert (revoke["address"], revoke["request_id"]) == ("192.0.2.7", "req-1")
    assert revoke["before"]["revoked_at"] is None
    assert revoke["after"]["revoked_at"] == "2026-03-01T12:00:00.250000Z"
    assert revoke["after"]["revoked_reason"] == "leaked"


async def test_keys_of_another_organization_do_not_exist(world: World) -> None:
    other = (await world.organizations.initialise("Other", "eve@example.com")).organization.id
    issued = await world.keys.create(world.org, CreateKey("CI"))
    for call in (world.keys.show, world.keys.disable, world.keys.enable, world.keys.revoke, world.keys.delete):
        with pytest.raises(NotFound, match="in this organization"):
            await call(other, issued.id)
    assert issued.id not in [key.id for key in (await world.keys.list(other)).items]
    with pytest.raises(NotFound, match="no owner"):
        await world.keys.create(other, CreateKey("CI", owner="ada@example.com"))
    with pytest.raises(NotFound, match="no organization"):
        await world.keys.create("org_none", CreateKey("CI"))
    assert (await world.keys.show(world.org, issued.id)).version == 1


async def test_a_failure_in_the_last_step_undoes_all_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))

    async def counts() -> list[int]:
        return [(await world.rows(select(func.count()).select_from(table)))[0][0] for table in metadata.sorted_tables]

    before = await counts()
    monkeypatch.setattr(json, "dumps", lambda *_args, **_options: 1 / 0)
    for call in (
        world.keys.create(world.org, CreateKey("Another")),
        world.keys.disable(world.org, issued.id),
        world.keys.delete(world.org, issued.id),
    ):
        with pytest.raises(ZeroDivisionError):
            await call
    assert await counts() == before
    assert (await world.rows(select(keys.c.version).where(keys.c.id == issued.id)))[0].version == 1
