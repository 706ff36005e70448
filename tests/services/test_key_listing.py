"""Lists: a filter agrees with the status it names, a cursor meets each key once, a page is one index range."""

from __future__ import annotations

import itertools
import random
import re
from datetime import timedelta
from typing import TYPE_CHECKING, get_args

import pytest
from sqlalchemy import event, text, update

from gateway.control.api.operations import OPERATIONS
from gateway.errors import Conflict, Invalid, NotFound
from gateway.services import key_listing
from gateway.services.key_filters import EVERYTHING, KeyFilter, Sort, StatusFilter, examine
from gateway.store.schema import key_uses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from gateway.services.actor import Caller
    from gateway.services.shapes import IssuedKey, Key
    from tests.services.conftest import World


async def every(world: World, wanted: KeyFilter, limit: int, caller: Caller | None = None) -> list[Key]:
    """Follow the cursors to the end."""
    found: list[Key] = []
    cursor = None
    while True:
        page = await world.keys.list(caller or world.admin, wanted, cursor, limit)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


async def create(world: World, name: str, **body: object) -> IssuedKey:
    return (await world.keys.create(world.admin, {"name": name, **body})).resource


async def fill(world: World) -> list[Key]:
    """Make 36 keys of all kinds, at a few moments, some in the same one; return them oldest first."""
    choose = random.Random(7)  # noqa: S311 - the same mixture each time
    accounts = [await world.add_service_account(name) for name in ("ci", "deploy")]
    made = []
    for number in range(36):
        if number % 5 == 0:
            world.clock.advance(hours=7)
        key = await create(
            world,
            choose.choice(["Alpha", "alpha two", "Beta", "ÄPFEL"]) + " " + str(number % 4),
            expires=choose.choice(["1d", "7d", "30d", "never", "1y"]),
            owner=choose.choice([None, *accounts]),
        )
        for change, chance in ((world.keys.disable, 0.3), (world.keys.revoke, 0.2)):
            if choose.random() < chance:
                await change(world.admin, key.id)
        if choose.random() < 0.5:
            at = world.clock.now + timedelta(hours=choose.randrange(60))
            use = {"used": True, "idle_since": at, "address": "192.0.2.7"}
            await world.execute(update(key_uses).where(key_uses.c.key_id == key.id).values(use))
        made.append(key.id)
    world.clock.advance(days=4)
    return [await world.keys.show(world.admin, key_id) for key_id in [world.initialised.key.id, *made]]


def idle_since(key: Key) -> datetime:
    return key.created_at if key.last_used is None else key.last_used.at


def fits(wanted: KeyFilter, key: Key, now: datetime) -> bool:
    """What a filter means, said without SQL."""
    status = wanted.status
    return (
        (status is None or key.status == status or (status == "expires_soon" and key.expires_soon))
        and (wanted.owner is None or key.owner.name == wanted.owner)
        and (wanted.search is None or key.name.casefold().startswith(wanted.search))
        and (wanted.unused_days is None or idle_since(key) <= now - timedelta(days=wanted.unused_days))
    )


ORDERS: dict[Sort, Callable[[Key], tuple[object, ...]]] = {
    # As tuples that grow; what has nothing to be sorted by is last, newest first.
    "created": lambda key: (_down(key.id),),
    "name": lambda key: (key.name.casefold(), key.id),
    "expires": lambda key: (
        (0, key.expires_at, key.id) if key.expires_at and key.status != "revoked" else (1, _down(key.id))
    ),
    "last_used": lambda key: (key.last_used is None, -idle_since(key).timestamp(), _down(key.id)),
}


def _down(identifier: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in identifier)


