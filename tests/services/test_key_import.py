"""Keys of other systems: taken on by the SHA-256 of their secret, once, and never after they were retired here."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from gateway.errors import Conflict, Invalid, NotAllowed

if TYPE_CHECKING:
    from gateway.services.shapes import ImportedKey
    from tests.services.conftest import World

SECRET = b"legacy-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"
DIGEST = hashlib.sha256(SECRET).digest()


async def take_on(world: World, **body: object) -> ImportedKey:
    whole = {"name": "Legacy", "sha256": DIGEST.hex(), "entropy_bits": 128, **body}
    return (await world.keys.import_key(world.admin, whole)).resource


@pytest.mark.parametrize(
    "text",
    [
        DIGEST.hex(),
        DIGEST.hex().upper(),
        base64.b64encode(DIGEST).decode(),
        base64.urlsafe_b64encode(DIGEST).decode().rstrip("="),
    ],
)
async def test_an_imported_key_works_by_its_old_secret(world: World, text: str) -> None:
    await world.employ("ci", "docs:*")
    body = {"tail": "7a6b5c", "prefix": "legacy-", "permissions": ["docs:read"], "owner": "ci", "expires": "never"}
    key = await take_on(world, sha256=text, **body)
    assert (key.imported, key.tail, key.prefix, key.owner.name, key.expires_at) == (
        True,
        "7a6b5c",
        "legacy-",
        "ci",
        None,
    )
    assert key.permissions == ("docs:read",)
    record = await world.record(SECRET.decode())
    assert record is not None
    assert record.key_id == key.id
    verified = await world.keys.verify(world.admin, {"key": SECRET.decode()})
    assert (verified.valid, verified.key) == (True, await world.keys.show(world.admin, key.id))
    assert (await world.trail())[-1]["action"] == "key.import"


async def test_a_twin_of_a_name_is_warned_about_unless_it_is_somebody_elses(world: World) -> None:
    await world.employ("ci", "docs:*")
    twin = (await world.keys.create(world.admin, {"name": "LEGACY"})).resource
    assert (await take_on(world, owner="ci")).warnings == ()
    again = await take_on(world, sha256="0" * 64)
    assert [(each.code, twin.id in each.detail) for each in again.warnings] == [("name_in_use", True)]


async def test_a_tail_and_a_prefix_need_not_be_known(world: World) -> None:
    key = await take_on(world)
    assert (key.tail, key.prefix) == (None, None)


async def test_an_imported_key_is_rotated_to_a_secret_of_our_own(world: World) -> None:
    key = await take_on(world)
    rotated = (await world.keys.rotate(world.admin, key.id)).resource
    assert (rotated.prefix, rotated.imported) == ("sk_", True)
    assert rotated.previous_secret is not None
    assert rotated.previous_secret.tail is None


async def test_a_digest_in_use_is_refused_whoever_uses_it_and_nobody_is_named(world: World) -> None:
    eve = await world.another()
    body = {"name": "Legacy", "sha256": DIGEST.hex(), "entropy_bits": 256}
    await world.keys.import_key(eve, body)
    issued = (await world.keys.create(world.admin, {"name": "CI"})).resource
    before = await world.log()
    for digest in (DIGEST, hashlib.sha256(str(issued.secret).encode()).digest()):
        with pytest.raises(Conflict) as caught:
            await take_on(world, sha256=digest.hex())
        assert caught.value.code == "digest_in_use"
        assert "_" not in caught.value.detail
    assert await world.log() == before


async def test_a_retired_digest_never_comes_back(world: World) -> None:
    deleted, rotated = await take_on(world), (await world.keys.create(world.admin, {"name": "CI"})).resource
    await world.keys.delete(world.admin, deleted.id)
    await world.keys.rotate(world.admin, rotated.id, {"grace": "0"})
    for digest in (DIGEST, hashlib.sha256(str(rotated.secret).encode()).digest()):
        with pytest.raises(Conflict) as caught:
            await take_on(world, sha256=digest.hex())
        assert caught.value.code == "digest_retired"


async def test_every_bad_field_of_an_import_is_named_at_once(world: World) -> None:
    with pytest.raises(Invalid) as caught:
        await take_on(world, name=" ", sha256="00", entropy_bits=127, tail="seven77", prefix="ä", secret="oops")
    assert [fault.field for fault in caught.value.fields] == [
        "name", "sha256", "entropy_bits", "tail", "prefix", "secret",
    ]  # fmt: skip
    assert "oops" not in repr(caught.value.fields)
    with pytest.raises(Invalid, match="entropy_bits: is required"):
        await world.keys.import_key(world.admin, {"name": "Legacy", "sha256": DIGEST.hex()})


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 42, "A" * 45, "A" * 43 + "==", "é" * 64])
async def test_what_is_no_digest_is_refused(world: World, text: str) -> None:
    with pytest.raises(Invalid, match="sha256: must be"):
        await take_on(world, sha256=text)


async def test_an_import_gives_no_more_than_its_caller_holds(world: World) -> None:
    limited = await world.limited("docs:read", "gateway:keys")
    body = {"name": "Legacy", "sha256": DIGEST.hex(), "entropy_bits": 256}
    for permissions in (None, ["docs:*"]):
        with pytest.raises(NotAllowed) as caught:
            await world.keys.import_key(limited, {**body, "permissions": permissions})
        assert caught.value.code == "permission_escalation"
    await world.keys.import_key(limited, {**body, "permissions": ["docs:read"]})
