"""What is on record: both kinds in one order, who reads what of it, filters, counts, and the verification."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from gateway.errors import Conflict, Invalid, NotAllowed
from gateway.keys.request_entry import Outcome
from gateway.services import paging
from gateway.services.audit import AuditService
from gateway.services.audit_filter import EVERYTHING, STATUS_RULE, AuditFilter
from gateway.store.audit_query import FIND_LIMIT
from gateway.store.schema import audit_counts
from tests.memory_audit_store import SPOOL, FixedVerification, entry
from tests.services.query_plans import plans_of

if TYPE_CHECKING:
    from gateway.services.actor import Caller
    from gateway.services.audit_shapes import Event
    from gateway.services.shapes import Key
    from tests.services.conftest import World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


async def ask(world: World, key: Key | None = None, **given: Any) -> None:  # noqa: ANN401 - whatever an entry has
    """A request comes on record, made now, with this key or with none."""
    number = len(world.requests.entries)
    plain: dict[str, Any] = {"at": microseconds(world.clock.now), "number": number, "request_id": f"r{number}"}
    if key is not None:
        plain |= {
            "key_id": key.id, "key_name": key.name, "secret_id": "sec_1", "organization_id": key.organization_id,
            "owner_id": key.owner.id,
        }  # fmt: skip
    await world.requests.write(SPOOL, [entry(**plain | given)])


async def read(world: World, caller: Caller, wanted: AuditFilter = EVERYTHING, limit: int = 2) -> list[Event]:
    """Everything that the caller may read and the filter fits, page by page."""
    found: list[Event] = []
    cursor = None
    while True:
        page = await world.audit.list(caller, wanted, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def asked(events: list[Event]) -> list[str | None]:
    return [each.request_id for each in events if each.kind == "request"]


async def test_a_request_says_who_what_from_where_and_what_became_of_it(world: World) -> None:
    key = world.initialised.key
    await ask(
        world, key, at=1_792_597_600_123_456, duration=1500, status=201, method="POST", path="/orders/7",
        route="/orders", upstream="orders", address="192.0.2.9", user_agent="curl/8", bytes_in=10, bytes_out=20,
        request_id="abc",
    )  # fmt: skip
    (event,) = await read(world, world.admin, AuditFilter(kind="request"))
    assert event.model_dump() == {
        "id": f"req_{SPOOL}{next(iter(world.requests.entries))[1]:016x}",
        "kind": "request",
        "at": EPOCH + timedelta(microseconds=1_792_597_600_123_456),
        "actor": {"id": key.id, "text": "API Key: Admin key"},
        "action": "request",
        "target": {"kind": "key", "id": key.id, "name": "Admin key"},
        "address": "192.0.2.9",
        "request_id": "abc",
        "before": None,
        "after": None,
        "request": {
            "method": "POST", "path": "/orders/7", "route": "/orders", "upstream": "orders", "status": 201,
            "outcome": "answered", "bytes_in": 10, "bytes_out": 20, "duration_milliseconds": 1.5,
            "user_agent": "curl/8", "code": None, "secret_id": "sec_1",
        },
    }  # fmt: skip


async def test_a_request_without_a_known_key_is_anonymous_and_about_its_route(world: World) -> None:
    await ask(world, route="/orders", outcome=Outcome.REFUSED, status=401, code="missing_api_key")
    await ask(world, outcome=Outcome.REFUSED, status=400, code="malformed_request", method="", path="")
    malformed, keyless = await read(world, world.admin, AuditFilter(status="refused"))
    assert keyless.actor.model_dump() == malformed.actor.model_dump() == {"id": None, "text": "Anonymous"}
    assert keyless.target.model_dump() == {"kind": "route", "id": "/orders", "name": "/orders"}
    assert malformed.target.model_dump() == {"kind": "gateway", "id": "gateway", "name": "gateway"}
    assert (malformed.request and malformed.request.path, malformed.address) == (None, None)


async def test_both_kinds_are_one_list_newest_first_without_gaps(world: World) -> None:
    for number in range(4):
        world.clock.advance(microseconds=number % 2)  # some at the very same moment
        await world.members.create(world.admin, {"email": f"m{number}@example.com"})
        await ask(world, world.initialised.key)
    whole = await read(world, world.admin, limit=1000)
    assert [(each.at, each.id) for each in whole] == sorted(((each.at, each.id) for each in whole), reverse=True)
    assert [each.kind for each in whole].count("request") == 4
    assert len(whole) == 3 + 4 + 4
    for limit in (1, 2, 3, 5):
        assert await read(world, world.admin, limit=limit) == whole


async def test_the_largest_page_goes_on_where_the_store_gave_all_it_gives_at_once(world: World) -> None:
    for _ in range(FIND_LIMIT + 3):
        await ask(world, world.initialised.key)
    requests = await read(world, world.admin, AuditFilter(kind="request"), limit=1000)
    assert len({each.id for each in requests}) == len(requests) == FIND_LIMIT + 3


async def test_admins_read_the_organizations_requests_and_members_those_of_their_keys(world: World) -> None:
    invited, bob = await world.invite("bob@example.com")
    account, robot = await world.employ("ci", "gateway:read")
    assert invited.key is not None
    keys = {"ada": world.initialised.key, "bob": invited.key}
    for name, key in keys.items():
        await ask(world, key, request_id=name)
    await ask(world, keys["ada"], request_id="ci", owner_id=account.id)
    assert asked(await read(world, world.admin)) == ["ci", "bob", "ada"]
    assert asked(await read(world, await world.limited("gateway:read"))) == ["ada"]
    assert asked(await read(world, bob)) == ["bob"]
    assert asked(await read(world, robot)) == ["ci"]
    for wanted in (AuditFilter(key=keys["ada"].id), AuditFilter(actor=keys["ada"].id), AuditFilter(actor=account.id)):
        assert asked(await read(world, bob, wanted)) == []


async def test_requests_stay_with_who_owned_the_key_when_it_has_moved(world: World) -> None:
    invited, _ = await world.invite("bob@example.com")
    assert invited.key is not None
    await ask(world, invited.key)
    account, robot = await world.employ("ci", "*:*", "gateway:read", "gateway:keys")
    await world.members.remove(world.admin, invited.id, {"keys": "move", "move_to": account.id})
    assert asked(await read(world, robot, AuditFilter(key=invited.key.id))) == []
    assert asked(await read(world, world.admin, AuditFilter(key=invited.key.id))) == ["r0"]


async def test_nobody_reads_another_organizations_requests_and_only_the_operator_those_of_nobody(world: World) -> None:
    eve = await world.another("Globex")
    await ask(world, world.initialised.key, request_id="ours")
    await ask(world, request_id="nobody's")
    assert asked(await read(world, eve)) == []
    assert asked(await read(world, world.admin)) == ["nobody's", "ours"]
    assert asked(await read(world, await world.limited("gateway:read"))) == ["ours"]
    _, bob = await world.invite("bob@example.com", permissions=["gateway:admin", "gateway:read"])
    assert asked(await read(world, bob)) == []
    assert {query.organization_id for query in world.requests.asked} == {world.org, eve.authority.organization_id}


async def test_filters_fit_all_at_once(world: World) -> None:
    begin, key = world.clock.now, world.initialised.key
    invited, calling = await world.invite("bob@example.com")
    assert invited.key is not None
    world.clock.advance(hours=1)
    await ask(world, invited.key, request_id="ok")
    await ask(world, invited.key, request_id="missing", status=404)
    await ask(world, key, request_id="cut", status=200, outcome=Outcome.ABORTED)
    await ask(world, key, request_id="refused", status=403, outcome=Outcome.REFUSED, code="insufficient_permissions")
    await ask(world, request_id="lasts", status=0, outcome=Outcome.OPEN)
    world.clock.advance(hours=1)
    await world.keys.disable(world.admin, invited.key.id)
    later = begin + timedelta(hours=1)
    requests = ["lasts", "refused", "cut", "missing", "ok"]
    everything: dict[str, tuple[AuditFilter, list[str]]] = {
        "requests": (AuditFilter(kind="request"), requests),
        "changes": (AuditFilter(kind="change", since=later), ["key.disable"]),
        "both": (AuditFilter(since=later), ["key.disable", *requests]),
        "by key": (AuditFilter(actor=key.id, since=later), ["key.disable", "refused", "cut"]),
        "by owner": (AuditFilter(actor="bob@example.com"), ["missing", "ok"]),
        "by owner's id": (AuditFilter(actor=invited.id), ["missing", "ok"]),
        "by the system": (AuditFilter(actor="system", since=later), []),
        "of a key": (AuditFilter(key=invited.key.id), ["key.disable", "missing", "ok", "key.create"]),
        "target": (AuditFilter(target=invited.key.id), ["key.disable", "missing", "ok", "key.create"]),
        "target that is no key": (AuditFilter(target=invited.id), ["member.create"]),
        "another key than the actor": (AuditFilter(key=invited.key.id, actor=key.id), ["key.disable", "key.create"]),
        "of a key by its owner": (AuditFilter(key=invited.key.id, actor=invited.id), ["missing", "ok"]),
        "action request": (AuditFilter(action="request"), requests),
        "another action": (AuditFilter(action="key.disable"), ["key.disable"]),
        "status": (AuditFilter(status="404"), ["missing"]),
        "class": (AuditFilter(status="4xx"), ["refused", "missing"]),
        "class of none": (AuditFilter(status="5xx"), []),
        "answered": (AuditFilter(status="answered"), ["missing", "ok"]),
        "refused": (AuditFilter(status="refused"), ["refused"]),
        "aborted": (AuditFilter(status="aborted"), ["cut"]),
        "open": (AuditFilter(status="open"), ["lasts"]),
        "interrupted": (AuditFilter(status="interrupted"), []),
        "code": (AuditFilter(code="insufficient_permissions"), ["refused"]),
        "request id of a request": (AuditFilter(request_id="missing"), ["missing"]),
        "request id of nothing": (AuditFilter(request_id="missin"), []),
        "from, included": (AuditFilter(kind="request", since=later), requests),
        "to, not included": (AuditFilter(kind="request", until=later), []),
        "changes with a status": (AuditFilter(kind="change", status="404"), []),
        "an action with a status": (AuditFilter(action="key.disable", status="404"), []),
        "several": (AuditFilter(actor=invited.id, status="4xx", since=later, key=invited.key.id), ["missing"]),
    }
    for name, (wanted, expected) in everything.items():
        found = await read(world, world.admin, wanted)
        assert [each.request_id if each.request else each.action for each in found] == expected, name
    assert asked(await read(world, calling, AuditFilter(status="4xx"))) == ["missing"]


@pytest.mark.parametrize("status", ["", "99", "600", "40", "4XX", "xxx", "4045", "٤٠٤", "ANSWERED", "gone"])
async def test_a_status_that_is_none_is_told_with_all_else_that_is_wrong(world: World, status: str) -> None:
    with pytest.raises(Invalid) as caught:
        await world.audit.list(world.admin, AuditFilter(status=status), limit=0, cursor="x")
    assert [fault.field for fault in caught.value.fields] == ["limit", "status", "cursor"]
    assert caught.value.fields[1].rule == STATUS_RULE


async def test_moments_before_all_entries_are_no_trouble_to_a_store(world: World) -> None:
    await ask(world)
    dawn = datetime(1, 1, 1, tzinfo=UTC)
    assert asked(await read(world, world.admin, AuditFilter(kind="request", since=dawn))) == ["r0"]
    assert asked(await read(world, world.admin, AuditFilter(kind="request", until=dawn))) == []
    cursor = paging.encode("events", dawn.isoformat(), "evt_1")
    assert (await world.audit.list(world.admin, cursor=cursor)).items == ()
    moments = [each for query in world.requests.asked for each in (query.since, query.until, *(query.before or ())[:1])]
    assert {each for each in moments if isinstance(each, int)} == {0}


async def test_without_an_audit_store_changes_are_read(world: World) -> None:
    without = AuditService(world.engine, None, None)
    assert not without.recording
    assert len((await without.list(world.admin)).items) == 3
    assert (await without.list(world.admin, AuditFilter(kind="request"))).items == ()


async def test_reading_needs_a_permission(world: World) -> None:
    limited = await world.limited("*:*", "gateway:keys")
    for call in (world.audit.list(limited), world.audit.counts(limited)):
        with pytest.raises(NotAllowed) as caught:
            await call
        assert caught.value.code == "insufficient_permissions"


async def count(world: World, key_id: str, organization_id: str, **hours: int) -> None:
    """So many requests in hour 0, 1, … since the clock's hour."""
    begin = world.clock.now.replace(minute=0, second=0, microsecond=0)
    for name, requests in hours.items():
        row = {"key_id": key_id, "organization_id": organization_id, "outcome": "2xx", "requests": requests}
        hour = begin + timedelta(hours=int(name.removeprefix("h")))
        await world.execute(insert(audit_counts).values(**row, hour=hour))


