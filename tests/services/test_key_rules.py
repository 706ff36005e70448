"""Who may do what to which key. Each way to get more than one holds is a test of its own, and is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from gateway.errors import NotAllowed, NotFound
from gateway.services.key_filters import KeyFilter
from gateway.services.key_rules import opens, widens
from gateway.store.schema import organizations, owners

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gateway.services.actor import Caller
    from gateway.services.shapes import IssuedKey
    from tests.services.conftest import World


async def refused(call: Awaitable[object]) -> str:
    """The code with which the call is refused."""
    with pytest.raises(NotAllowed) as caught:
        await call
    return caught.value.code


async def make(world: World, caller: Caller, **body: object) -> IssuedKey:
    return (await world.keys.create(caller, {"name": "CI", **body})).resource


ESCALATION = "permission_escalation"


async def test_a_limited_key_makes_no_stronger_one(world: World) -> None:
    limited = await world.limited("docs:read", "gateway:keys")
    await make(world, limited, permissions=["docs:read"])
    await make(world, limited, permissions=["docs:read", "gateway:keys"])
    await make(world, limited, permissions=[])
    for permissions in (["docs:write"], ["docs:*"], ["*:*"], ["*:read"], ["gateway:*"], ["docs:read", "gateway:read"]):
        assert await refused(make(world, limited, permissions=permissions)) == ESCALATION


async def test_a_limited_key_makes_none_that_inherits_not_even_with_all_there_is_on_its_list(world: World) -> None:
    for permissions in (("docs:read", "gateway:keys"), ("*:*", "gateway:*")):
        limited = await world.limited(*permissions)
        assert await refused(make(world, limited)) == ESCALATION
        assert await refused(make(world, limited, permissions=None)) == ESCALATION


async def test_a_star_does_not_reach_the_gateway(world: World) -> None:
    _, caller = await world.employ("ci", "*:*", "gateway:keys")
    await make(world, caller, permissions=["*:*"])
    for permissions in (["gateway:read"], ["gateway:admin"], ["gateway:*"], ["*:*", "gateway:members"]):
        assert await refused(make(world, caller, permissions=permissions)) == ESCALATION


async def test_a_key_for_a_service_account_gives_no_more_than_its_maker_holds(world: World) -> None:
    """Even where the account holds more: a list is judged as it stands, inheriting by what the account holds."""
    strong, _ = await world.employ("strong", "*:*", "gateway:admin")
    weak, _ = await world.employ("weak", "docs:read")
    _, admin = await world.invite("bob@example.com", role="admin", permissions=["docs:*", "gateway:keys"])
    assert await refused(make(world, admin, owner=strong.id)) == ESCALATION
    assert await refused(make(world, admin, owner=strong.id, permissions=["gateway:admin"])) == ESCALATION
    await make(world, admin, owner=strong.id, permissions=["docs:write"])
    await make(world, admin, owner=weak.id)
    assert await refused(make(world, admin, owner=weak.id, permissions=["pay:all"])) == ESCALATION


async def test_a_limited_key_rotates_no_stronger_one(world: World) -> None:
    stronger = [await make(world, world.admin), await make(world, world.admin, permissions=["docs:write"])]
    weaker = await make(world, world.admin, permissions=["docs:read"])
    limited = await world.limited("docs:read", "gateway:keys")
    for key in stronger:
        assert await refused(world.keys.rotate(limited, key.id)) == ESCALATION
        assert (await world.keys.show(world.admin, key.id)).version == 1
    assert (await world.keys.rotate(limited, weaker.id)).resource.secret is not None


async def test_a_limited_key_enables_no_stronger_one_but_takes_away_from_any(world: World) -> None:
    stronger, weaker = await make(world, world.admin), await make(world, world.admin, permissions=["docs:read"])
    limited = await world.limited("docs:read", "gateway:keys")
    for key in (stronger, weaker):
        await world.keys.disable(limited, key.id)
    assert await refused(world.keys.enable(limited, stronger.id)) == ESCALATION
    await world.keys.enable(limited, weaker.id)
    await world.keys.enable(limited, weaker.id)
    await world.keys.update(limited, stronger.id, {"permissions": ["docs:write"], "expires": "1d", "name": "Weaker"})
    await world.keys.finish_rotation(limited, stronger.id)
    await world.keys.revoke(limited, stronger.id)
    await world.keys.delete(limited, stronger.id)


async def test_a_limited_key_widens_and_extends_nothing_that_it_could_not_have_made(world: World) -> None:
    body = {"permissions": ["docs:read", "docs:write"], "expires": "30d", "allowed_origins": ["https://a.example"]}
    stronger = await make(world, world.admin, **body)
    limited = await world.limited("docs:read", "gateway:keys")
    for change in (
        {"permissions": ["docs:read", "docs:write", "docs:delete"]},
        {"permissions": None},
        {"expires": "1y"},
        {"expires": "never"},
        {"allowed_origins": None},
        {"allowed_origins": ["https://a.example", "https://evil.example"]},
    ):
        assert await refused(world.keys.update(limited, stronger.id, change)) == ESCALATION
    # What is asked for together is judged together: narrowed to what the caller holds, the key may live on.
    await world.keys.update(limited, stronger.id, {"permissions": ["docs:read"], "expires": "1y"})
    assert await refused(world.keys.update(limited, stronger.id, {"permissions": ["docs:*"]})) == ESCALATION
    assert await refused(world.keys.update(limited, stronger.id, {"permissions": None})) == ESCALATION


async def test_a_limited_key_does_not_widen_itself(world: World) -> None:
    limited = await world.limited("docs:read", "gateway:keys")
    itself = limited.authority.key_id
    for permissions in (None, ["*:*"], ["docs:read", "gateway:keys", "gateway:admin"]):
        assert await refused(world.keys.update(limited, itself, {"permissions": permissions})) == ESCALATION
    await world.keys.update(limited, itself, {"permissions": ["gateway:keys"]})
    assert await refused(make(world, limited, permissions=["docs:read"])) == ESCALATION


async def test_what_an_owner_loses_none_of_their_keys_can_hand_on(world: World) -> None:
    """The caller is judged by what it holds now, not by what it held when its key was made or it authenticated."""
    account, caller = await world.employ("ci", "docs:*", "gateway:keys")
    await make(world, caller, permissions=["docs:write"])
    await world.execute(update(owners).where(owners.c.id == account.id).values(permissions=("gateway:keys",)))
    assert await refused(make(world, caller, permissions=["docs:write"])) == ESCALATION


async def test_an_admin_makes_takes_and_imports_no_members_secret(world: World) -> None:
    bob, caller = await world.invite("bob@example.com")
    key = await make(world, caller)
    theirs = "secret_belongs_to_owner"
    body = {"owner": "bob@example.com", "permissions": ["docs:read"]}
    assert await refused(make(world, world.admin, **body)) == theirs
    foreign = {"name": "Old", "sha256": "0" * 64, "entropy_bits": 256}
    assert await refused(world.keys.import_key(world.admin, {**foreign, "owner": bob.id})) == theirs
    assert await refused(world.keys.rotate(world.admin, key.id)) == theirs
    assert (await world.keys.show(caller, key.id)).version == 1
    await world.keys.rotate(caller, key.id)


async def test_a_service_account_that_administers_makes_no_members_secret_either(world: World) -> None:
    _, robot = await world.employ("robot", "*:*", "gateway:*")
    assert await refused(make(world, robot, owner="ada@example.com")) == "secret_belongs_to_owner"
    assert await refused(world.keys.rotate(robot, world.initialised.key.id)) == "secret_belongs_to_owner"
    await world.keys.disable(robot, world.initialised.key.id)


async def test_an_admin_does_everything_else_to_members_keys(world: World) -> None:
    _, caller = await world.invite("bob@example.com")
    key = await make(world, caller, expires="30d")
    await world.keys.update(world.admin, key.id, {"name": "Bob's", "description": "", "expires": "7d"})
    await world.keys.update(world.admin, key.id, {"permissions": ["docs:read"], "allowed_origins": []})
    await world.keys.disable(world.admin, key.id)
    await world.keys.enable(world.admin, key.id)
    await world.keys.rotate(caller, key.id)
    await world.keys.finish_rotation(world.admin, key.id)
    await world.keys.revoke(world.admin, key.id)
    await world.keys.delete(world.admin, key.id)


async def test_members_and_service_accounts_see_and_touch_their_own_keys_alone(world: World) -> None:
    bob, bobs = await world.invite("bob@example.com")
    ci, robot = await world.employ("ci", "*:*", "gateway:keys")
    theirs = {
        "ada": await make(world, world.admin),
        "bob": await make(world, bobs),
        "ci": await make(world, robot, permissions=[]),
    }
    for caller, own, owner in ((bobs, "bob", bob.id), (robot, "ci", ci.id)):
        listed = (await world.keys.list(caller)).items
        assert {key.owner.id for key in listed} == {owner}
        assert listed == (await world.keys.list(caller, KeyFilter(owner=owner))).items
        await world.keys.show(caller, theirs[own].id)
        for name, key in theirs.items():
            if name == own:
                continue
            for call in (
                world.keys.show(caller, key.id),
                world.keys.disable(caller, key.id),
                world.keys.revoke(caller, key.id),
                world.keys.rotate(caller, key.id),
                world.keys.update(caller, key.id, {"name": "Mine"}),
                world.keys.delete(caller, key.id),
            ):
                with pytest.raises(NotFound):
                    await call
            assert (await world.keys.list(caller, KeyFilter(search=key.tail))).items == ()
            with pytest.raises(NotFound, match="no owner") as caught:
                await make(world, caller, owner=key.owner.id)
            assert caught.value.code == "owner_not_found"
            for reference in (key.owner.id, key.owner.name):
                with pytest.raises(NotFound, match="no owner") as caught:
                    await world.keys.list(caller, KeyFilter(owner=reference))
                assert caught.value.code == "owner_not_found"
        assert (await make(world, caller, owner=owner, permissions=[])).owner.id == owner


async def test_where_admins_make_keys_nobody_else_makes_imports_widens_or_prolongs_one(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    key = await make(world, bob, permissions=["docs:read"], expires="1d")
    await world.execute(update(organizations).values(keys_create_requires_admin=True))
    for call in (
        make(world, bob),
        world.keys.import_key(bob, {"name": "Old", "sha256": "0" * 64, "entropy_bits": 256}),
        world.keys.update(bob, key.id, {"expires": "1y"}),
        world.keys.update(bob, key.id, {"permissions": ["docs:*"]}),
    ):
        assert await refused(call) == "admin_required"
    world.clock.advance(days=2)
    assert await refused(world.keys.update(bob, key.id, {"expires": "1y"})) == "admin_required"
    await world.keys.update(bob, key.id, {"name": "Renamed", "permissions": []})
    assert await refused(world.keys.update(world.admin, key.id, {"expires": "1y"})) == "secret_belongs_to_owner"
    fresh = await make(world, world.admin)
    _, robot = await world.employ("ci", "gateway:keys")
    of_robot = await make(world, world.admin, owner="ci", permissions=["gateway:keys"], expires="1d")
    assert await refused(world.keys.update(robot, of_robot.id, {"expires": "1y"})) == "admin_required"
    await world.keys.update(world.admin, of_robot.id, {"expires": "1y"})
    await world.keys.update(world.admin, fresh.id, {"expires": "never"})


async def test_where_admins_make_keys_everybody_still_rotates_and_enables_their_own(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    key = await make(world, bob)
    await world.execute(update(organizations).values(keys_create_requires_admin=True))
    await world.keys.rotate(bob, key.id)
    await world.keys.disable(bob, key.id)
    await world.keys.enable(bob, key.id)


async def test_nobody_gives_more_to_another_members_key(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    _, robot = await world.employ("robot", "*:*", "gateway:*")
    body = {"permissions": ["docs:read"], "expires": "1d", "allowed_origins": ["https://a.example"]}
    key = await make(world, bob, **body)
    more = (
        {"permissions": ["docs:read", "docs:write"]},
        {"permissions": None},
        {"expires": "1y"},
        {"expires": "never"},
        {"allowed_origins": ["https://a.example", "https://b.example"]},
        {"allowed_origins": None},
        {"name": "Mine", "permissions": [], "expires": "1y"},
    )
    for caller in (world.admin, robot):
        for change in more:
            assert await refused(world.keys.update(caller, key.id, change)) == "secret_belongs_to_owner"
    world.clock.advance(days=2)
    assert await refused(world.keys.update(world.admin, key.id, {"expires": "1h"})) == "secret_belongs_to_owner"
    assert (await world.keys.show(world.admin, key.id)).version == 1
    for change in more:
        await world.keys.update(bob, key.id, change)


async def test_what_an_admin_disabled_its_owner_does_not_enable(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    _, robot = await world.employ("robot", "*:*", "gateway:keys")
    for caller in (bob, robot):
        key = await make(world, caller)
        await world.keys.disable(world.admin, key.id)
        await world.keys.disable(caller, key.id)
        assert await refused(world.keys.enable(caller, key.id)) == "admin_required"
        await world.keys.enable(world.admin, key.id)
        await world.keys.disable(caller, key.id)
        await world.keys.enable(caller, key.id)
        await world.keys.disable(caller, key.id)
        await world.keys.enable(world.admin, key.id)


async def test_who_disabled_a_key_is_known_when_the_key_it_was_done_with_is_gone(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    _, carol = await world.invite("carol@example.com", role="admin", permissions=["*:*", "gateway:*"])
    by_bob, by_carol = await make(world, bob), await make(world, bob)
    other = await world.caller((await make(world, bob)).secret)
    await world.keys.disable(other, by_bob.id)
    await world.keys.disable(carol, by_carol.id)
    for caller in (other, carol):
        await world.keys.delete(world.admin, caller.authority.key_id)
    await world.keys.enable(bob, by_bob.id)
    assert await refused(world.keys.enable(bob, by_carol.id)) == "admin_required"


async def test_a_disabled_key_that_was_moved_is_enabled_by_admins_alone(world: World) -> None:
    bob, calling = await world.invite("bob@example.com")
    ci, robot = await world.employ("ci", "*:*", "gateway:keys", "gateway:read")
    key = await make(world, calling, permissions=["docs:read"])
    await world.keys.disable(calling, key.id)
    await world.members.remove(world.admin, bob.id, {"keys": "move", "move_to": ci.id})
    assert await refused(world.keys.enable(robot, key.id)) == "admin_required"
    await world.keys.enable(world.admin, key.id)


async def test_where_admins_revoke_nobody_else_revokes_or_deletes(world: World) -> None:
    _, bob = await world.invite("bob@example.com")
    key = await make(world, bob)
    await world.execute(update(organizations).values(keys_revoke_requires_admin=True))
    assert await refused(world.keys.revoke(bob, key.id)) == "admin_required"
    assert await refused(world.keys.delete(bob, key.id)) == "admin_required"
    await world.keys.disable(bob, key.id)
    await world.keys.revoke(world.admin, key.id)
    await world.keys.delete(world.admin, key.id)


async def test_an_owner_is_found_by_id_email_in_any_case_or_name(world: World) -> None:
    ci, robot = await world.employ("CI", "gateway:keys")
    for reference in (ci.id, "CI"):
        assert (await make(world, world.admin, owner=reference)).owner.id == ci.id
        assert (await make(world, robot, owner=reference, permissions=[])).owner.id == ci.id
    for reference in (world.initialised.member.id, "Ada@Example.com"):
        assert (await make(world, world.admin, owner=reference)).owner.name == "ada@example.com"


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        (None, ("*:*",), False),
        (None, None, False),
        (("*:*", "gateway:*"), None, True),
        (("docs:*",), ("docs:read",), False),
        (("docs:read",), ("docs:*",), True),
        (("*:*",), ("gateway:read",), True),
        ((), (), False),
    ],
)
def test_widening_is_allowing_anything_that_was_not(
    before: tuple[str, ...] | None, after: tuple[str, ...] | None, *, wider: bool
) -> None:
    assert widens(before, after) is wider


def test_opening_is_adding_any_page() -> None:
    assert not opens(None, ("https://a.example",))
    assert not opens(("https://a.example",), ())
    assert opens((), ("https://a.example",))
    assert opens(("https://a.example",), None)
