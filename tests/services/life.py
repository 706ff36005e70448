"""A small world of organizations, people and keys: real services on a real store, and the model beside them.

Whoever calls is drawn from all secrets that were ever issued, and what they aim at from all things there ever were, of
all organizations; so many attempts must fail, each with its own code. After each step every secret is looked up as a
worker does. No answer and no refusal ever names a thing of another organization.
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

from gateway.errors import GatewayError, Unauthenticated
from gateway.keys import secret as secrets
from gateway.keys.permissions import allows
from gateway.keys.record import status
from gateway.services.authentication import Authenticator
from gateway.services.changed import Changed
from gateway.services.events import EventService
from gateway.services.keys import KeyService
from gateway.services.members import MemberService
from gateway.services.organizations import OrganizationService
from gateway.services.service_accounts import ServiceAccountService
from gateway.services.shapes import Shape
from gateway.store.engine import create_engine
from gateway.store.sqlite_reader import SqliteReader
from tests.services.model import Effect, Key, Model, Organization, Owner, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.services.actor import Caller

Thing = TypeVar("Thing")
Aim = TypeVar("Aim", Key, Owner, Organization)

_ID: Final = re.compile(r"\b(?:key|mem|sva|org)_[0-9a-z]{26}\b")
_SECRET: Final = re.compile(secrets.PATTERN)
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
        engine, self.clock = create_engine(f"sqlite:///{path}"), Clock()
        self.until_the_end.callback(lambda: self.run(engine.dispose()))
        self.reader = self.until_the_end.enter_context(contextlib.closing(SqliteReader(path)))
        self.authenticator = Authenticator(engine, clock=self.clock)
        self.keys = KeyService(engine, clock=self.clock)
        self.members = MemberService(engine, clock=self.clock)
        self.service_accounts = ServiceAccountService(engine, clock=self.clock)
        self.organizations = OrganizationService(engine, clock=self.clock)
        self.events = EventService(engine)
        self.model = Model(self.clock.now)
        self.every_key: dict[str, Key] = {}  # those that were deleted as well
        self.issued: dict[str, Key] = {}  # by each secret there ever was
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
            caller = self.run(self.authenticator.authenticate(secret))
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
        """A worker that looks a secret up finds it as good as the model says, and good for the same."""
        now = self.clock.now.timestamp()
        for secret in self.issued:
            key, standing = self.model.standing(secret)
            record = self.reader.read(secrets.digest(secret.encode()))
            if record is None or key is None:
                assert (record, standing) == (None, "invalid_api_key")
                continue
            moments = {name: getattr(record, name) for name in ("revoked_at", "expires_at", "disabled_at")}
            found = status(**moments, now=now)
            over = record.secret_valid_until is not None and record.secret_valid_until <= now
            assert standing == ("active" if found == "active" and not over else
                                f"{'expired' if found == 'active' else found}_api_key")  # fmt: skip
            for probe in PROBES if standing == "active" else ():
                own = record.permissions is None or allows(record.permissions, probe)
                assert (own and allows(record.owner_permissions, probe)) is (probe in key.holds)


def chosen(things: list[Thing], number: int) -> Thing:
    return things[number % len(things)]