async def test_counts_are_by_hour_and_outcome_and_of_whom_the_caller_reads(world: World) -> None:
    invited, bob = await world.invite("bob@example.com")
    eve = await world.another()
    assert invited.key is not None
    await count(world, world.initialised.key.id, world.org, h0=5, h1=7)
    await count(world, invited.key.id, world.org, h0=3)
    await count(world, eve.authority.key_id, eve.authority.organization_id, h0=100)
    await count(world, "", "", h1=20)
    row = {"key_id": invited.key.id, "organization_id": world.org, "outcome": "refused:key_expired", "requests": 2}
    hour = world.clock.now.replace(minute=0, second=0, microsecond=0)
    await world.execute(insert(audit_counts).values(**row, hour=hour))
    world.clock.advance(hours=2)

    async def told(caller: Caller, **given: Any) -> list[tuple[int, str, int]]:  # noqa: ANN401 - of `counts`
        found = (await world.audit.counts(caller, **given)).items
        return [((each.hour - hour) // timedelta(hours=1), each.outcome, each.requests) for each in found]

    assert await told(world.admin) == [(0, "2xx", 8), (0, "refused:key_expired", 2), (1, "2xx", 27)]
    assert await told(world.admin, key=invited.key.id) == [(0, "2xx", 3), (0, "refused:key_expired", 2)]
    assert await told(bob) == [(0, "2xx", 3), (0, "refused:key_expired", 2)]
    assert await told(bob, key=world.initialised.key.id) == []
    assert await told(eve) == [(0, "2xx", 100)]
    assert await told(eve, key=invited.key.id) == []
    assert await told(world.admin, since=hour + timedelta(hours=1)) == [(1, "2xx", 27)]
    assert await told(eve, since=hour - timedelta(hours=1), until=hour) == []
    world.clock.advance(hours=24)
    assert await told(eve) == []


async def test_counts_of_too_long_a_range_are_refused(world: World) -> None:
    now = world.clock.now
    for since, until in ((now - timedelta(days=101), now), (now, now - timedelta(seconds=1))):
        with pytest.raises(Invalid) as caught:
            await world.audit.counts(world.admin, since=since, until=until)
        assert [fault.field for fault in caught.value.fields] == ["to"]
    await world.audit.counts(world.admin, until=datetime(1, 1, 1, tzinfo=UTC), since=datetime(1, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("key", [None, "key_1"])
async def test_counts_are_read_along_an_index(world: World, key: str | None) -> None:
    (plan,) = await plans_of(world.engine, world.audit.counts(world.admin, key=key))
    assert "SCAN" not in plan
    assert ("PRIMARY KEY" if key else "ix_audit_counts_organization") in plan


async def test_the_operators_admins_alone_verify(world: World) -> None:
    eve = await world.another()
    _, bob = await world.invite("bob@example.com")
    for caller, code in (
        (eve, "operator_required"),
        (bob, "insufficient_permissions"),
        (await world.limited("gateway:read"), "insufficient_permissions"),
    ):
        with pytest.raises(NotAllowed) as refused:
            await world.audit.verify(caller)
        assert refused.value.code == code
    assert (await world.audit.verify(world.admin)).complete
    world.verification.missing = 1
    assert not (await world.audit.verify(world.admin)).complete


async def test_where_nothing_is_recorded_there_is_nothing_to_verify(world: World) -> None:
    with pytest.raises(Conflict) as caught:
        await AuditService(world.engine, world.requests, None).verify(world.admin)
    assert caught.value.code == "requests_not_recorded"
    assert AuditService(world.engine, world.requests, FixedVerification()).recording
