"""A key is good, bad, or cannot be judged: an entry, a 401, or a 503, and never one for another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cache.key_cache import KeyCache
from gateway.policies.challenges import Challenges
from gateway.policies.identity import identity_fields
from gateway.policies.key_auth import KeyAuth
from gateway.policies.refusal import Refusal
from tests.policies.subject import Rules, Subject
from tests.proxy.harness import OTHER_SECRET, SECRET, KeyStore
from tests.proxy.virtual_loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable

WALL = 2e9


class Judge:
    """The policy over a store of the test's own."""

    def __init__(self, *, generic: bool = False) -> None:
        self.loop = VirtualLoop(lambda *_: None)
        self.store = KeyStore(self.loop)
        self.cache = KeyCache(
            self.store,
            positive_ttl_seconds=60,
            negative_ttl_seconds=5,
            max_entries=10,
            max_absent_entries=10,
            max_stale_seconds=0,
            identity=identity_fields,
            clock=self.loop.time,
            wall_clock=lambda: WALL + self.loop.time() - 1000.0,
        )
        self.cache.proven(self.loop.time())
        self.policy = KeyAuth(self.cache, Challenges("gateway", generic=generic), "sk_")

    def check(self, secret: bytes | None, *, optional: bool = False) -> tuple[Subject, str | None]:
        """Judge a secret; returns what was found, and the code of a refusal. Lookups that wait are answered."""
        subject = Subject(route=Rules(optional=optional), now=self.loop.time())
        subject.secret = secret
        with self.loop.inside():
            outcome = self.policy.check(subject)
            task = None if outcome is None or isinstance(outcome, Refusal) else self.loop.create_task(_wait(outcome))
        if task is not None:
            self.loop.settle()
            self.store.answer()
            self.loop.settle()
            outcome = task.result()
        assert outcome is None or isinstance(outcome, Refusal)
        assert (subject.entry is not None) is (outcome is None and secret is not None)
        return subject, outcome.code if outcome else None


async def _wait(outcome: Awaitable[Refusal | None]) -> Refusal | None:
    return await outcome


@pytest.fixture(params=[False, True], ids=["at once", "waiting"])
def judge(request: pytest.FixtureRequest) -> Judge:
    """A judge whose store answers at once, and one whose store makes it wait."""
    made = Judge()
    made.store.waits = request.param
    return made


CASES: dict[str, tuple[dict[str, Any] | None, str | None]] = {
    "active": ({}, None),
    "active for a while": ({"expires_at": WALL + 1}, None),
    "unknown": (None, "invalid_api_key"),
    "expired": ({"expires_at": WALL}, "expired_api_key"),
    "rotated out": ({"secret_valid_until": WALL}, "expired_api_key"),
    "rotated and in its grace": ({"secret_valid_until": WALL + 1}, None),
    "disabled": ({"disabled_at": 1.0}, "disabled_api_key"),
    "revoked": ({"revoked_at": 1.0}, "revoked_api_key"),
    "revoked and disabled": ({"revoked_at": 1.0, "disabled_at": 1.0}, "revoked_api_key"),
    "expired and disabled": ({"expires_at": WALL, "disabled_at": 1.0}, "expired_api_key"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_outcome_is_the_same_from_the_store_and_from_memory(judge: Judge, name: str) -> None:
    fields, code = CASES[name]
    if fields is not None:
        judge.store.put(SECRET, **fields)
    assert judge.check(SECRET)[1] == code
    assert judge.check(SECRET)[1] == code
    assert judge.store.reads == 1


@pytest.mark.parametrize("name", ["expired", "rotated out", "disabled", "revoked", "unknown"])
def test_generic_errors_tell_all_apart_from_none(name: str) -> None:
    judge = Judge(generic=True)
    fields, _ = CASES[name]
    if fields is not None:
        judge.store.put(SECRET, **fields)
    assert judge.check(SECRET)[1] == "invalid_api_key"


def test_a_key_expires_while_it_is_held() -> None:
    judge = Judge()
    judge.store.put(SECRET, expires_at=WALL + 10)
    assert judge.check(SECRET)[1] is None
    judge.loop.advance(9.5)
    assert judge.check(SECRET)[1] is None
    judge.loop.advance(0.5)
    assert judge.check(SECRET)[1] == "expired_api_key"
    assert judge.store.reads == 1


def test_no_key_is_refused_unless_it_is_optional(judge: Judge) -> None:
    assert judge.check(None)[1] == "missing_api_key"
    assert judge.check(None, optional=True)[1] is None
    assert judge.store.reads == 0


def test_a_bad_key_is_refused_though_it_is_optional(judge: Judge) -> None:
    assert judge.check(OTHER_SECRET, optional=True)[1] == "invalid_api_key"


@pytest.mark.parametrize("secret", [SECRET[:-1] + b"x", b"a" * 513])
def test_what_cannot_be_a_key_costs_no_lookup(judge: Judge, secret: bytes) -> None:
    assert judge.check(secret)[1] == "invalid_api_key"
    assert judge.store.reads == 0


def test_a_key_of_another_system_is_looked_up(judge: Judge) -> None:
    judge.store.put(b"imported-1")
    subject, code = judge.check(b"imported-1")
    assert code is None
    assert subject.entry is not None
    assert judge.check(b"a" * 512)[1] == "invalid_api_key"


def test_an_outage_is_a_failure_of_ours(judge: Judge) -> None:
    judge.store.put(SECRET)
    judge.store.down = True
    for secret in (SECRET, OTHER_SECRET, b"foreign"):
        assert judge.check(secret)[1] == "key_store_unavailable"


def test_a_held_key_is_good_through_an_outage_until_the_proof_runs_out(judge: Judge) -> None:
    judge.store.put(SECRET)
    assert judge.check(SECRET)[1] is None
    judge.store.down = True
    judge.loop.advance(59)
    assert judge.check(SECRET)[1] is None
    judge.loop.advance(1)
    assert judge.check(SECRET)[1] == "key_store_unavailable"


def test_a_hit_creates_no_task() -> None:
    judge = Judge()
    judge.store.put(SECRET)
    judge.check(SECRET)
    before = len(judge.loop.tasks)
    judge.check(SECRET)
    assert len(judge.loop.tasks) == before
    assert not asyncio.iscoroutine(judge.policy.check(Subject(now=1000.0)))
