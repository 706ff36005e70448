"""The management trail: who reads what of it, in which order, and that a page costs a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, select

from gateway.errors import Invalid, NotAllowed, NotFound
from gateway.services.audit_filter import EVERYTHING, AuditFilter
from gateway.store.schema import management_events
from tests.services.query_plans import plans_of

if TYPE_CHECKING:
    from gateway.services.actor import Caller
    from gateway.services.audit_shapes import Event
    from tests.services.conftest import World


async def read(world: World, caller: Caller, wanted: AuditFilter = EVERYTHING) -> list[Event]:
    """Everything that the caller may read and the filter fits, page by page."""
    found: list[Event] = []
    cursor = None
    while True:
        page = await world.audit.list(caller, wanted, cursor=cursor, limit=2)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(each.action, each.target.name) for each in events]


async def test_an_event_says_who_what_to_what_from_where_and_what_changed(world: World) -> None:
    bob = (await world.members.create(world.admin, {"email": "bob@example.com"})).resource
    world.clock.advance(minutes=1)
    await world.members.update(world.admin, bob.id, {"external_id": "u-1"})
    newest = (await world.audit.list(world.admin, limit=1)).items[0]
    assert newest.model_dump(exclude={"id"}) == {
        "kind": "change",
        "at": world.clock.now,
        "actor": {"id": world.initialised.key.id, "text": "API Key: Admin key"},
        "action": "member.update",
        "target": {"kind": "member", "id": bob.id, "name": "bob@example.com"},
        "address": "192.0.2.7",
        "request_id": "req-1",
        "before": {"external_id": None},
        "after": {"external_id": "u-1"},
        "request": None,
    }


async def test_the_newest_comes_first_and_pages_have_no_gaps(world: World) -> None:
    for number in range(5):
        world.clock.advance(seconds=number % 2)  # some at the same moment
        await world.members.create(world.admin, {"email": f"m{number}@example.com"})
    events = await read(world, world.admin)
    assert [(each.at, each.id) for each in events] == sorted(((each.at, each.id) for each in events), reverse=True)
    assert len(events) == len({each.id for each in events}) == 3 + 5
    assert events == list((await world.audit.list(world.admin, limit=1000)).items)


async def test_admins_read_all_of_it_only_with_gateway_admin(world: World) -> None:
    await world.invite("bob@example.com")
    everything = await read(world, world.admin)
    full = await world.limited("gateway:admin")
    assert len(await read(world, full)) == len(everything) + 1
    own = await read(world, await world.limited("gateway:read"))
    assert {each.target.name for each in own} <= {"ada@example.com", "bob@example.com", "Admin key", "Limited",
                                                    "First key of bob@example.com"}  # fmt: skip
    assert "organization.create" not in {each.action for each in own}
    with pytest.raises(NotAllowed) as caught:
        await world.audit.list(await world.limited("*:*", "gateway:keys"))
    assert caught.value.code == "insufficient_permissions"


async def test_a_member_reads_what_was_done_to_them_to_their_keys_and_with_them(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    await world.invite("eve@example.com")
    own = (await world.keys.create(calling, {"name": "own"})).resource
    await world.keys.disable(world.admin, own.id)
    await world.members.update(world.admin, bob.id, {"external_id": "u-1"})
    assert told(await read(world, calling)) == [
        ("member.update", "bob@example.com"),
        ("key.disable", "own"),
        ("key.create", "own"),
        ("key.create", "First key of bob@example.com"),
        ("member.create", "bob@example.com"),
    ]
    events = await read(world, calling)
    assert [each.actor.text for each in events[:3]] == [
        "API Key: Admin key", "API Key: Admin key", "API Key: First key of bob@example.com",
    ]  # fmt: skip


async def test_the_trail_of_a_key_stays_its_owners_when_it_is_gone(world: World) -> None:
    _, calling = await world.invite("bob@example.com")
    own = (await world.keys.create(calling, {"name": "own"})).resource
    await world.keys.delete(world.admin, own.id)
    assert told(await read(world, calling, AuditFilter(key=own.id))) == [("key.delete", "own"), ("key.create", "own")]


async def test_the_trail_of_a_moved_key_goes_on_with_its_new_owner(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    key_id = calling.authority.key_id
    account, robot = await world.employ("ci", "*:*", "gateway:read", "gateway:keys")
    await world.members.remove(world.admin, bob.id, {"keys": "move", "move_to": account.id})
    assert [each.action for each in await read(world, robot, AuditFilter(key=key_id))] == ["key.move"]
    assert [each.action for each in await read(world, world.admin, AuditFilter(key=key_id))] == [
        "key.move",
        "key.create",
    ]


async def test_nobody_reads_another_organizations_trail(world: World) -> None:
    eve = await world.another("Globex")
    await world.keys.create(eve, {"name": "theirs"})
    ours = {each.id for each in await read(world, world.admin)}
    theirs = {each.id for each in await read(world, eve)}
    assert not ours & theirs
    key_id = world.initialised.key.id
    for wanted in (AuditFilter(actor=key_id), AuditFilter(target=world.org), AuditFilter(key=key_id)):
        assert await read(world, eve, wanted) == []


async def test_filters_fit_all_at_once(world: World) -> None:
    begin = world.clock.now
    bob, calling = await world.invite("bob@example.com")
    world.clock.advance(hours=1)
    own = (await world.keys.create(calling, {"name": "own"})).resource
    world.clock.advance(hours=1)
    await world.keys.revoke(world.admin, own.id)
    later, latest = begin + timedelta(hours=1), begin + timedelta(hours=2)
    admin_key = world.initialised.key.id
    everything = {
        "by key": (AuditFilter(actor=calling.authority.key_id), ["key.create"]),
        "by owner": (AuditFilter(actor=bob.id), ["key.create"]),
        "by e-mail": (AuditFilter(actor="Bob@example.com"), ["key.create"]),
        "by the system": (AuditFilter(actor="system"), ["key.create", "member.create", "organization.create"]),
        "action": (AuditFilter(action="key.revoke"), ["key.revoke"]),
        "key": (AuditFilter(key=own.id), ["key.revoke", "key.create"]),
        "key means keys": (AuditFilter(key=bob.id), []),
        "target": (AuditFilter(target=bob.id), ["member.create"]),
        "from, included": (AuditFilter(since=latest), ["key.revoke"]),
        "to, not included": (AuditFilter(since=later, until=latest), ["key.create"]),
        "several": (AuditFilter(actor=admin_key, action="key.create"), ["key.create"]),
        "nothing fits": (AuditFilter(actor=bob.id, action="key.revoke"), []),
    }
    for name, (wanted, expected) in everything.items():
        assert [each.action for each in await read(world, world.admin, wanted)] == expected, name


async def test_the_actor_may_be_named_also_when_removed_and_a_name_of_nobody_is_told(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    _, robot = await world.employ("ci", "gateway:read", "gateway:keys")
    await world.keys.create(robot, {"name": "own", "permissions": []})
    await world.keys.create(calling, {"name": "own"})
    await world.members.remove(world.admin, bob.id, {"keys": "revoke"})
    for actor in ("ci", "bob@example.com", bob.id):
        assert told(await read(world, world.admin, AuditFilter(actor=actor))) == [("key.create", "own")]
    assert told(await read(world, robot, AuditFilter(actor="ci"))) == [("key.create", "own")]
    for caller, actor in ((world.admin, "nobody@example.com"), (robot, "ada@example.com"), (robot, "nobody")):
        with pytest.raises(NotFound) as caught:
            await read(world, caller, AuditFilter(actor=actor))
        assert caught.value.code == "owner_not_found"


@pytest.mark.parametrize(("cursor", "limit"), [("nonsense", 0), ("WyJldmVudHMiLCAibm8gdGltZSIsICIiXQ", 1001)])
async def test_a_bad_cursor_and_a_bad_limit_are_named_at_once(world: World, cursor: str, limit: int) -> None:
    with pytest.raises(Invalid) as caught:
        await world.audit.list(world.admin, cursor=cursor, limit=limit)
    assert [fault.field for fault in caught.value.fields] == ["limit", "cursor"]


async def test_no_secret_and_no_digest_is_in_it(world: World) -> None:
    made, calling = await world.invite("bob@example.com")
    assert made.key is not None
    await world.keys.rotate(calling, made.key.id)
    page = (await world.audit.list(world.admin, limit=1000)).model_dump_json()
    assert (made.key.secret or "none") not in page
    assert "digest" not in page


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLANS = {
    "all": (EVERYTHING, "organization"),
    "time": (AuditFilter(since=NOON, until=NOON), "organization"),
    "key": (AuditFilter(key="key_1"), "target"),
    "target": (AuditFilter(target="mem_1"), "target"),
    "actor": (AuditFilter(actor=f"key_{'0' * 26}"), "actor"),
    "owner": (AuditFilter(actor=f"mem_{'0' * 26}"), "actor_owner"),
    "action": (AuditFilter(action="key.create"), "action"),
    "own": (EVERYTHING, "target_owner"),
}


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", PLANS)
async def test_every_page_is_read_along_an_index_without_sorting(world: World, name: str) -> None:
    """However long the trail is: the plan is that of a store which knows nothing of its own sizes."""
    wanted, index = PLANS[name]
    caller = await world.limited("gateway:read") if name == "own" else world.admin
    first = await world.audit.list(caller, limit=1)
    plans = await plans_of(world.engine, world.audit.list(caller, wanted, cursor=first.next_cursor))
    assert len(plans) == (2 if name == "own" else 1)
    assert not any("TEMP B-TREE" in plan for plan in plans)
    assert f"USING INDEX ix_management_events_{index} " in plans[-1]


async def test_a_long_trail_is_paged_whole(world: World) -> None:
    row = (await world.rows(select(management_events).limit(1)))[0]._mapping
    copies = [dict(row) | {"id": f"evt_{number:026}"} for number in range(1500)]
    await world.execute(insert(management_events).values(copies[:500]))
    await world.execute(insert(management_events).values(copies[500:1000]))
    await world.execute(insert(management_events).values(copies[1000:]))
    count = (await world.rows(select(func.count()).select_from(management_events)))[0][0]
    first = await world.audit.list(world.admin, limit=1000)
    second = await world.audit.list(world.admin, cursor=first.next_cursor, limit=1000)
    assert second.next_cursor is None
    assert len({each.id for each in (*first.items, *second.items)}) == count == 1503
