"""Organizations: born whole, found by what people call them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from gateway.errors import Conflict, Invalid, NotFound
from gateway.keys import secret as secrets
from gateway.services.organizations import OrganizationService
from gateway.store.engine import create_engine
from gateway.store.migrate import migrate
from gateway.store.schema import members, organizations, owners
from gateway.store.sqlite_reader import SqliteReader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.conftest import World


async def test_initialising_makes_organization_admin_and_a_working_key_that_inherits(world: World) -> None:
    made = world.initialised
    assert made.organization.name == "Acme"
    assert made.member.email == "ada@example.com"
    with contextlib.closing(SqliteReader(world.path)) as reader:
        record = reader.read(secrets.digest(made.key.secret.encode()))
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
    assert [event["action"] for event in await world.trail()] == ["organization.create", "member.create", "key.create"]


async def test_the_same_organization_is_made_once_even_by_two_at_once(world: World) -> None:
    answers = await asyncio.gather(
        *(world.organizations.initialise("Second", "bob@example.com") for _ in range(4)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(refused) == 3
    assert {error.code for error in refused} == {"organization_exists"}
    assert len(await world.rows(select(organizations.c.id))) == 2


async def test_bad_names_are_named_at_once(world: World) -> None:
    with pytest.raises(Invalid) as caught:
        await world.organizations.initialise(" ", "ada")
    assert [fault.field for fault in caught.value.fields] == ["org", "admin"]


async def test_an_empty_store_is_not_initialised(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    migrate(url)
    engine = create_engine(url)
    service = OrganizationService(engine)
    assert not await service.is_initialised()
    with pytest.raises(NotFound, match="no organization yet"):
        await service.resolve()
    await service.initialise("Acme", "ada@example.com")
    assert await service.is_initialised()
    await engine.dispose()


async def test_an_organization_is_found_by_id_external_id_or_name_or_by_being_the_only_one(world: World) -> None:
    await world.execute(update(organizations).values(external_id="crm-42"))
    for reference in (None, world.org, "crm-42", "Acme"):
        assert (await world.organizations.resolve(reference)).id == world.org
    with pytest.raises(NotFound, match="'acme inc'"):
        await world.organizations.resolve("acme inc")
    await world.organizations.initialise("Other", "eve@example.com")
    with pytest.raises(Conflict, match="Several"):
        await world.organizations.resolve()
    await world.execute(update(organizations).where(organizations.c.name == "Other").values(removed_at=world.clock.now))
    assert (await world.organizations.resolve()).id == world.org


async def test_an_owner_is_found_by_id_email_or_name_and_never_guessed(world: World) -> None:
    from gateway.services.organization_rows import resolve_owner  # noqa: PLC0415
    from gateway.store.engine import read_transaction  # noqa: PLC0415

    account = await world.add_service_account("ci")
    await world.add_service_account("ada@example.com")
    admin = world.initialised.member.id
    async with read_transaction(world.engine) as connection:
        for reference, expected in ((None, admin), (admin, admin), ("ci", account), (account, account)):
            assert await resolve_owner(connection, world.org, reference) == expected
        with pytest.raises(Conflict, match="Several owners"):
            await resolve_owner(connection, world.org, "Ada@example.com")
    await world.execute(update(owners).where(owners.c.id == account).values(removed_at=world.clock.now))
    async with read_transaction(world.engine) as connection:
        with pytest.raises(NotFound, match="no owner 'ci'"):
            await resolve_owner(connection, world.org, "ci")
