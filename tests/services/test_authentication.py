"""From a secret to a caller: three answers, in the proxy's codes, and never from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from gateway.errors import NotAllowed, StoreUnavailable, Unauthenticated
from gateway.keys import secret as secrets
from gateway.services.authentication import Authenticator
from gateway.store.engine import create_engine
from gateway.store.schema import key_secrets, keys, members, organizations, owners

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from tests.services.conftest import World


async def refusal(world: World, secret: str | None) -> tuple[str, str]:
    with pytest.raises(Unauthenticated) as caught:
        await world.caller(secret)
    return caught.value.code, caught.value.detail


def ada(world: World) -> str:
    """The secret of Ada's first key."""
    secret = world.initialised.key.secret
    assert secret is not None
    return secret


async def test_a_good_secret_is_a_caller_with_its_owners_authority_and_the_keys_name(world: World) -> None:
    caller = await world.caller(ada(world))
    authority, actor = caller.authority, caller.actor
    assert (authority.organization_id, authority.owner_id) == (world.org, world.initialised.member.id)
    assert (authority.owner_kind, authority.role) == ("member", "admin")
    assert (authority.key_id, authority.key_permissions) == (world.initialised.key.id, None)
    assert authority.owner_permissions == ("*:*", "gateway:*")
    assert authority.operator
    assert (actor.id, actor.text) == (world.initialised.key.id, "API Key: Admin key")
    assert (actor.address, actor.request_id, actor.owner_id) == ("192.0.2.7", "req-1", authority.owner_id)


async def test_a_service_account_has_no_role_and_another_organization_is_no_operator(world: World) -> None:
    account, caller = await world.employ("ci", "docs:read")
    assert (caller.authority.owner_id, caller.authority.owner_kind, caller.authority.role) == (
        account.id, "service_account", None,
    )  # fmt: skip
    other = await world.another()
    assert not other.authority.operator
    assert other.authority.organization_id != world.org


async def test_spaces_around_a_secret_are_forgiven(world: World) -> None:
    assert (await world.caller(f" \t{ada(world)} ")).authority.key_id == world.initialised.key.id


@pytest.mark.parametrize("secret", [None, "", "  \t "])
async def test_no_key_is_told_apart_from_a_bad_one(world: World, secret: str | None) -> None:
    code, detail = await refusal(world, secret)
    assert code == "missing_api_key"
    assert "X-API-KEY" in detail


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (secrets.generate("sk_"), "unknown here"),
        ("sk_" + "0" * 49, "copied whole"),
        ("made up", "copied whole"),
        ("ключ", "copied whole"),
        ("\udcff", "copied whole"),
        ("x" * 513, "copied whole"),
    ],
    ids=["well-formed", "mistyped", "foreign", "not ASCII", "no text", "too long"],
)
async def test_what_is_not_known_here_is_said_so_and_never_repeated(world: World, secret: str, words: str) -> None:
    code, detail = await refusal(world, secret)
    assert code == "invalid_api_key"
    assert words in detail
    assert secret not in detail


async def test_a_mistyped_key_of_ours_costs_no_look_up() -> None:
    """The store of this engine does not exist: whoever asked it would fail otherwise."""
    engine = create_engine("sqlite:////nowhere/gateway.db")
    with pytest.raises(Unauthenticated):
        await Authenticator(engine).authenticate("sk_" + "0" * 49)
    with pytest.raises(StoreUnavailable):
        await Authenticator(engine).authenticate(secrets.generate("sk_"))
    await engine.dispose()


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (lambda now: update(keys).values(revoked_at=now), "revoked_api_key"),
        (lambda now: update(keys).values(disabled_at=now), "disabled_api_key"),
        (lambda now: update(keys).values(expires_at=now), "expired_api_key"),
        (lambda now: update(owners).values(removed_at=now), "revoked_api_key"),
        (lambda now: update(organizations).values(removed_at=now), "revoked_api_key"),
        (lambda now: update(key_secrets).values(valid_until=now), "expired_api_key"),
        (lambda _: delete(key_secrets), "invalid_api_key"),
    ],
    ids=["revoked", "disabled", "expired", "owner removed", "organization removed", "rotated out", "deleted"],
)
async def test_a_key_that_is_over_says_why_from_the_next_call_on(world: World, ending: object, code: str) -> None:
    statement: Executable = ending(world.clock.now)  # type: ignore[operator]
    await world.caller(ada(world))
    await world.execute(statement)
    assert (await refusal(world, ada(world)))[0] == code