@pytest.mark.parametrize("few", [0, 5, 5000])
async def test_each_filter_finds_exactly_the_keys_that_fit_in_order_whatever_the_page_size(
    world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """By both ways to a page: few=0 always walks, few=5000 sorts whatever there is here."""
    monkeypatch.setattr(key_listing, "FEW", few)
    expected = await fill(world)
    choices = itertools.product(
        (None, *get_args(StatusFilter)),
        (None, "ci", "ada@example.com"),
        (None, "alpha", "äpfel"),
        (None, 2),
        (None, *get_args(Sort)),
    )
    for status, owner, search, unused_days, sort in choices:
        if sum(each is not None for each in (status, owner, search, unused_days, sort)) > 3:
            continue  # three at once meet every branch there is
        wanted = KeyFilter(status, owner, search, unused_days, sort)
        fitting = [key for key in expected if fits(wanted, key, world.clock.now)]
        found = await every(world, wanted, 1000)
        assert len(found) == len(fitting)
        assert {key.id for key in found} == {key.id for key in fitting}, wanted
        if sort is not None:
            assert [key.id for key in found] == [key.id for key in sorted(fitting, key=ORDERS[sort])], wanted
        if len(found) > 3 and (search is None or sort is None):
            assert await every(world, wanted, 3) == found, wanted
    assert {key.status for key in expected} == {"active", "revoked", "expired", "disabled"}


async def test_the_keys_of_a_removed_owner_are_found_by_them(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    key_id = calling.authority.key_id
    await world.members.remove(world.admin, bob.id, {"keys": "revoke"})
    for reference in (bob.id, "bob@example.com", "BOB@example.com"):
        assert [key.id for key in await every(world, KeyFilter(owner=reference), 10)] == [key_id]
    with pytest.raises(NotFound):
        await world.keys.create(world.admin, {"name": "Late", "owner": bob.id})
    again, _ = await world.invite("bob@example.com")  # who is here now goes before who was
    assert again.key is not None
    assert [key.id for key in await every(world, KeyFilter(owner="bob@example.com"), 10)] == [again.key.id]
    assert [key.id for key in await every(world, KeyFilter(owner=bob.id), 10)] == [key_id]
    await world.members.remove(world.admin, again.id, {"keys": "revoke"})
    with pytest.raises(Conflict) as caught:
        await every(world, KeyFilter(owner="bob@example.com"), 10)
    assert caught.value.code == "owner_ambiguous"
    eve = await world.another()
    with pytest.raises(NotFound):
        await world.keys.list(eve, KeyFilter(owner=bob.id))


async def test_without_a_sort_the_order_goes_with_the_filter(world: World) -> None:
    expected = await fill(world)
    newest_first = [key.id for key in reversed(expected)]
    assert [key.id for key in await every(world, EVERYTHING, 4)] == newest_first
    expired = [key.expires_at for key in await every(world, KeyFilter("expired"), 4)]
    assert expired == sorted(expired, key=lambda at: at or world.clock.now, reverse=True)
    soon = [key.expires_at for key in await every(world, KeyFilter("expires_soon"), 4)]
    assert soon == sorted(soon, key=lambda at: at or world.clock.now)
    names = [key.name.casefold() for key in await every(world, KeyFilter(search="a"), 4)]
    assert names == sorted(names)
    idle = [idle_since(key) for key in await every(world, KeyFilter(unused_days=1), 4)]
    assert idle == sorted(idle)


async def test_a_key_never_used_is_unused_from_its_creation_on(world: World) -> None:
    world.clock.advance(days=90)
    young = await create(world, "CI")
    assert [key.id for key in await every(world, KeyFilter(unused_days=90), 5)] == [world.initialised.key.id]
    world.clock.advance(days=90)
    assert young.id in [key.id for key in await every(world, KeyFilter(unused_days=90), 5)]


async def test_a_key_is_found_by_its_tails_as_people_copy_them(world: World) -> None:
    issued = await create(world, "CI")
    rotated = (await world.keys.rotate(world.admin, issued.id)).resource
    for tail in (issued.tail, rotated.tail):
        for search in (tail, f" …{tail} ", f"sk_…{tail}"):
            assert [key.id for key in await every(world, KeyFilter(search=search), 1)] == [issued.id]
    assert await every(world, KeyFilter("revoked", search=issued.tail), 1) == []
    assert await every(world, KeyFilter(search=issued.tail, unused_days=1), 1) == []


@pytest.mark.parametrize("sort", [None, *get_args(Sort)])
async def test_matches_by_tail_come_first_and_each_once(world: World, sort: Sort | None) -> None:
    issued = await create(world, "CI")
    assert issued.tail is not None
    foreign = {"name": "Old", "entropy_bits": 128, "tail": issued.tail}
    twins = [
        (await world.keys.import_key(world.admin, {**foreign, "sha256": str(n) * 64})).resource.id for n in range(3)
    ]
    named = [(await create(world, issued.tail + end)).id for end in ("", " b", " c")]
    await create(world, "zzz")
    whole = [key.id for key in await every(world, KeyFilter(search=issued.tail, sort=sort), 50)]
    assert whole[:4] == [*reversed(twins), issued.id]
    assert sorted(whole[4:]) == sorted(named)
    for limit in (1, 2, 3, 4, 5):
        assert [key.id for key in await every(world, KeyFilter(search=issued.tail, sort=sort), limit)] == whole


async def test_nobody_hides_a_key_from_others_behind_made_up_tails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_listing, "MAX_TAIL_MATCHES", 3)
    eve = await world.another()
    imported = {"name": "Old", "entropy_bits": 128, "tail": "aB3dE9"}
    for number in range(4):
        await world.keys.import_key(eve, {**imported, "sha256": f"{number:064x}"})
    own = (await world.keys.import_key(world.admin, {**imported, "sha256": "f" * 64})).resource.id
    assert [key.id for key in await every(world, KeyFilter(search="aB3dE9"), 5)] == [own]


async def test_keys_made_meanwhile_neither_repeat_nor_hide_others(world: World) -> None:
    before = [(await create(world, f"k{number}")).id for number in range(4)]
    page = await world.keys.list(world.admin, limit=2)
    await create(world, "meanwhile")
    rest = await world.keys.list(world.admin, cursor=page.next_cursor, limit=50)
    assert [key.id for key in (*page.items, *rest.items)] == [*reversed(before), world.initialised.key.id]


async def test_another_organizations_keys_are_in_no_list(world: World) -> None:
    eve = await world.another()
    other = await world.keys.show(eve, eve.authority.key_id)
    for status, sort in itertools.product((None, *get_args(StatusFilter)), (None, *get_args(Sort))):
        for search in (None, "admin", other.tail):
            found = await every(world, KeyFilter(status, search=search, sort=sort), 50)
            assert other.id not in [key.id for key in found]
    world.clock.advance(days=9)
    assert [key.id for key in await every(world, KeyFilter(unused_days=3), 9)] == [world.initialised.key.id]
    with pytest.raises(NotFound, match="no owner"):
        await world.keys.list(world.admin, KeyFilter(owner="eve@example.com"))


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "é", "bm8", "WyJpZCIsMSwyXQ", "WyJpZCJd", "W10", "eyJhIjoxfQ", "=", "MQ",
        "WyJleHBpcmVkIiwiMDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OSIsImtleV94Il0",  # a moment before the calendar begins
    ],
)  # fmt: skip
async def test_a_made_up_cursor_is_the_callers_fault(world: World, cursor: str) -> None:
    for wanted in (EVERYTHING, KeyFilter("expired"), KeyFilter(search="a"), KeyFilter(sort="last_used")):
        with pytest.raises(Invalid, match="cursor"):
            await world.keys.list(world.admin, wanted, cursor)


