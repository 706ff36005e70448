"""Members: nobody gives more than they hold, nobody is locked out, and a removal leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from gateway.errors import Conflict, Invalid, NotAllowed, NotFound, PreconditionFailed, Unauthenticated
from gateway.store.schema import keys, owners
from tests.services.query_plans import plans_of
from tests.services.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.services.actor import Caller
    from tests.services.conftest import World


async def test_a_new_member_has_what_was_asked_for_and_sensible_defaults(world: World) -> None:
    made = await world.members.create(world.admin, {"email": " Bob@Example.com "})
    assert made.resource.model_dump(exclude={"id"}) == {
        "organization_id": world.org,
        "email": "bob@example.com",
        "role": "member",
        "permissions": ("*:*", "gateway:read", "gateway:keys"),
        "external_id": None,
        "created_at": world.clock.now,
        "version": 1,
        "key": None,
    }
    assert made.seq == (await world.log())[-1][0]
    shown = await world.members.show(world.admin, made.resource.id)
    assert shown.model_dump() == made.resource.model_dump(exclude={"key"})
    body = {"email": "eve@example.com", "role": "admin", "permissions": ["gateway:read"], "external_id": "crm-7"}
    eve = (await world.members.create(world.admin, body)).resource
    assert (eve.role, eve.permissions, eve.external_id) == ("admin", ("gateway:read",), "crm-7")
    another = (await world.members.create(world.admin, {"email": "al@example.com", "role": "admin"})).resource
    assert another.permissions == ("*:*", "gateway:*")


async def test_a_first_key_comes_along_and_inherits(world: World) -> None:
    made, bob = await world.invite("bob@example.com", permissions=["docs:read"])
    assert made.key is not None
    assert (made.key.name, made.key.permissions, made.key.owner.id) == (
        "First key of bob@example.com", None, made.id,
    )  # fmt: skip
    assert bob.authority.permissions == ("docs:read",)
    body = {"email": "eve@example.com", "first_key": {"name": "Hello", "expires": "1h"}}
    key = (await world.members.create(world.admin, body)).resource.key
    assert key is not None
    assert key.name == "Hello"
    assert key.expires_at is not None
    assert (key.expires_at - world.clock.now).total_seconds() == 3600
    assert (
        await world.members.create(world.admin, {"email": "al@example.com", "first_key": False})
    ).resource.key is None


async def test_every_bad_field_is_named_at_once_and_nothing_is_stored(world: World) -> None:
    before = await world.log()
    body = {
        "email": "nobody",
        "role": "boss",
        "permissions": ["read"],
        "external_id": "a b",
        "first_key": {"name": "", "expires": "soon"},
        "password": "x",
    }
    with pytest.raises(Invalid) as caught:
        await world.members.create(world.admin, body)
    fields = [fault.field for fault in caught.value.fields]
    assert sorted(fields) == [
        "email", "external_id", "first_key.expires", "first_key.name", "password", "permissions.0", "role",
    ]  # fmt: skip
    with pytest.raises(Invalid, match="email: is required"):
        await world.members.create(world.admin, {})
    with pytest.raises(Invalid, match="email: must be a string"):
        await world.members.update(world.admin, world.initialised.member.id, {"email": None})
    assert await world.log() == before


async def test_an_address_belongs_to_one_member_until_they_are_removed(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com", "external_id": "u-1"})).resource
    again = {"email": "BOB@example.com"}
    assert await code_of(world.members.create(world.admin, again), Conflict) == "member_exists"
    same = {"email": "eve@example.com", "external_id": "u-1"}
    assert await code_of(world.members.create(world.admin, same), Conflict) == "external_id_in_use"
    other = await world.another()
    await world.members.create(other, {"email": "bob@example.com", "external_id": "u-1"})
    await world.members.remove(world.admin, bob.id, {})
    await world.members.create(world.admin, {"email": "bob@example.com", "external_id": "u-1"})


async def test_a_repeated_call_makes_one_member_and_tells_no_secret_again(world: World) -> None:
    body: dict[str, Any] = {"email": "bob@example.com", "first_key": True}
    first, *others = await asyncio.gather(*(world.members.create(world.admin, body, "once") for _ in range(3)))
    made = [answer for answer in (first, *others) if answer.seq is not None]
    assert len(made) == 1
    for answer in (first, *others):
        assert answer.resource.id == made[0].resource.id
        key = answer.resource.key
        assert key is not None
        if answer is not made[0]:
            assert (key.secret, key.code) == (None, "secret_already_issued")
    changed = body | {"first_key": False}
    assert await code_of(world.members.create(world.admin, changed, "once"), Conflict) == "idempotency_key_reused"
    assert await code_of(world.members.create(world.admin, body), Conflict) == "member_exists"


async def test_a_repetition_is_not_judged_by_rules_of_today(world: World) -> None:
    body = {"email": "ru@example.com", "first_key": {"expires": "1y"}}
    made = await world.members.create(world.admin, body, "once")
    await world.organizations.update(world.admin, world.admin.authority.organization_id, {"max_expiry": "30d"})
    again = await world.members.create(world.admin, body, "once")
    assert (again.seq, again.resource.id) == (None, made.resource.id)
    assert again.resource.key is not None
    assert again.resource.key.code == "secret_already_issued"


async def test_a_change_is_whole_logged_and_told(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com"})).resource
    body = {"email": "rob@example.com", "role": "admin", "permissions": ["docs:read"], "external_id": "u-9"}
    changed = await world.members.update(world.admin, bob.id, body, 1)
    assert changed.resource.model_dump(include=set(body)) == body | {"permissions": ("docs:read",)}
    assert changed.resource.version == 2
    assert (await world.log())[-1] == (changed.seq, "owner", bob.id, 2)
    event = (await world.trail())[-1]
    assert (event["action"], event["target_id"], event["actor_text"]) == ("member.update", bob.id, "API Key: Admin key")
    assert event["before"] == {
        "email": "bob@example.com",
        "role": "member",
        "permissions": ["*:*", "gateway:read", "gateway:keys"],
        "external_id": None,
    }
    assert event["after"] == body
    found = await world.members.list(world.admin, "ROB@")
    assert [member.id for member in found.items] == [bob.id]


async def test_asking_for_what_is_so_already_changes_nothing(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com"})).resource
    log = await world.log()
    for body in ({}, {"email": "bob@example.com"}, {"role": "member", "external_id": None}):
        changed = await world.members.update(world.admin, bob.id, body)
        assert (changed.seq, changed.resource.version) == (None, 1)
    assert await world.log() == log


async def test_a_lost_race_is_told_before_anything_is_changed(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com"})).resource
    await world.members.update(world.admin, bob.id, {"external_id": "u-1"}, 1)
    late = world.members.update(world.admin, bob.id, {"external_id": "u-2"}, 1)
    assert await code_of(late, PreconditionFailed) == "version_mismatch"
    assert (await world.members.show(world.admin, bob.id)).external_id == "u-1"


async def test_a_change_of_permissions_counts_for_the_keys_at_once(world: World) -> None:
    made, bob = await world.invite("bob@example.com", permissions=["docs:*", "gateway:keys"])
    assert bob.authority.allows("docs:write")
    await world.members.update(world.admin, made.id, {"permissions": ["docs:read"]})
    assert made.key is not None
    later = await world.caller(made.key.secret)
    assert later.authority.permissions == ("docs:read",)
    record = await world.record(made.key.secret)
    assert record is not None
    assert record.owner_permissions == ("docs:read",)
    assert await code_of(world.keys.create(later, {"name": "more"}), NotAllowed) == "insufficient_permissions"


# Who may do it


async def attempts(world: World, caller: Caller, member_id: str) -> list[tuple[str, Awaitable[object]]]:
    """Every operation on members, by name."""
    return [
        ("create", world.members.create(caller, {"email": "new@example.com"})),
        ("list", world.members.list(caller)),
        ("show", world.members.show(caller, member_id)),
        ("update", world.members.update(caller, member_id, {"role": "member"})),
        ("remove", world.members.remove(caller, member_id, {"keys": "revoke"})),
    ]


async def outcomes(world: World, caller: Caller, member_id: str) -> dict[str, str]:
    found = {}
    for name, attempt in await attempts(world, caller, member_id):
        try:
            await attempt
        except (NotAllowed, NotFound) as error:
            found[name] = error.code
        else:
            found[name] = "done"
    return found


async def test_without_the_permission_nothing_is_told_not_even_what_there_is(world: World) -> None:
    bob, _ = await world.invite("bob@example.com")
    nothing = await world.limited("*:*")
    for member_id in (bob.id, "mem_nobody", (await world.another()).authority.owner_id):
        assert set((await outcomes(world, nothing, member_id)).values()) == {"insufficient_permissions"}
    reader = await world.limited("gateway:read")
    assert await outcomes(world, reader, bob.id) == {
        "create": "insufficient_permissions", "list": "done", "show": "done",
        "update": "insufficient_permissions", "remove": "insufficient_permissions",
    }  # fmt: skip


async def test_a_member_sees_themselves_alone_and_changes_nobody(world: World) -> None:
    bob, calling = await world.invite("bob@example.com", permissions=["gateway:members", "gateway:read"])
    assert await outcomes(world, calling, bob.id) == {
        "create": "admin_required", "list": "done", "show": "done",
        "update": "admin_required", "remove": "admin_required",
    }  # fmt: skip
    assert [member.id for member in (await world.members.list(calling)).items] == [bob.id]
    for member_id in (world.initialised.member.id, (await world.another()).authority.owner_id, "mem_nobody"):
        assert await outcomes(world, calling, member_id) == {
            "create": "admin_required", "list": "done", "show": "member_not_found",
            "update": "member_not_found", "remove": "member_not_found",
        }  # fmt: skip


async def test_another_organizations_members_do_not_exist_in_the_same_words_as_nobody(world: World) -> None:
    bob, _ = await world.invite("bob@example.com")
    other = await world.another()
    unheard = bob.id[:-6] + "000000"
    for attempt in (world.members.show, lambda who, what: world.members.remove(who, what, {"keys": "revoke"})):
        details = []
        for member_id in (bob.id, unheard):
            with pytest.raises(NotFound) as caught:
                await attempt(other, member_id)
            details.append(caught.value.detail.replace(member_id, "…"))
        assert details[0] == details[1]
    assert [member.email for member in (await world.members.list(other)).items] == ["eve@example.com"]


async def test_nobody_gives_what_they_do_not_hold(world: World) -> None:
    keeper = await world.limited("gateway:members", "docs:read")
    over = {"email": "bob@example.com", "permissions": ["docs:read", "docs:write"]}
    assert await code_of(world.members.create(keeper, over), NotAllowed) == "permission_escalation"
    default = {"email": "bob@example.com"}
    assert await code_of(world.members.create(keeper, default), NotAllowed) == "permission_escalation"
    bob = (await world.members.create(keeper, {**default, "permissions": ["docs:read"]})).resource
    for wider in (["docs:*"], ["*:*"], ["docs:read", "gateway:keys"]):
        attempt = world.members.update(keeper, bob.id, {"permissions": wider})
        assert await code_of(attempt, NotAllowed) == "permission_escalation"
    assert (await world.members.show(world.admin, bob.id)).permissions == ("docs:read",)


async def test_taking_permissions_away_needs_no_more_than_gateway_members(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com"})).resource
    keeper = await world.limited("gateway:members")
    changed = await world.members.update(keeper, bob.id, {"permissions": ["*:*", "gateway:read"]})
    assert changed.resource.permissions == ("*:*", "gateway:read")
    narrower = await world.members.update(keeper, bob.id, {"permissions": ["docs:read"]})
    assert narrower.resource.permissions == ("docs:read",)


async def test_an_admin_is_made_by_admins_with_gateway_admin_alone(world: World) -> None:
    bob, _ = await world.invite("bob@example.com", permissions=[])
    keeper = await world.limited("gateway:members", "gateway:read")
    promotion = world.members.update(keeper, bob.id, {"role": "admin"})
    assert await code_of(promotion, NotAllowed) == "insufficient_permissions"
    new = {"email": "eve@example.com", "role": "admin", "permissions": []}
    assert await code_of(world.members.create(keeper, new), NotAllowed) == "insufficient_permissions"
    full = await world.limited("gateway:members", "gateway:admin")
    assert (await world.members.update(full, bob.id, {"role": "admin"})).resource.role == "admin"


async def test_a_limited_key_makes_no_first_key_since_that_inherits(world: World) -> None:
    keeper = await world.limited("*:*", "gateway:*")
    body = {"email": "bob@example.com", "permissions": [], "first_key": True}
    assert await code_of(world.members.create(keeper, body), NotAllowed) == "permission_escalation"
    only_members = await world.limited("gateway:members")
    assert await code_of(world.members.create(only_members, body), NotAllowed) == "insufficient_permissions"
    assert len((await world.members.list(world.admin)).items) == 1, "no member without the key that was asked for"


async def test_a_service_account_that_administers_keeps_members_as_an_admin_does(world: World) -> None:
    _, robot = await world.employ("robot", "gateway:admin", "gateway:members", "gateway:keys")
    body = {"email": "bob@example.com", "permissions": ["gateway:keys"], "first_key": True}
    bob = (await world.members.create(robot, body)).resource
    assert bob.key is not None
    assert (await world.trail())[-1]["actor_text"] == "API Key: Key of robot"
    _, plain = await world.employ("plain", "gateway:members", "gateway:read")
    assert await code_of(world.members.show(plain, bob.id), NotFound) == "member_not_found"
    assert (await world.members.list(plain)).items == ()


# The last admin


async def test_an_organization_cannot_lock_itself_out(world: World) -> None:
    ada = world.initialised.member.id
    await world.invite("bob@example.com", role="admin", permissions=["*:*"])
    for body in ({"role": "member"}, {"permissions": ["*:*"]}, {"permissions": ["*:*", "gateway:admin"]}):
        attempt = world.members.update(world.admin, ada, body)
        assert await code_of(attempt, Conflict) == "last_admin", "Bob is an admin who could never give the rest"
    _, robot = await world.employ("robot", "gateway:admin", "gateway:members")
    attempt2 = world.members.remove(robot, ada, {"keys": "revoke"})
    assert await code_of(attempt2, Conflict) == "last_admin"
    assert (await world.keys.show(world.admin, world.initialised.key.id)).status == "active", "nothing was done by half"
    await world.invite("eve@example.com", role="admin")
    assert (await world.members.update(world.admin, ada, {"role": "member"})).resource.role == "member"


async def test_nobody_removes_themselves(world: World) -> None:
    await world.invite("eve@example.com", role="admin")
    attempt = world.members.remove(world.admin, world.initialised.member.id, {"keys": "revoke"})
    assert await code_of(attempt, Conflict) == "own_account"


# Removal


async def test_a_member_with_keys_goes_only_with_a_word_on_them(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    await world.keys.create(calling, {"name": "second"})
    with pytest.raises(Conflict, match="2 keys that are not revoked") as caught:
        await world.members.remove(world.admin, bob.id, {})
    assert caught.value.code == "keys_need_a_choice"
    assert (await world.members.show(world.admin, bob.id)).version == 1
    for body, field in (
        ({"keys": "burn"}, "keys"),
        ({"keys": "move"}, "move_to"),
        ({"keys": "revoke", "move_to": "sva_1"}, "keys"),
        ({"move_to": "sva_1"}, "keys"),
        ({"keys": "move", "move_to": bob.id}, "move_to"),
        ({"keep": "true"}, "keep"),
    ):
        with pytest.raises(Invalid) as wrong:
            await world.members.remove(world.admin, bob.id, body)
        assert [fault.field for fault in wrong.value.fields] == [field]


async def test_a_removal_revokes_every_key_at_once_and_tells_each_ones_trail(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    second = (await world.keys.create(calling, {"name": "second"})).resource
    disabled = (await world.keys.create(calling, {"name": "disabled"})).resource
    await world.keys.disable(calling, disabled.id)
    revoked = (await world.keys.create(calling, {"name": "revoked"})).resource
    gone = (await world.keys.revoke(calling, revoked.id, {"reason": "lost"})).resource
    world.clock.advance(minutes=1)
    removed = await world.members.remove(world.admin, bob.id, {"keys": "revoke"})
    assert removed.resource.email == "bob@example.com"
    assert removed.resource.keys.model_dump() == {"revoked": 3, "moved": 0, "moved_to": None}
    assert (await world.log())[-1] == (removed.seq, "owner", bob.id, 2)
    for key_id in (second.id, disabled.id, calling.authority.key_id):
        key = await world.keys.show(world.admin, key_id)
        assert (key.status, key.revoked_at) == ("revoked", world.clock.now)
        assert key.revoked_by is not None
        assert key.revoked_by.text == "API Key: Admin key"
        assert "bob@example.com" in (key.revoked_reason or "")
    assert await world.keys.show(world.admin, revoked.id) == gone, "what was revoked before keeps its reason"
    record = await world.record(second.secret)
    assert record is not None
    assert record.revoked_at == world.clock.now.timestamp()
    told = [(event["action"], event["target_id"]) for event in (await world.trail())[-4:]]
    assert sorted(told[:3]) == sorted(("key.revoke", key) for key in (calling.authority.key_id, second.id, disabled.id))
    assert told[3] == ("member.remove", bob.id)
    assert (await world.trail())[-1]["after"] == {"keys_revoked": 3, "keys_moved": 0, "moved_to": None}


async def test_who_was_removed_is_nowhere_and_their_keys_are_dead(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    assert bob.key is not None
    await world.members.remove(world.admin, bob.id, {"keys": "revoke"})
    assert (await code_of(world.caller(bob.key.secret), Unauthenticated)) == "revoked_api_key"
    assert (await code_of(world.keys.create(calling, {"name": "late"}), Unauthenticated)) == "revoked_api_key"
    assert [member.email for member in (await world.members.list(world.admin)).items] == ["ada@example.com"]
    for attempt in (
        world.members.show(world.admin, bob.id),
        world.members.update(world.admin, bob.id, {"role": "admin"}),
        world.members.remove(world.admin, bob.id, {}),
    ):
        assert await code_of(attempt, NotFound) == "member_not_found"
    attempt2 = world.keys.create(world.admin, {"name": "for nobody", "owner": bob.id})
    assert await code_of(attempt2, NotFound) == "owner_not_found"


async def test_keys_move_to_a_service_account_and_go_on_under_its_permissions(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    limited = (await world.keys.create(calling, {"name": "limited", "permissions": ["docs:*"]})).resource
    account, _ = await world.employ("ci", "docs:read")
    removed = await world.members.remove(world.admin, bob.id, {"keys": "move", "move_to": account.id})
    assert removed.resource.keys.model_dump() == {
        "revoked": 0,
        "moved": 2,
        "moved_to": {"id": account.id, "kind": "service_account", "name": "ci"},
    }
    key = await world.keys.show(world.admin, limited.id)
    assert (key.status, key.owner.id, key.permissions, key.version) == ("active", account.id, ("docs:*",), 2)
    moved = await world.caller(limited.secret)
    assert (moved.authority.owner_id, moved.authority.permissions) == (account.id, ("docs:read",))
    event = (await world.trail())[-2]
    assert event["action"] == "key.move"
    assert (event["before"], event["after"]) == ({"owner_id": bob.id}, {"owner_id": account.id})


async def test_a_move_gives_no_key_more_than_the_mover_holds(world: World) -> None:
    """The key's holder keeps the secret, so a move to a mightier account would hand its permissions out."""
    bob, calling = await world.invite("bob@example.com", permissions=["docs:*", "gateway:keys"])
    await world.keys.revoke(calling, calling.authority.key_id)
    mighty, _ = await world.employ("mighty", "deploy:*", "docs:*")
    keeper = await world.limited("gateway:members", "docs:*")
    to_mighty = {"keys": "move", "move_to": mighty.id}
    bob_key = await world.invite("rob@example.com", permissions=["docs:*"])
    attempt = world.members.remove(keeper, bob_key[0].id, to_mighty)
    assert await code_of(attempt, NotAllowed) == "permission_escalation", "a key that inherits, by a limited key"
    assert (await world.members.remove(keeper, bob.id, to_mighty)).resource.keys.moved == 0
    assert (await world.members.remove(world.admin, bob_key[0].id, to_mighty)).resource.keys.moved == 1


