"""Lists: a filter agrees with the status it names, a cursor meets each key once, a page is one index range."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

import pytest
from sqlalchemy import event, text

from gateway.errors import Invalid, NotFound
from gateway.services.key_listing import EVERYTHING, KeyFilter, StatusFilter
from gateway.services.key_request import CreateKey

if TYPE_CHECKING:
    from gateway.services.shapes import Key
    from tests.services.conftest import World


async def every(world: World, wanted: KeyFilter, limit: int) -> list[Key]:
    """Follow the cursors to the end."""
    found: list[Key] = []
    cursor = None
    while True:
        page = await world.keys.list(world.org, wanted, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


async def fill(world: World) -> list[Key]:
    """Make 36 keys of all kinds, at a few moments, some in the same one; return them oldest first."""
    choose = random.Random(7)  # noqa: S311 - the same mixture each time
    accounts = [await world.add_service_account(name) for name in ("ci", "deploy")]
    made = []
    for number in range(36):
        if number % 5 == 0:
            world.clock.advance(hours=7)
        request = CreateKey(
            choose.choice(["Alpha", "alpha two", "Beta", "ÄPFEL"]) + " " + str(number % 4),
            expires=choose.choice(["1d", "7d", "30d", "never", "1y"]),
            owner=choose.choice([None, *accounts]),
        )
        key = await world.keys.create(world.org, request)
        for change, chance in ((world.keys.disable, 0.3), (world.keys.revoke, 0.2)):
            if choose.random() < chance:
                await change(world.org, key.id)
        made.append(key.id)
    world.clock.advance(days=4)
    return [await world.keys.show(world.org, key_id) for key_id in [world.initialised.key.id, *made]]


async def test_each_filter_finds_exactly_the_keys_that_fit_each_once_whatever_the_page_size(world: World) -> None:
    expected = await fill(world)
    for status in (None, *get_args(StatusFilter)):
        for owner in (None, "ci", "ada@example.com"):
            for search in (None, "alpha", "äpfel", "nothing"):
                fitting = {
                    key.id
                    for key in expected
                    if (status is None or key.status == status or (status == "expires_soon" and key.expires_soon))
                    and (owner is None or key.owner.name == owner)
                    and (search is None or key.name.casefold().startswith(search))
                }
                for limit in (3, 1000):
                    found = await every(world, KeyFilter(status, owner, search), limit)
                    assert {key.id for key in found} == fitting
                    assert len(found) == len(fitting)
    assert {key.status for key in expected} == {"active", "revoked", "expired", "disabled"}


async def test_the_order_is_the_documented_one(world: World) -> None:
    expected = await fill(world)
    newest_first = [key.id for key in reversed(expected)]
    assert [key.id for key in await every(world, EVERYTHING, 4)] == newest_first
    expired = [key.expires_at for key in await every(world, KeyFilter("expired"), 4)]
    assert expired == sorted(expired, key=lambda at: at or world.clock.now, reverse=True)
    soon = [key.expires_at for key in await every(world, KeyFilter("expires_soon"), 4)]
    assert soon == sorted(soon, key=lambda at: at or world.clock.now)
    names = [key.name.casefold() for key in await every(world, KeyFilter(search="a"), 4)]
    assert names == sorted(names)


async def test_a_key_is_found_by_its_tail_as_people_copy_it(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    for search in (issued.tail, f" …{issued.tail} ", f"sk_…{issued.tail}"):
        assert [key.id for key in await every(world, KeyFilter(search=search), 1)] == [issued.id]
    assert await every(world, KeyFilter("revoked", search=issued.tail), 1) == []


async def test_a_match_by_tail_comes_first_and_only_once(world: World) -> None:
    issued = await world.keys.create(world.org, CreateKey("CI"))
    assert issued.tail is not None
    named = [(await world.keys.create(world.org, CreateKey(issued.tail + end))).id for end in ("", " b", " c")]
    itself = await world.keys.create(world.org, CreateKey("zzz"))
    for limit in (1, 2, 3, 50):
        assert [key.id for key in await every(world, KeyFilter(search=issued.tail), limit)] == [issued.id, *named]
    assert itself.id not in named


async def test_keys_made_meanwhile_neither_repeat_nor_hide_others(world: World) -> None:
    before = [(await world.keys.create(world.org, CreateKey(f"k{number}"))).id for number in range(4)]
    page = await world.keys.list(world.org, limit=2)
    await world.keys.create(world.org, CreateKey("meanwhile"))
    rest = await world.keys.list(world.org, cursor=page.next_cursor, limit=50)
    assert [key.id for key in (*page.items, *rest.items)] == [*reversed(before), world.initialised.key.id]


async def test_another_organizations_keys_are_in_no_list(world: World) -> None:
    other = await world.organizations.initialise("Other", "eve@example.com")
    for wanted in (EVERYTHING, KeyFilter("active"), KeyFilter(search="admin"), KeyFilter(search=other.key.tail)):
        assert other.key.id not in [key.id for key in await every(world, wanted, 50)]
    with pytest.raises(NotFound, match="no owner"):
        await world.keys.list(world.org, KeyFilter(owner="eve@example.com"))


@pytest.mark.parametrize("cursor", ["", "x", "é", "bm8", "WyJpZCIsMSwyXQ", "WyJpZCJd", "W10", "eyJhIjoxfQ", "=", "MQ"])
async def test_a_made_up_cursor_is_the_callers_fault(world: World, cursor: str) -> None:
    for wanted in (EVERYTHING, KeyFilter("expired"), KeyFilter(search="a")):
        with pytest.raises(Invalid, match="cursor"):
            await world.keys.list(world.org, wanted, cursor=cursor)


async def test_a_cursor_of_another_order_limits_out_of_bounds_and_unknown_statuses_are_refused(world: World) -> None:
    await world.keys.create(world.org, CreateKey("CI"))
    cursor = (await world.keys.list(world.org, limit=1)).next_cursor
    assert cursor is not None
    with pytest.raises(Invalid, match="cursor"):
        await world.keys.list(world.org, KeyFilter("expired"), cursor=cursor)
    for limit in (0, 1001, -1):
        with pytest.raises(Invalid, match="1 to 1000"):
            await world.keys.list(world.org, limit=limit)
    with pytest.raises(Invalid, match="must be one of active, revoked"):
        await world.keys.list(world.org, KeyFilter("gone"))  # type: ignore[arg-type]


async def test_no_page_scans_or_sorts_all_keys(world: World) -> None:
    """What makes a page cost the same at 1,000,000 keys: statements search an index, in the index's order."""
    issued = await world.keys.create(world.org, CreateKey("CI"))
    statements: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.add(statement)

    event.listen(world.engine.sync_engine, "before_cursor_execute", note)
    for wanted in [EVERYTHING, *map(KeyFilter, get_args(StatusFilter))]:
        await every(world, wanted, 1)
    await every(world, KeyFilter(search="c"), 1)
    await every(world, KeyFilter(search=issued.tail), 1)
    await every(world, KeyFilter(owner="ada@example.com"), 1)
    event.remove(world.engine.sync_engine, "before_cursor_execute", note)
    for statement in (each for each in statements if "FROM key" in each):
        plan = await world.rows(text("EXPLAIN QUERY PLAN " + statement.replace("?", "'1'").replace(":", "\\:")))
        for step in plan:
            assert "SCAN" not in step[3], statement
            assert "ORDER BY" not in step[3], statement