async def test_a_rotated_out_secret_is_good_until_its_grace_period_is_over(world: World) -> None:
    rotated = await world.keys.rotate(world.admin, world.initialised.key.id, {"grace": "1h"})
    new = rotated.resource.secret
    world.clock.advance(minutes=59)
    assert await world.caller(ada(world)) == await world.caller(new)
    world.clock.advance(minutes=1)
    assert (await refusal(world, ada(world)))[0] == "expired_api_key"
    await world.caller(new)


async def test_with_generic_details_every_bad_key_looks_unknown(world: World) -> None:
    generic = Authenticator(world.engine, generic=True, clock=world.clock)
    await world.execute(update(keys).values(revoked_at=world.clock.now))
    with pytest.raises(Unauthenticated, match="unknown here") as caught:
        await generic.authenticate(ada(world))
    assert caught.value.code == "invalid_api_key"
    with pytest.raises(Unauthenticated) as caught:
        await generic.authenticate(None)
    assert caught.value.code == "missing_api_key"


async def test_a_change_of_the_owner_counts_from_the_next_call_on(world: World) -> None:
    await world.execute(update(owners).values(permissions=("docs:read",)))
    await world.execute(update(members).values(role="member"))
    authority = (await world.caller(ada(world))).authority
    assert (authority.owner_permissions, authority.role) == (("docs:read",), "member")


async def test_a_key_for_pages_serves_calls_from_its_own_origins_alone(world: World) -> None:
    body = {"name": "Page", "allowed_origins": ["https://app.example.com"]}
    secret = (await world.keys.create(world.admin, body)).resource.secret
    for origin in (None, "https://evil.example.com", "https://app.example.com.evil.example.com"):
        with pytest.raises(NotAllowed) as caught:
            await world.authenticator.authenticate(secret, origin=origin)
        assert caught.value.code == "origin_not_allowed"
    await world.authenticator.authenticate(secret, origin="https://app.example.com")
    await world.authenticator.authenticate(ada(world), origin="https://anywhere.example.com")


async def test_me_says_who_the_key_is_and_what_it_may_do(world: World) -> None:
    body = {"name": "Reader", "permissions": ["*:read", "gateway:read", "gateway:keys"]}
    secret = (await world.keys.create(world.admin, body)).resource.secret
    caller = await world.caller(secret)
    me = await world.authenticator.me(caller, uses_recorded=True)
    assert me.key == await world.keys.show(world.admin, caller.authority.key_id)
    assert me.owner.model_dump() == {
        "id": world.initialised.member.id,
        "kind": "member",
        "name": "ada@example.com",
        "role": "admin",
        "permissions": ("*:*", "gateway:*"),
        "external_id": None,
    }
    assert me.organization.model_dump() == {"id": world.org, "name": "Acme", "external_id": None, "operator": True}
    assert me.permissions == ("*:read", "gateway:read", "gateway:keys")
    assert str(secret) not in me.model_dump_json()


async def test_me_needs_no_permission_at_all(world: World) -> None:
    nothing = await world.limited()
    me = await world.authenticator.me(nothing, uses_recorded=True)
    assert me.permissions == ()
    assert me.key.id == nothing.authority.key_id


async def test_a_change_is_not_made_with_an_authority_that_ended_meanwhile(world: World) -> None:
    """Of a removal and a create that cross, one happens first; then the other finds things as they are."""
    _, bob = await world.invite("bob@example.com")
    created, removed = await asyncio.gather(
        *(world.keys.create(bob, {"name": f"key {number}"}) for number in range(1)),
        world.members.remove(world.admin, bob.authority.owner_id, {"keys": "revoke"}),
        return_exceptions=True,
    )
    assert not isinstance(removed, BaseException)
    listed = await world.keys.list(world.admin)
    left = [key for key in listed.items if key.owner.id == bob.authority.owner_id]
    assert {key.status for key in left} == {"revoked"}
    assert isinstance(created, Unauthenticated) or len(left) == 2
    with pytest.raises(Unauthenticated) as caught:
        await world.keys.create(bob, {"name": "too late"})
    assert caught.value.code == "revoked_api_key"
