"""Keys through their service: each change whole, logged, told in the trail, and final where it has to be."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from gateway.errors import Conflict, Invalid, NotAllowed, NotFound, PreconditionFailed, Unauthenticated
from gateway.keys import secret as secrets
from gateway.keys.record import Status
from gateway.store.schema import (
    key_secrets,
    key_uses,
    keys,
    management_events,
    metadata,
    organizations,
    retired_digests,
    secret_uses,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.services.shapes import IssuedKey
    from tests.services.conftest import World


async def create(world: World, name: str = "CI", **body: object) -> IssuedKey:
    return (await world.keys.create(world.admin, {"name": name, **body})).resource


async def test_a_new_key_has_what_was_asked_for_and_a_worker_reads_it(world: World) -> None:
    account, _ = await world.employ("ci")
    body = {
        "name": " CI/CD Pipeline ",
        "description": " deploys ",
        "expires": "30d",
        "permissions": ["docs:read", "docs:read", "docs:write"],
        "allowed_origins": ["https://App.example.com:443", "http://localhost:3000"],
        "owner": "ci",
    }
    issued = (await world.keys.create(world.admin, body)).resource
    assert issued.model_dump(mode="json", exclude={"id", "secret", "tail"}) == {
        "organization_id": world.org,
        "name": "CI/CD Pipeline",
        "description": "deploys",
        "prefix": "sk_",
        "status": "active",
        "expires_soon": False,
        "permissions": ["docs:read", "docs:write"],
        "allowed_origins": ["https://app.example.com", "http://localhost:3000"],
        "owner": {"id": account.id, "kind": "service_account", "name": "ci"},
        "created_at": "2026-03-01T12:00:00.250000Z",
        "created_by": {"id": world.initialised.key.id, "text": "API Key: Admin key"},
        "expires_at": "2026-03-31T12:00:00.250000Z",
        "disabled_at": None,
        "disabled_by": None,
        "revoked_at": None,
        "revoked_by": None,
        "revoked_reason": None,
        "last_used": None,
        "secret_last_used": None,
        "previous_secret": None,
        "imported": False,
        "version": 1,
        "code": None,
        "warnings": [],
    }
    assert issued.secret is not None
    assert issued.tail == issued.secret[-6:]
    record = await world.record(issued.secret)
    assert record is not None
    assert (record.key_id, record.owner_kind) == (issued.id, "service_account")
    assert record.permissions == ("docs:read", "docs:write")
    assert record.allowed_origins == ("https://app.example.com", "http://localhost:3000")
    assert record.expires_at == datetime(2026, 3, 31, 12, 0, 0, 250000, UTC).timestamp()


async def test_the_secret_is_in_the_answer_of_the_call_that_made_it_and_nowhere_else(world: World) -> None:
    issued = await create(world)
    rotated = (await world.keys.rotate(world.admin, issued.id)).resource
    shown = await world.keys.show(world.admin, issued.id)
    assert "secret" not in shown.model_dump()
    everything = await world.stored()
    for secret in (issued.secret, rotated.secret):
        assert secret is not None
        assert secret not in repr((issued, rotated))
        assert secret.encode() not in everything
        digest = secrets.digest(secret.encode())
        for event in await world.rows(select(management_events)):
            assert digest.hex() not in repr(event)


async def test_a_key_without_an_expiry_gets_the_organizations_default_of_one_year(world: World) -> None:
    assert (await create(world)).expires_at == datetime(2027, 3, 1, 12, 0, 0, 250000, UTC)
    assert (await create(world, expires=None)).expires_at == datetime(2027, 3, 1, 12, 0, 0, 250000, UTC)
    assert (await create(world, expires="never")).expires_at is None


async def test_the_organizations_maximum_cuts_defaults_and_refuses_wishes_with_the_allowed_range(world: World) -> None:
    await world.execute(update(organizations).values(max_expiry="30d"))
    assert (await create(world)).expires_at == datetime(2026, 3, 31, 12, 0, 0, 250000, UTC)
    await create(world, expires="30d")
    for expires in ("never", "6mo", "2026-04-01", "2026-02-01", "2026-03-05T12:00:00"):
        with pytest.raises(Invalid, match=r"after 2026-03-01T12:00:00Z, at most 30d from now: 2026-03-31T12:00:00Z"):
            await create(world, expires=expires)


async def test_every_bad_field_is_named_at_once_and_nothing_is_stored(world: World) -> None:
    before = await world.log()
    with pytest.raises(Invalid) as caught:
        await create(world, "", description="\x00", expires="soon", permissions=["a:b", "read"], colour="red")
    assert [fault.field for fault in caught.value.fields] == [
        "name", "description", "expires", "permissions.1", "colour",
    ]  # fmt: skip
    with pytest.raises(NotFound, match="no owner"):
        await create(world, owner="nobody@example.com")
    assert await world.log() == before


async def test_a_twin_of_a_name_is_warned_about_unless_it_is_revoked_or_somebody_elses(world: World) -> None:
    first = await create(world, "Pipeline")
    second = await create(world, "PIPELINE")
    assert [(warning.code, first.id in warning.detail) for warning in second.warnings] == [("name_in_use", True)]
    _, bob = await world.invite("bob@example.com")
    assert (await world.keys.create(bob, {"name": "pipeline"})).resource.warnings == ()
    for key in (first, second):
        await world.keys.revoke(world.admin, key.id)
    assert (await create(world, "pipeline")).warnings == ()


@pytest.mark.parametrize("name", ["🔑 Schlüssel", "👩‍💻", "می‌خواهم", "مفتاح", "x" * 128, "<b>'\";--"])
async def test_names_of_all_scripts_are_kept_as_they_are(world: World, name: str) -> None:
    issued = await create(world, name)
    assert (await world.keys.show(world.admin, issued.id)).name == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "x" * 129, "a\u202eb", "a\u200db", "\ud83d", "\u2066a"])
async def test_names_that_cannot_be_shown_safely_are_refused(world: World, name: str) -> None:
    with pytest.raises(Invalid, match="1 to 128 printable characters"):
        await create(world, name)


async def test_disable_and_enable_lead_there_and_back(world: World) -> None:
    issued = await create(world)
    disabled = (await world.keys.disable(world.admin, issued.id)).resource
    assert (disabled.status, disabled.version, disabled.disabled_at) == (Status.DISABLED, 2, world.clock.now)
    assert disabled.disabled_by is not None
    assert disabled.disabled_by.text == "API Key: Admin key"
    record = await world.record(issued.secret)
    assert record is not None
    assert record.disabled_at == world.clock.now.timestamp()
    enabled = (await world.keys.enable(world.admin, issued.id)).resource
    assert enabled == (await world.keys.show(world.admin, issued.id))
    assert (enabled.status, enabled.version, enabled.disabled_at, enabled.disabled_by) == (Status.ACTIVE, 3, None, None)


async def test_revoked_is_final_and_keeps_its_first_reason(world: World) -> None:
    issued = await create(world)
    revoked = (await world.keys.revoke(world.admin, issued.id, {"reason": " leaked "})).resource
    world.clock.advance(hours=1)
    assert (await world.keys.revoke(world.admin, issued.id, {"reason": "again"})).resource == revoked
    assert (revoked.status, revoked.revoked_reason) == (Status.REVOKED, "leaked")
    for change in (
        world.keys.enable(world.admin, issued.id),
        world.keys.disable(world.admin, issued.id),
        world.keys.rotate(world.admin, issued.id),
        world.keys.update(world.admin, issued.id, {"name": "Other"}),
    ):
        with pytest.raises(Conflict, match="final") as caught:
            await change
        assert caught.value.code == "key_revoked"
    with pytest.raises(Invalid, match="reason"):
        await world.keys.revoke(world.admin, issued.id, {"reason": "\x00"})


async def test_asking_for_the_present_state_changes_and_logs_nothing(world: World) -> None:
    issued = await create(world)
    assert (await world.keys.enable(world.admin, issued.id)).seq is None
    disabled = await world.keys.disable(world.admin, issued.id)
    before = await world.log()
    assert disabled.seq == before[-1][0]
    world.clock.advance(hours=1)
    again = await world.keys.disable(world.admin, issued.id)
    assert (again.resource, again.seq) == (disabled.resource, None)
    same = {"name": "CI", "permissions": None, "expires": "2027-03-01T12:00:00.25Z", "description": ""}
    assert (await world.keys.update(world.admin, issued.id, same)).seq is None
    assert (await world.keys.finish_rotation(world.admin, issued.id)).seq is None
    assert await world.log() == before


async def test_an_expired_key_can_be_disabled_and_revoked_and_says_so_in_order(world: World) -> None:
    issued = await create(world, expires="30d")
    world.clock.advance(days=16)
    assert (await world.keys.show(world.admin, issued.id)).expires_soon
    world.clock.advance(days=14)
    assert (await world.keys.show(world.admin, issued.id)).status is Status.EXPIRED
    assert (await world.keys.disable(world.admin, issued.id)).resource.status is Status.EXPIRED
    assert (await world.keys.revoke(world.admin, issued.id)).resource.status is Status.REVOKED


async def test_a_deleted_key_is_gone_but_its_digests_stay_retired_and_its_trail_names_it(world: World) -> None:
    issued = await create(world)
    rotated = (await world.keys.rotate(world.admin, issued.id)).resource
    of_key = key_secrets.c.key_id == issued.id
    for secret in await world.rows(select(key_secrets.c.id).where(of_key)):
        await world.execute(secret_uses.insert().values(secret_id=secret.id, used_at=world.clock.now, address="::1"))
    last = await world.keys.show(world.admin, issued.id)
    deleted = await world.keys.delete(world.admin, issued.id)
    assert (deleted.resource, deleted.seq) == (last, (await world.log())[-1][0])
    assert await world.record(issued.secret) is await world.record(rotated.secret) is None
    for call in (world.keys.show, world.keys.delete, world.keys.revoke, world.keys.finish_rotation):
        with pytest.raises(NotFound):
            await call(world.admin, issued.id)
    digests = {secrets.digest(str(secret).encode()) for secret in (issued.secret, rotated.secret)}
    retired = await world.rows(select(retired_digests))
    assert {row.digest for row in retired} == digests
    assert {(row.key_id, row.retired_at) for row in retired} == {(issued.id, world.clock.now)}
    for table in (secret_uses, key_secrets, key_uses):
        column = table.c.get("key_id", table.c[0])
        assert issued.id not in [row[0] for row in await world.rows(select(column))]
    assert await world.rows(select(secret_uses)) == []
    assert ((await world.trail())[-1]["action"], (await world.trail())[-1]["target_name"]) == ("key.delete", "CI")


async def test_every_change_is_one_dense_row_of_the_log_with_the_keys_version(world: World) -> None:
    start = len(await world.log())
    issued = await create(world)
    await world.keys.disable(world.admin, issued.id)
    await world.keys.enable(world.admin, issued.id)
    await world.keys.update(world.admin, issued.id, {"name": "CD"})
    await world.keys.rotate(world.admin, issued.id)
    await world.keys.finish_rotation(world.admin, issued.id)
    await world.keys.revoke(world.admin, issued.id)
    await world.keys.delete(world.admin, issued.id)
    assert (await world.log())[start:] == [(start + n, "key", issued.id, n) for n in range(1, 9)]


async def test_the_trail_tells_who_did_what_to_whom_before_and_after(world: World) -> None:
    issued = await create(world, expires="never")
    await world.keys.revoke(world.admin, issued.id, {"reason": "leaked"})
    made, revoke = (await world.trail())[-2:]
    assert (made["action"], made["before"]) == ("key.create", None)
    assert made["after"]["name"] == "CI"
    assert (revoke["action"], revoke["target_id"]) == ("key.revoke", issued.id)
    assert (revoke["actor_id"], revoke["actor_text"]) == (world.initialised.key.id, "API Key: Admin key")
    assert revoke["actor_owner_id"] == revoke["target_owner_id"] == world.initialised.member.id
    assert (revoke["address"], revoke["request_id"]) == ("192.0.2.7", "req-1")
    assert revoke["before"]["revoked_at"] is None
    assert revoke["after"]["revoked_at"] == "2026-03-01T12:00:00.250000Z"
    assert revoke["after"]["revoked_reason"] == "leaked"


async def test_keys_of_another_organization_do_not_exist(world: World) -> None:
    eve = await world.another()
    issued = await create(world)
    for call in (
        world.keys.show(eve, issued.id),
        world.keys.disable(eve, issued.id),
        world.keys.enable(eve, issued.id),
        world.keys.revoke(eve, issued.id),
        world.keys.rotate(eve, issued.id),
        world.keys.finish_rotation(eve, issued.id),
        world.keys.update(eve, issued.id, {"name": "Mine"}),
        world.keys.delete(eve, issued.id),
    ):
        with pytest.raises(NotFound, match="that you can see") as caught:
            await call
        assert caught.value.code == "key_not_found"
    assert issued.id not in [key.id for key in (await world.keys.list(eve)).items]
    with pytest.raises(NotFound, match="no owner"):
        await world.keys.create(eve, {"name": "CI", "owner": "ada@example.com"})
    assert (await world.keys.show(world.admin, issued.id)).version == 1


@pytest.mark.parametrize("key_id", ["", "key_", "key_\x00", "\ud800", "key_' OR 1=1 --", "a" * 5000, "mem_x", "KEY_X"])
async def test_what_is_no_identifier_is_not_found(world: World, key_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        await world.keys.show(world.admin, key_id)
    assert len(caught.value.detail) < 200


async def test_a_failure_in_the_last_step_undoes_all_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = await create(world)

    async def counts() -> list[int]:
        return [(await world.rows(select(func.count()).select_from(table)))[0][0] for table in metadata.sorted_tables]

    before = await counts()
    monkeypatch.setattr(json, "dumps", lambda *_args, **_options: 1 / 0)
    for call in (
        world.keys.create(world.admin, {"name": "Another"}),
        world.keys.disable(world.admin, issued.id),
        world.keys.rotate(world.admin, issued.id),
        world.keys.delete(world.admin, issued.id),
    ):
        with pytest.raises(ZeroDivisionError):
            await call
    assert await counts() == before
    assert (await world.rows(select(keys.c.version).where(keys.c.id == issued.id)))[0].version == 1


async def test_a_change_asked_for_on_an_older_version_is_refused(world: World) -> None:
    issued = await create(world)
    await world.keys.update(world.admin, issued.id, {"name": "CD"}, if_match=1)
    with pytest.raises(PreconditionFailed, match="version 2") as caught:
        await world.keys.update(world.admin, issued.id, {"name": "CX"}, if_match=1)
    assert caught.value.code == "version_mismatch"
    assert caught.value.detail == "It is at version 2 by now, not 1. Read it again, then decide."
    with pytest.raises(PreconditionFailed) as caught:
        await world.keys.update(world.admin, issued.id, {"name": "CX"}, if_match=0)
    assert caught.value.detail == "It is at version 2 by now. Read it again, then decide.", "0: of a tag that has none"
    assert (await world.keys.show(world.admin, issued.id)).name == "CD"


async def test_a_caller_whose_key_ended_a_moment_ago_changes_nothing_any_more(world: World) -> None:
    issued = await create(world)
    limited = await world.limited("gateway:keys")
    await world.keys.disable(world.admin, limited.authority.key_id)
    before = await world.log()
    for call in (
        world.keys.create(limited, {"name": "Late", "permissions": []}),
        world.keys.disable(limited, issued.id),
        world.keys.delete(limited, issued.id),
    ):
        with pytest.raises(Unauthenticated):
            await call
    assert await world.log() == before


async def test_each_operation_needs_its_permission(world: World) -> None:
    issued = await create(world)
    nobody, reader, keeper = (
        await world.limited("docs:read"),
        await world.limited("gateway:read"),
        await world.limited("gateway:keys"),
    )
    for caller in (reader, keeper):
        await world.keys.show(caller, issued.id)
        await world.keys.list(caller)
        await world.keys.verify(caller, {"key": "sk_unknown"})
    await world.keys.disable(keeper, issued.id)
    refused: list[Awaitable[object]] = [
        world.keys.show(nobody, issued.id),
        world.keys.list(nobody),
        world.keys.verify(nobody, {"key": "x"}),
    ]
    for caller in (nobody, reader):
        refused += [
            world.keys.create(caller, {"name": "CI", "permissions": []}),
            world.keys.import_key(caller, {}),
            world.keys.disable(caller, issued.id),
            world.keys.enable(caller, issued.id),
            world.keys.revoke(caller, issued.id),
            world.keys.rotate(caller, issued.id),
            world.keys.finish_rotation(caller, issued.id),
            world.keys.update(caller, issued.id, {}),
            world.keys.delete(caller, issued.id),
        ]
    for call in refused:
        with pytest.raises(NotAllowed, match="needs the permission") as caught:
            await call
        assert caught.value.code == "insufficient_permissions"
