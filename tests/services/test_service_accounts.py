"""Service accounts: what holds for members holds for them, and what differs is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.errors import Conflict, Invalid, NotAllowed, NotFound, PreconditionFailed, Unauthenticated
from tests.services.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.services.actor import Caller
    from tests.services.conftest import World


async def test_a_new_service_account_may_do_nothing_unless_it_is_given_something(world: World) -> None:
    made = await world.service_accounts.create(world.admin, {"name": " CI/CD "})
    assert made.resource.model_dump(exclude={"id"}) == {
        "organization_id": world.org,
        "name": "CI/CD",
        "description": "",
        "permissions": (),
        "external_id": None,
        "created_at": world.clock.now,
        "version": 1,
    }
    assert (await world.log())[-1] == (made.seq, "owner", made.resource.id, 1)
    assert await world.service_accounts.show(world.admin, made.resource.id) == made.resource
    event = (await world.trail())[-1]
    assert (event["action"], event["target_name"]) == ("service_account.create", "CI/CD")
    assert event["after"] == {"name": "CI/CD", "description": "", "permissions": [], "external_id": None}


async def test_every_bad_field_is_named_at_once(world: World) -> None:
    body = {"name": "a\nb", "description": "\x00", "permissions": "docs:read", "external_id": "", "email": "x"}
    with pytest.raises(Invalid) as caught:
        await world.service_accounts.create(world.admin, body)
    assert sorted(fault.field for fault in caught.value.fields) == [
        "description", "email", "external_id", "name", "permissions",
    ]  # fmt: skip


async def test_names_are_their_own_and_external_ids_are_shared_with_members(world: World) -> None:
    await world.members.create(world.admin, {"email": "bob@example.com", "external_id": "u-1"})
    await world.service_accounts.create(world.admin, {"name": "bob@example.com"})
    again = world.service_accounts.create(world.admin, {"name": "bob@example.com"})
    assert await code_of(again, Conflict) == "service_account_exists"
    same = world.service_accounts.create(world.admin, {"name": "ci", "external_id": "u-1"})
    assert await code_of(same, Conflict) == "external_id_in_use"


async def test_a_repeated_call_makes_one(world: World) -> None:
    first = await world.service_accounts.create(world.admin, {"name": "ci"}, "once")
    again = await world.service_accounts.create(world.admin, {"name": "ci"}, "once")
    assert (again.resource, again.seq) == (first.resource, None)
    other = world.members.create(world.admin, {"name": "ci"}, "once")
    assert await code_of(other, Conflict) == "idempotency_key_reused"
    reused = world.service_accounts.create(world.admin, {"name": "cd"}, "once")
    assert await code_of(reused, Conflict) == "idempotency_key_reused"


async def test_a_change_is_whole_logged_told_and_counts_for_the_keys_at_once(world: World) -> None:
    account, robot = await world.employ("ci", "docs:*")
    body = {"name": "CD", "description": "deploys", "permissions": ["docs:read"], "external_id": "s-1"}
    changed = await world.service_accounts.update(world.admin, account.id, body, 1)
    assert changed.resource.model_dump(include=set(body)) == body | {"permissions": ("docs:read",)}
    assert (await world.log())[-1] == (changed.seq, "owner", account.id, 2)
    event = (await world.trail())[-1]
    assert (event["action"], event["after"]) == ("service_account.update", body)
    assert event["before"] == {"name": "ci", "description": "", "permissions": ["docs:*"], "external_id": None}
    assert (await world.authenticator.me(robot, uses_recorded=True)).owner.name == "CD"
    late = world.service_accounts.update(world.admin, account.id, {"description": "late"}, 1)
    assert await code_of(late, PreconditionFailed) == "version_mismatch"
    same = await world.service_accounts.update(world.admin, account.id, body, 2)
    assert (same.seq, same.resource.version) == (None, 2)
    assert [each.id for each in (await world.service_accounts.list(world.admin, "cd")).items] == [account.id]


async def outcomes(world: World, caller: Caller, account_id: str) -> dict[str, str]:
    """What becomes of every operation on service accounts."""
    attempts: list[tuple[str, Awaitable[object]]] = [
        ("create", world.service_accounts.create(caller, {"name": "new"})),
        ("list", world.service_accounts.list(caller)),
        ("show", world.service_accounts.show(caller, account_id)),
        ("update", world.service_accounts.update(caller, account_id, {"description": ""})),
        ("remove", world.service_accounts.remove(caller, account_id, {"keys": "revoke"})),
    ]
    found = {}
    for name, attempt in attempts:
        try:
            await attempt
        except (NotAllowed, NotFound) as error:
            found[name] = error.code
        else:
            found[name] = "done"
    return found


async def test_a_service_account_sees_itself_alone_unless_it_administers(world: World) -> None:
    account, robot = await world.employ("robot", "gateway:members", "gateway:read")
    another, _ = await world.employ("another")
    assert await outcomes(world, robot, account.id) == {
        "create": "admin_required", "list": "done", "show": "done",
        "update": "admin_required", "remove": "admin_required",
    }  # fmt: skip
    assert (await outcomes(world, robot, another.id))["show"] == "service_account_not_found"
    assert [each.id for each in (await world.service_accounts.list(robot)).items] == [account.id]
    _, chief = await world.employ("chief", "gateway:members", "gateway:admin")
    assert (await outcomes(world, chief, another.id)) == dict.fromkeys(
        ("create", "list", "show", "update", "remove"), "done"
    )


async def test_a_member_sees_no_service_account_and_another_organization_none_of_ours(world: World) -> None:
    account, _ = await world.employ("ci")
    _, bob = await world.invite("bob@example.com", permissions=["gateway:members", "gateway:read"])
    for caller in (bob, await world.another()):
        found = await outcomes(world, caller, account.id)
        assert {found[name] for name in ("show", "update", "remove")} == {"service_account_not_found"}
        assert account.id not in (await world.service_accounts.list(caller)).model_dump_json()


async def test_a_member_is_no_service_account(world: World) -> None:
    shown = world.service_accounts.show(world.admin, world.initialised.member.id)
    assert await code_of(shown, NotFound) == "service_account_not_found"
    account, _ = await world.employ("ci")
    assert await code_of(world.members.show(world.admin, account.id), NotFound) == "member_not_found"


async def test_nobody_gives_what_they_do_not_hold(world: World) -> None:
    """Least of all reach: a service account with gateway:admin administers, so only who holds it gives it."""
    keeper = await world.limited("gateway:members", "gateway:keys", "docs:*")
    for permissions in (["gateway:admin"], ["*:*"], ["docs:read", "logs:read"]):
        new = world.service_accounts.create(keeper, {"name": "robot", "permissions": permissions})
        assert await code_of(new, NotAllowed) == "permission_escalation"
    made = (await world.service_accounts.create(keeper, {"name": "robot", "permissions": ["docs:read"]})).resource
    more = world.service_accounts.update(keeper, made.id, {"permissions": ["docs:read", "gateway:admin"]})
    assert await code_of(more, NotAllowed) == "permission_escalation"
    less = await world.service_accounts.update(keeper, made.id, {"permissions": []})
    assert less.resource.permissions == ()


async def test_a_service_account_goes_only_with_a_word_on_its_keys(world: World) -> None:
    account, robot = await world.employ("ci", "docs:read")
    heir, _ = await world.employ("heir", "docs:read")
    attempt = world.service_accounts.remove(world.admin, account.id, {})
    assert await code_of(attempt, Conflict) == "keys_need_a_choice"
    itself = {"keys": "move", "move_to": account.id}
    assert await code_of(world.service_accounts.remove(world.admin, account.id, itself), Invalid) == "invalid"
    removed = await world.service_accounts.remove(world.admin, account.id, {"keys": "move", "move_to": heir.id})
    assert (removed.resource.name, removed.resource.keys.moved) == ("ci", 1)
    assert (await world.keys.show(world.admin, robot.authority.key_id)).owner.id == heir.id
    last = await world.service_accounts.remove(world.admin, heir.id, {"keys": "revoke"})
    assert last.resource.keys.revoked == 2
    assert await code_of(world.keys.create(robot, {"name": "late"}), Unauthenticated) == "revoked_api_key"


async def test_a_service_account_that_administers_does_not_remove_itself(world: World) -> None:
    account, chief = await world.employ("chief", "gateway:members", "gateway:admin")
    attempt = world.service_accounts.remove(chief, account.id, {"keys": "revoke"})
    assert await code_of(attempt, Conflict) == "own_account"