async def test_keys_move_to_service_accounts_of_the_organization_alone(world: World) -> None:
    bob, _ = await world.invite("bob@example.com")
    eve, _ = await world.invite("eve@example.com")
    other = await world.another()
    foreign = (await world.service_accounts.create(other, {"name": "theirs"})).resource
    for heir in (eve.id, foreign.id, "sva_nobody"):
        attempt = world.members.remove(world.admin, bob.id, {"keys": "move", "move_to": heir})
        assert await code_of(attempt, NotFound) == "service_account_not_found"
    rows = await world.rows(select(keys.c.owner_id, owners.c.removed_at).join(owners, owners.c.id == keys.c.owner_id))
    assert all(row.removed_at is None for row in rows)


# Lists


async def test_a_list_is_newest_first_and_pages_without_gaps(world: World) -> None:
    ids = [world.initialised.member.id]
    ids += [(await world.members.create(world.admin, {"email": f"m{n}@example.com"})).resource.id for n in range(6)]
    found: list[str] = []
    cursor = None
    while True:
        page = await world.members.list(world.admin, cursor=cursor, limit=3)
        found += [member.id for member in page.items]
        await world.members.create(world.admin, {"email": f"later{len(found)}@example.com"})
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ids[::-1]


async def test_a_search_is_by_the_beginning_of_the_address_in_alphabetical_order(world: World) -> None:
    for name in ("bob", "bo", "robo", "boris", "zoe"):
        await world.members.create(world.admin, {"email": f"{name}@example.com"})
    first = await world.members.list(world.admin, "BO", limit=2)
    second = await world.members.list(world.admin, "BO", first.next_cursor, limit=2)
    assert [member.email.partition("@")[0] for member in (*first.items, *second.items)] == ["bo", "bob", "boris"]
    assert second.next_cursor is None
    assert (await world.members.list(world.admin, "%")).items == ()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_page_is_read_along_an_index_without_sorting(world: World) -> None:
    for listing, newest, by_name in (
        (world.members.list, "sqlite_autoindex_owners_2", "ix_owners_search"),
        (world.service_accounts.list, "sqlite_autoindex_owners_2", "ix_owners_search"),
        (world.organizations.list, "sqlite_autoindex_organizations_1", "ix_organizations_search"),
    ):
        for search, index in ((None, newest), ("a", by_name)):
            (plan,) = await plans_of(world.engine, listing(world.admin, search))
            assert f"INDEX {index}" in plan
            assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(("cursor", "limit"), [("nonsense", 0), ("", 1001), ("WyJvdGhlciIsICIiLCAiIl0", -1)])
async def test_a_bad_cursor_and_a_bad_limit_are_named_at_once(world: World, cursor: str, limit: int) -> None:
    for listing in (world.members.list, world.service_accounts.list, world.organizations.list):
        with pytest.raises(Invalid) as caught:
            await listing(world.admin, None, cursor, limit)
        assert [fault.field for fault in caught.value.fields] == ["limit", "cursor"]