async def test_a_cursor_of_another_order_is_refused(world: World) -> None:
    await create(world, "CI")
    cursor = (await world.keys.list(world.admin, limit=1)).next_cursor
    assert cursor is not None
    for wanted in (KeyFilter("expired"), KeyFilter(sort="name"), KeyFilter(unused_days=1)):
        with pytest.raises(Invalid, match="cursor"):
            await world.keys.list(world.admin, wanted, cursor)


async def test_all_that_is_wrong_with_a_call_is_named_at_once(world: World) -> None:
    wanted = KeyFilter("gone", "a\0b", "x" * 129, 0, "size")  # type: ignore[arg-type]
    with pytest.raises(Invalid) as caught:
        await world.keys.list(world.admin, wanted, "?", 1001)
    named = [fault.field for fault in caught.value.fields]
    assert named == ["limit", "status", "sort", "unused_days", "search", "owner", "cursor"]
    for limit in (0, -1):
        with pytest.raises(Invalid, match="1 to 1000"):
            await world.keys.list(world.admin, limit=limit)
    for search in ("", " ", "\ud800", "\x00"):
        with pytest.raises(Invalid, match="search"):
            await world.keys.list(world.admin, KeyFilter(search=search))


async def plans(world: World, filters: Sequence[KeyFilter]) -> dict[str, list[str]]:
    """How SQLite would run each statement that lists need, by statement."""
    statements: dict[str, object] = {}

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements[statement] = parameters

    event.listen(world.engine.sync_engine, "before_cursor_execute", note)
    for wanted in filters:
        await every(world, wanted, 1)
    event.remove(world.engine.sync_engine, "before_cursor_execute", note)
    found = {}
    for statement in statements:
        if "FROM key" in statement and "INSERT" not in statement:
            marked = "EXPLAIN QUERY PLAN " + statement.replace("?", "'1'").replace(":", "\\:")
            found[statement] = [step[3] for step in await world.rows(text(marked))]
    return found


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_no_page_scans_or_sorts_all_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a page cost the same at 1,000,000 keys: statements search an index, in the index's order."""
    monkeypatch.setattr(key_listing, "FEW", 0)  # so that nothing is small enough to be sorted
    issued = await create(world, "CI")
    await create(world, "CD", expires="never")
    used = update(key_uses).where(key_uses.c.key_id == issued.id).values(used=True, address="::1")
    await world.execute(used)
    world.clock.advance(days=9)
    filters = [EVERYTHING, *(KeyFilter(status) for status in get_args(StatusFilter))]
    filters += [KeyFilter(sort=sort) for sort in get_args(Sort)]
    filters += [KeyFilter("active", sort=sort) for sort in get_args(Sort)]
    filters += [KeyFilter(search=search) for search in ("c", issued.tail)]
    filters += [KeyFilter(owner="ada@example.com"), KeyFilter(unused_days=1), KeyFilter("active", unused_days=1)]
    for statement, steps in (await plans(world, filters)).items():
        for step in steps:
            assert "SCAN" not in step.replace("SCAN anon", ""), (statement, steps)  # anon: what was counted
            assert "ORDER BY" not in step, (statement, steps)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EVERYTHING, "ix_keys_organization"),
        (KeyFilter("active"), "ix_keys_standing"),
        (KeyFilter("disabled"), "ix_keys_standing"),
        (KeyFilter("revoked"), "ix_keys_standing"),
        (KeyFilter("expired"), "ix_keys_ends"),
        (KeyFilter("expires_soon"), "ix_keys_ends"),
        (KeyFilter(owner="ada@example.com"), "ix_keys_owner"),
        (KeyFilter(search="c"), "ix_keys_name"),
        (KeyFilter(unused_days=1), "ix_key_uses_idle"),
        (KeyFilter(sort="name"), "ix_keys_name"),
        (KeyFilter(sort="expires"), "ix_keys_ends"),
        (KeyFilter(sort="last_used"), "ix_key_uses_used"),
    ],
)
async def test_each_filter_and_order_is_read_by_its_own_index(world: World, wanted: KeyFilter, index: str) -> None:
    """Another one would do on a small store, and walk past all other keys on a big one."""
    await create(world, "CI")
    await create(world, "CD", expires="never")
    read = [steps for statement, steps in (await plans(world, [wanted])).items() if "position" in statement]
    assert read
    assert all(f" {index} " in steps[0] for steps in read), read


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_page_behind_a_cursor_begins_there_and_not_at_the_beginning_of_the_range(world: World) -> None:
    """With two conditions for where an index is entered SQLite may take the weaker, and walk past all earlier pages."""
    for name in ("CI", "CD", "CX"):
        await create(world, name, expires="30d")
    await create(world, "C", expires="1d")
    world.clock.advance(days=29)
    filters = [KeyFilter(search="c"), KeyFilter("expires_soon"), KeyFilter("active", sort="expires")]
    filters += [KeyFilter("expired"), KeyFilter("expired", sort="expires"), KeyFilter(unused_days=1)]
    entered = re.compile(r"(keys\.\w+|key_uses\.\w+) (<|>)=? \?")
    for statement in await plans(world, filters):
        if "position" not in statement:
            continue
        conditions, _, order = statement.partition("WHERE")[2].partition("ORDER BY")
        column, direction = order.split()[:2]
        near = column, ">" if direction.startswith("ASC") else "<"
        found = [entered.fullmatch(each.strip()) for each in conditions.split(" AND ")]
        assert [match.groups() for match in found if match].count(near) <= 1, statement


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_what_is_sorted_is_read_by_the_index_of_a_filter_that_leaves_few(world: World) -> None:
    await create(world, "CI")
    filters = [
        KeyFilter(owner="ada@example.com", sort="name"),
        KeyFilter(search="c", sort="last_used"),
        KeyFilter("revoked", unused_days=1),
        KeyFilter("expired", sort="name"),
        KeyFilter(unused_days=1, sort="expires"),
    ]
    for statement, steps in (await plans(world, filters)).items():
        if "few" not in statement:
            continue
        assert any("SCAN few" in step for step in steps), (statement, steps)
        assert not any("SCAN key" in step for step in steps), (statement, steps)


def test_the_admin_api_promises_no_longer_texts_than_are_taken() -> None:
    listing = next(each for each in OPERATIONS if each.name == "list_keys")
    lengths = {each.name: each.schema.get("maxLength") for each in listing.query}
    search, owner = lengths["search"], lengths["owner"]
    assert isinstance(search, int)
    assert isinstance(owner, int)
    examine(KeyFilter(search="x" * search, owner="x" * owner), None, 10)
    with pytest.raises(Invalid) as caught:
        examine(KeyFilter(search="x" * (search + 1), owner="x" * (owner + 1)), None, 10)
    assert [fault.field for fault in caught.value.fields] == ["search", "owner"]
