"""A small world of organizations, people and keys: real services on a real store, and the model beside them.

Whoever calls is drawn from all secrets that were ever issued, and what they aim at from all things there ever were, of
all organizations; so many attempts must fail, each with its own code. After each step every secret is judged by the
proxy's own policies, over what one worker remembers that has followed the change log all the time. No answer and no
refusal ever names a thing of another organization.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from gateway.cache.key_cache import KeyCache
from gateway.changes.applier import Applier
from gateway.changes.log_follower import LogFollower
from gateway.errors import GatewayError, Unauthenticated
from gateway.keys import secret as secrets
from gateway.policies.identity import identity_fields
from gateway.policies.pipeline import Pipeline
from gateway.policies.refusal import Refusal
from gateway.services.audit import AuditService
from gateway.services.authentication import Authenticator
from gateway.services.changed import Changed
from gateway.services.keys import KeyService
from gateway.services.members import MemberService
from gateway.services.organizations import OrganizationService
from gateway.services.service_accounts import ServiceAccountService
from gateway.services.shapes import Shape
from gateway.store.engine import create_engine
from gateway.store.sqlite_reader import SqliteReader
from tests.policies.subject import Rules, Subject
from tests.services.model import Effect, Key, Model, Organization, Owner, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.services.actor import Caller

Thing = TypeVar("Thing")
Aim = TypeVar("Aim", Key, Owner, Organization)

_ID: Final = re.compile(r"\b(?:key|mem|sva|org)_[0-9a-z]{26}\b")
_SECRET: Final = re.compile(secrets.PATTERN)
_ALL_THE_TIME: Final = 1e12
PAGE: Final = "https://app.example.com"
PROBES: Final = ("docs:read", "docs:write", "other:read", "gateway:read", "gateway:keys", "gateway:members")


class Clock:
    """The time that services and model are told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Life(RuleBasedStateMachine):
    """A store of its own; who moves, and how, is the business of `moves`."""

    template: ClassVar[Path]  # an empty store, at the newest schema

    def __init__(self) -> None:
        super().__init__()
        self.until_the_end = contextlib.ExitStack()
        path = Path(self.until_the_end.enter_context(tempfile.TemporaryDirectory())) / "gateway.db"
        shutil.copy(self.template, path)
        self.runner = self.until_the_end.enter_context(asyncio.Runner())
        self.clock = Clock()
        engine = create_engine(f"sqlite:///{path}")
        self.until_the_end.callback(lambda: self.run(engine.dispose()))
        reader = self.until_the_end.enter_context(contextlib.closing(SqliteReader(path)))
        cache = KeyCache(
            reader,
            positive_ttl_seconds=_ALL_THE_TIME,  # so that nothing but a change ends what is remembered
            negative_ttl_seconds=_ALL_THE_TIME,
            max_entries=1000,
            max_absent_entries=1000,
            max_stale_seconds=_ALL_THE_TIME,
            identity=identity_fields,
            clock=self.seconds,
            wall_clock=self.seconds,
        )
        self.follower = LogFollower(
            reader, Applier(cache), interval_seconds=0.0, clock=self.seconds, proven=cache.proven
        )
        self.pipeline = Pipeline(
            cache,
            key_prefix="sk_",
            realm="gateway",
            generic_errors=False,
            bare_authorization=False,
            tenant_header=None,
        )
        self.authenticator = Authenticator(engine, clock=self.clock)
        self.keys = KeyService(engine, clock=self.clock)
        self.members = MemberService(engine, clock=self.clock)
        self.service_accounts = ServiceAccountService(engine, clock=self.clock)
        self.organizations = OrganizationService(engine, clock=self.clock)
        self.audit = AuditService(engine, None, None)
        self.model = Model(self.clock.now)
        self.every_key: dict[str, Key] = {}  # those that were deleted as well
        self.issued: dict[str, Key] = {}  # by each secret there ever was
        self.bound: set[str] = set()  # the ids of keys for one page
        self.count = 0

    def teardown(self) -> None:
        self.until_the_end.close()

    def run(self, call: Awaitable[Thing]) -> Thing:
        async def awaited() -> Thing:
            return await call

        return self.runner.run(awaited())

    # Choosing, from what there is and what there was

    def caller(self, number: int) -> str:
        """A secret, mostly one that is still good, and often that of somebody who administers."""
        good = self.good_secrets() if number % 8 else []
        mighty = [secret for secret in good if self.issued[secret].reaches_all] if number % 8 < 5 else []
        return chosen(mighty or good or list(self.issued), number // 8)

    def good_secrets(self) -> list[str]:
        return [secret for secret in self.issued if self.model.standing(secret)[1] == "active"]

    def key(self, number: int, secret: str) -> Key:
        return self.aimed(list(self.every_key.values()), number, secret)

    def owner(self, number: int, secret: str) -> Owner:
        return self.aimed(list(self.model.owners.values()), number, secret)

    def heir(self, number: int, secret: str) -> Owner:
        """Mostly a service account."""
        accounts = [owner for owner in self.model.owners.values() if owner.role is None]
        return self.aimed(accounts, number // 4, secret) if number % 4 else self.owner(number // 4, secret)

    def organization(self, number: int, secret: str) -> Organization:
        return self.aimed(list(self.model.organizations.values()), number, secret)

    def aimed(self, things: list[Aim], number: int, secret: str) -> Aim:
        """Half of the time what the caller sees, else anything that there ever was."""
        by = self.issued[secret]
        seen = [thing for thing in things if self.model.sees(by, thing)] if number % 2 else []
        return chosen(seen or things, number // 2)

    # Attempting

    def attempt(
        self, secret: str, call: Callable[[Caller], Awaitable[object]], expect: Callable[[Key], Effect], *asked: str
    ) -> None:
        """Do it, and hold what comes of it against the model. `asked` are the ids that the caller names."""
        by, standing = self.model.standing(secret)
        caller = self.authenticated(secret, standing)
        if caller is None or by is None:
            return
        outcome, result = self.outcome(call(caller))
        expected, effect = "done", None
        try:
            effect = expect(by)
        except Refused as refused:
            expected = str(refused)
        assert outcome == expected
        if effect is None:
            self.is_closed(by, result, asked)
            return
        made = result.resource if isinstance(result, Changed) else result
        if not hasattr(made, "member"):  # founding an organization tells its founder of it, once
            self.is_closed(by, made, (), getattr(getattr(made, "key", made), "secret", None))
        effect(made)
        self.remember()

    def authenticated(self, secret: str, standing: str) -> Caller | None:
        found, caller = "active", None
        try:
            caller = self.run(self.authenticator.authenticate(secret, origin=PAGE))
        except Unauthenticated as error:
            found = error.code
        assert found == standing
        return caller

    def outcome(self, call: Awaitable[object]) -> tuple[str, Any]:  # Any: whatever the operation answers with
        try:
            return "done", self.run(call)
        except GatewayError as error:
            return error.code, error.detail

    def is_closed(self, by: Key, answer: object, asked: Iterable[str], secret: str | None = None) -> None:
        """Nothing of another organization is in it, but the operator's list of organizations; and no other secret."""
        text = answer.model_dump_json() if isinstance(answer, Shape) else str(answer)
        assert set(_SECRET.findall(text)) <= {secret}
        for found in set(_ID.findall(text)) - set(asked):
            if found in self.model.organizations:
                assert found == by.owner.home.id or by.owner.home.operator
            elif found in self.every_key:
                assert self.every_key[found].owner.home is by.owner.home
            elif found in self.model.owners:
                assert self.model.owners[found].home is by.owner.home

    def remember(self) -> None:
        for key in self.model.keys.values():
            self.every_key[key.id] = key
            self.issued |= dict.fromkeys(key.secrets, key)

    @invariant()
    def the_proxy_agrees(self) -> None:
        """One worker, which remembers what it can, lets every secret do what the model says, and no more."""
        self.follower.look()
        for secret in self.issued:
            key, standing = self.model.standing(secret)
            judged = self.judged(secret)
            if key is not None and key.disabled and standing == "expired_api_key" and judged == "disabled_api_key":
                continue  # it was remembered as disabled, and nothing but time has passed: refused all the same
            assert judged == standing
            bound = key is not None and key.id in self.bound and standing == "active"
            assert self.judged(secret, page=None) == ("origin_not_allowed" if bound else standing)
            for probe in PROBES if key is not None and standing == "active" else ():
                expected = "active" if key is not None and probe in key.holds else "insufficient_permissions"
                assert self.judged(secret, probe) == expected

    def judged(self, secret: str, *needed: str, page: str | None = PAGE) -> str:
        """What the policies of a route say: a code, or "active"."""
        fields = [] if page is None else [f"Origin: {page}".encode()]
        subject = Subject(secret.encode(), route=Rules(permissions=needed), now=self.seconds(), forwarded=fields)
        for policy in self.pipeline.for_route("required", needed):
            refusal = policy.check(subject)
            assert refusal is None or isinstance(refusal, Refusal)  # this store is never waited for
            if refusal is not None:
                return refusal.code
        assert subject.entry is not None
        return "active"

    def seconds(self) -> float:
        return self.clock.now.timestamp()


def chosen(things: list[Thing], number: int) -> Thing:
    return things[number % len(things)]
