"""Organizations: born whole, kept by the operator, closed to each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from gateway.errors import Conflict, Invalid, NotAllowed, NotFound, PreconditionFailed, Unauthenticated
from gateway.services.organization_rows import resolve_owner
from gateway.store.engine import read_transaction
from gateway.store.schema import members, organizations, owners
from tests.services.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.services.actor import Caller
    from tests.services.conftest import World


# The first one


async def test_initialising_makes_organization_admin_and_a_working_key_that_inherits(world: World) -> None:
    made = world.initialised
    assert made.organization.name == "Acme"
    assert made.member.email == "ada@example.com"
    record = await world.record(made.key.secret)
    assert record is not None
    assert (record.organization_id, record.owner_id, record.owner_name) == (
        made.organization.id, made.member.id, "ada@example.com",
    )  # fmt: skip
    assert record.permissions is None
    assert record.owner_permissions == ("*:*", "gateway:*")
    assert [row.role for row in await world.rows(select(members))] == ["admin"]


async def test_initialising_is_logged_and_told(world: World) -> None:
    made = world.initialised
    assert await world.log() == [
        (1, "organization", made.organization.id, 1),
        (2, "owner", made.member.id, 1),
        (3, "key", made.key.id, 1),
    ]
    trail = await world.trail()
    assert [event["action"] for event in trail] == ["organization.create", "member.create", "key.create"]
    assert {event["actor_text"] for event in trail} == {"System"}


async def test_an_admin_whose_key_is_lost_gets_another_one_from_whoever_has_the_store(world: World) -> None:
    await world.organizations.initialise("Else", "ada@example.com")
    made = await world.organizations.initialise("Acme", "ada@example.com", another_key=True)
    assert (made.organization, made.member) == (world.initialised.organization, world.initialised.member)
    assert made.key.id != world.initialised.key.id
    record = await world.record(made.key.secret)
    assert record is not None
    assert record.owner_permissions == ("*:*", "gateway:*")
    assert await world.record(world.initialised.key.secret) is not None
    told = (await world.trail())[-1]
    assert (told["action"], told["actor_text"], told["target_id"]) == ("key.create", "System", made.key.id)
    assert (await world.log())[-1][1:] == ("key", made.key.id, 1)


@pytest.mark.parametrize(
    ("org", "admin", "code"),
    [("Emca", "ada@example.com", "organization_not_found"), ("Acme", "bob@example.com", "member_not_found")],
)
async def test_nobody_becomes_admin_by_asking_for_another_key(world: World, org: str, admin: str, code: str) -> None:
    """Neither who is not there, nor a member."""
    await world.invite("bob@example.com")
    with pytest.raises(NotFound) as caught:
        await world.organizations.initialise(org, admin, another_key=True)
    assert caught.value.code == code


async def test_the_first_organization_ever_is_the_operator_and_no_later_one(world: World) -> None:
    await asyncio.gather(*(world.organizations.initialise(f"No. {n}", "eve@example.com") for n in range(3)))
    rows = await world.rows(select(organizations.c.name).where(organizations.c.operator))
    assert [row.name for row in rows] == ["Acme"]


async def test_the_same_organization_is_made_once_even_by_two_at_once(world: World) -> None:
    answers = await asyncio.gather(
        *(world.organizations.initialise("Second", "bob@example.com") for _ in range(4)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(refused) == 3
    assert {error.code for error in refused} == {"organization_exists"}
    assert len(await world.rows(select(organizations.c.id))) == 2


async def test_bad_names_are_named_at_once_as_the_command_line_calls_them(world: World) -> None:
    with pytest.raises(Invalid) as caught:
        await world.organizations.initialise(" ", "ada")
    assert [fault.field for fault in caught.value.fields] == ["org", "admin"]


# Founded by the operator


async def test_the_operator_founds_an_organization_that_is_whole_and_not_its_own(world: World) -> None:
    body: dict[str, Any] = {
        "name": "Globex",
        "admin": "Eve@example.com",
        "external_id": "crm-42",
        "default_expiry": "30d",
        "max_expiry": "6mo",
    }
    made = await world.organizations.create(world.admin, body)
    assert made.resource.model_dump(include={"name", "external_id", "default_expiry", "max_expiry", "version"}) == {
        "name": "Globex", "external_id": "crm-42", "default_expiry": "30d", "max_expiry": "6mo", "version": 1,
    }  # fmt: skip
    assert made.seq == (await world.log())[-1][0]
    member, key = made.resource.member, made.resource.key
    assert member is not None
    assert key is not None
    assert (member.email, member.role, member.permissions) == ("eve@example.com", "admin", ("*:*", "gateway:*"))
    assert (key.owner.id, key.created_by.text, key.warnings) == (member.id, "System", ())
    assert key.expires_at is not None
    assert (key.expires_at - world.clock.now).days == 30
    eve = await world.caller(key.secret)
    assert not eve.authority.operator
    assert await world.members.show(eve, member.id) == member
    for attempt in (world.members.show(world.admin, member.id), world.keys.show(world.admin, key.id)):
        with pytest.raises(NotFound):
            await attempt


async def test_what_the_operator_does_is_told_in_both_trails_and_tells_tenants_nothing_of_its_people(
    world: World,
) -> None:
    made = (await world.organizations.create(world.admin, {"name": "Globex", "admin": "eve@example.com"})).resource
    await world.organizations.update(world.admin, made.id, {"name": "Globex Inc"})
    assert made.key is not None
    eve = await world.caller(made.key.secret)
    theirs = await world.audit.list(eve)
    assert [event.action for event in theirs.items] == [
        "organization.update", "key.create", "member.create", "organization.create",
    ]  # fmt: skip
    assert {(event.actor.id, event.actor.text, event.address) for event in theirs.items} == {(None, "System", None)}
    assert world.org not in theirs.model_dump_json()
    ours = (await world.audit.list(world.admin)).items[:2]
    assert [(event.action, event.target.id, event.actor.text) for event in ours] == [
        ("organization.update", made.id, "API Key: Admin key"),
        ("organization.create", made.id, "API Key: Admin key"),
    ]
    assert (ours[0].before, ours[0].after) == ({"name": "Globex"}, {"name": "Globex Inc"})


async def test_a_repeated_call_founds_one_and_tells_no_secret_again(world: World) -> None:
    body = {"name": "Globex", "admin": "eve@example.com"}
    first = (await world.organizations.create(world.admin, body, "once")).resource
    again = await world.organizations.create(world.admin, body, "once")
    assert again.seq is None
    assert again.resource.key is not None
    assert again.resource.key.code == "secret_already_issued"
    assert again.resource.model_dump(exclude={"key"}) == first.model_dump(exclude={"key"})
    assert first.key is not None
    eve = await world.caller(first.key.secret)
    await world.keys.update(eve, first.key.id, {"name": "Ours"})
    later = (await world.organizations.create(world.admin, body, "once")).resource
    assert later.key is None, "what the organization changes is its own"
    assert later.member == first.member


async def test_every_bad_field_is_named_at_once(world: World) -> None:
    body = {"name": "", "admin": "x", "external_id": "ü", "default_expiry": "2h", "max_expiry": "never", "a": 1}
    with pytest.raises(Invalid) as caught:
        await world.organizations.create(world.admin, body)
    assert {fault.field for fault in caught.value.fields} == set(body)
    with pytest.raises(Invalid) as caught:
        await world.organizations.update(world.admin, world.org, {"name": None, "keys_create_requires_admin": 1})
    assert {fault.field for fault in caught.value.fields} == {"name", "keys_create_requires_admin"}


async def test_names_and_external_ids_are_one_organizations_until_it_is_removed(world: World) -> None:
    body = {"name": "Globex", "admin": "eve@example.com", "external_id": "crm-1"}
    made = (await world.organizations.create(world.admin, body)).resource
    assert await code_of(world.organizations.create(world.admin, body), Conflict) == "organization_exists"
    same = body | {"name": "Initech"}
    assert await code_of(world.organizations.create(world.admin, same), Conflict) == "external_id_in_use"
    taken = world.organizations.update(world.admin, world.org, {"name": "Globex"})
    assert await code_of(taken, Conflict) == "organization_exists"
    await world.organizations.delete(world.admin, made.id)
    await world.organizations.create(world.admin, body)


# Rules


async def test_an_organization_changes_its_own_rules_and_the_operator_its_name(world: World) -> None:
    eve = await world.another("Globex")
    home = eve.authority.organization_id
    body = {"default_expiry": "7d", "max_expiry": "30d", "keys_create_requires_admin": True}
    changed = await world.organizations.update(eve, home, body, 1)
    assert changed.resource.model_dump(include=set(body)) == body
    assert (await world.log())[-1] == (changed.seq, "organization", home, 2)
    event = (await world.trail())[-1]
    assert (event["action"], event["after"]) == ("organization.update", body)
    assert event["before"] == {"default_expiry": "1y", "max_expiry": None, "keys_create_requires_admin": False}
    for field in ({"name": "Mine"}, {"external_id": "crm-1"}):
        attempt = world.organizations.update(eve, home, field)
        assert await code_of(attempt, NotAllowed) == "operator_required"
    same = await world.organizations.update(eve, home, {"name": "Globex", "max_expiry": "30d"})
    assert (same.seq, same.resource.version) == (None, 2)
    renamed = await world.organizations.update(world.admin, home, {"name": "Globex Inc", "external_id": "crm-1"})
    assert (renamed.resource.name, renamed.resource.external_id) == ("Globex Inc", "crm-1")
    assert [each.id for each in (await world.organizations.list(world.admin, "globex i")).items] == [home]
    cleared = await world.organizations.update(eve, home, {"max_expiry": None})
    assert cleared.resource.max_expiry is None
    late = world.organizations.update(eve, home, {"default_expiry": "1d"}, 2)
    assert await code_of(late, PreconditionFailed) == "version_mismatch"


async def test_the_rules_count_for_the_next_key(world: World) -> None:
    await world.organizations.update(world.admin, world.org, {"max_expiry": "7d"})
    made = await world.members.create(world.admin, {"email": "bob@example.com", "first_key": True})
    assert made.resource.key is not None
    assert made.resource.key.expires_at is not None
    assert (made.resource.key.expires_at - world.clock.now).days == 7
    over = {"email": "eve@example.com", "first_key": {"expires": "30d"}}
    with pytest.raises(Invalid, match=r"first_key\.expires"):
        await world.members.create(world.admin, over)


# Who may do it


async def outcomes(world: World, caller: Caller, organization_id: str) -> dict[str, str]:
    """What becomes of every operation on organizations."""
    attempts: list[tuple[str, Awaitable[object]]] = [
        ("create", world.organizations.create(caller, {"name": "New", "admin": "new@example.com"})),
        ("list", world.organizations.list(caller)),
        ("show", world.organizations.show(caller, organization_id)),
        ("update", world.organizations.update(caller, organization_id, {"default_expiry": "1d"})),
        ("delete", world.organizations.delete(caller, organization_id)),
    ]
    found = {}
    for name, attempt in attempts:
        try:
            await attempt
        except (NotAllowed, NotFound, Conflict) as error:
            found[name] = error.code
        else:
            found[name] = "done"
    return found


async def test_an_admin_of_another_organization_governs_that_one_alone(world: World) -> None:
    eve = await world.another("Globex")
    assert await outcomes(world, eve, eve.authority.organization_id) == {
        "create": "operator_required", "list": "done", "show": "done",
        "update": "done", "delete": "operator_required",
    }  # fmt: skip
    assert [each.name for each in (await world.organizations.list(eve)).items] == ["Globex"]
    assert (await world.organizations.list(eve, "acme")).items == ()
    for organization_id in (world.org, "org_nobody", "\udcff"):
        assert await outcomes(world, eve, organization_id) == {
            "create": "operator_required", "list": "done", "show": "organization_not_found",
            "update": "organization_not_found", "delete": "organization_not_found",
        }  # fmt: skip


async def test_a_member_reads_the_rules_and_changes_none(world: World) -> None:
    _, bob = await world.invite("bob@example.com", permissions=["gateway:admin"])
    assert await outcomes(world, bob, world.org) == {
        "create": "operator_required", "list": "done", "show": "done",
        "update": "admin_required", "delete": "operator_required",
    }  # fmt: skip
    _, reader = await world.invite("rob@example.com", permissions=["gateway:read"])
    assert (await world.organizations.show(reader, world.org)).name == "Acme"
    _, plain = await world.invite("joe@example.com", permissions=["*:*"])
    assert set((await outcomes(world, plain, world.org)).values()) == {"insufficient_permissions"}


async def test_the_operator_is_its_admins_with_gateway_admin_and_nobody_else(world: World) -> None:
    eve = await world.another("Globex")
    theirs = eve.authority.organization_id
    keeper = await world.limited("gateway:read", "gateway:members", "gateway:keys")
    assert (await outcomes(world, keeper, theirs))["show"] == "organization_not_found"
    assert [each.name for each in (await world.organizations.list(keeper)).items] == ["Acme"]
    _, robot = await world.employ("robot", "gateway:admin")
    assert await outcomes(world, robot, theirs) == dict.fromkeys(("create", "list", "show", "update", "delete"), "done")


async def test_the_operator_itself_cannot_be_removed(world: World) -> None:
    assert await code_of(world.organizations.delete(world.admin, world.org), Conflict) == "operator_organization"


async def test_a_removed_organization_is_gone_with_all_of_its_keys_and_no_others(world: World) -> None:
    made = (await world.organizations.create(world.admin, {"name": "Globex", "admin": "eve@example.com"})).resource
    assert made.key is not None
    eve = await world.caller(made.key.secret)
    second = (await world.keys.create(eve, {"name": "second"})).resource
    removed = await world.organizations.delete(world.admin, made.id)
    assert (removed.resource.name, removed.resource.id) == ("Globex", made.id)
    assert (await world.log())[-1] == (removed.seq, "organization", made.id, 2)
    for secret in (made.key.secret, second.secret):
        assert await code_of(world.caller(secret), Unauthenticated) == "revoked_api_key"
        record = await world.record(secret)
        assert record is not None
        assert record.revoked_at == world.clock.now.timestamp()
    assert await code_of(world.members.create(eve, {"email": "x@example.com"}), Unauthenticated) == "revoked_api_key"
    again = world.organizations.delete(world.admin, made.id)
    assert await code_of(again, NotFound) == "organization_not_found"
    assert [each.name for each in (await world.organizations.list(world.admin)).items] == ["Acme"]
    assert (await world.keys.show(world.admin, world.initialised.key.id)).status == "active"


# Owners by what they are called


async def test_an_owner_is_found_by_id_email_or_name_and_never_guessed(world: World) -> None:
    account = await world.add_service_account("ci")
    await world.add_service_account("ada@example.com")
    admin = world.initialised.member.id
    async with read_transaction(world.engine) as connection:
        for reference, expected in ((admin, admin), ("ci", account), (account, account)):
            assert await resolve_owner(connection, world.org, reference) == expected
        with pytest.raises(Conflict, match="Several owners"):
            await resolve_owner(connection, world.org, "Ada@example.com")
    await world.execute(update(owners).where(owners.c.id == account).values(removed_at=world.clock.now))
    async with read_transaction(world.engine) as connection:
        with pytest.raises(NotFound, match="no owner 'ci'"):
            await resolve_owner(connection, world.org, "ci")
