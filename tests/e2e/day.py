"""A day in the life of an organization's keys, as a script that whoever has hands can play.

The commands and the client each play it against a running gateway (`test_day_cli`, `test_day_client`). Invariant: after
each step the proxy is asked, and it has to agree: at the very next request where the change said that every worker
follows it, else in the end. Whatever anybody was told meanwhile is kept, and searched for secrets at night.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import pytest

from gateway.keys import expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site

    Json = dict[str, Any]
    How = Literal["not found", "not allowed", "failed"]

PRESETS: Final = ("1h", "1d", "7d", "30d", "6mo", "1y", "2y", "4y", "never")
PERMISSIONS: Final = ("*:*", "gateway:read", "gateway:keys")
ROUTES: Final = ({"name": "orders", "path": "/orders", "permissions": ["orders:read"]}, {"name": "rest", "path": "/"})


class Refused(Exception):
    """An answer that is a no."""

    def __init__(self, how: How) -> None:
        super().__init__(how)
        self.how = how


@dataclass(frozen=True)
class Told:
    """Something that was answered, and whether a secret may be in it."""

    what: str
    text: bytes
    may_hold_a_secret: bool


class Hands(Protocol):
    """Who can do what the API offers, with one key. Answers are the API's objects; a no raises Refused."""

    def me(self) -> Json: ...
    def create_key(self, name: str, **wishes: str) -> Json: ...
    def show_key(self, key_id: str) -> Json: ...
    def find_keys(self, search: str) -> list[Json]: ...
    def rename_key(self, key_id: str, name: str) -> Json: ...
    def disable_key(self, key_id: str) -> Json: ...
    def enable_key(self, key_id: str) -> Json: ...
    def revoke_key(self, key_id: str, reason: str) -> Json: ...
    def rotate_key(self, key_id: str, grace: str) -> Json: ...
    def finish_rotation(self, key_id: str) -> Json: ...
    def delete_key(self, key_id: str) -> Json: ...
    def add_member(self, email: str) -> Json: ...
    def allow_member(self, member: Json, permissions: tuple[str, ...]) -> Json: ...
    def remove_member(self, member: Json, keys: str, move_to: Json | None) -> Json: ...
    def create_service_account(self, name: str, permissions: tuple[str, ...]) -> Json: ...
    def events(self, **wanted: str) -> list[Json]: ...


class Day:
    """The script. `hands` gives somebody with a key their hands; `told` is where these keep what they were told."""

    def __init__(
        self, site: Site, upstream: RecordingUpstream, hands: Callable[[str], Hands], told: list[Told]
    ) -> None:
        self._site = site
        self._upstream = upstream
        self._hands = hands
        self._told = told
        self._secrets = [site.secret]
        self._admin = hands(site.secret)

    def live(self) -> None:
        """From morning to night."""
        self._people_come()
        self._everybody_makes_keys_with_every_preset()
        self._nobody_touches_what_is_another_s()
        self._an_admin_revokes()
        self._a_key_is_disabled_and_enabled()
        self._a_key_is_rotated()
        self._a_key_is_found_and_deleted()
        self._permissions_of_an_owner_change()
        self._people_go()
        self._the_trail_tells_it_all()

    def _people_come(self) -> None:
        ada, bob = (self._admin.add_member(f"{name}@example.com") for name in ("ada", "bob"))
        robot = self._admin.create_service_account("Robot", PERMISSIONS)
        first = self._admin.create_key("Robot's first", owner=robot["id"])
        self._ada, self._bob, self._robot = ada, bob, robot
        secrets = [self._keep(made) for made in (ada["key"], bob["key"], first)]
        self._people = [(owner, self._hands(secret)) for owner, secret in zip((ada, bob, robot), secrets, strict=True)]
        for (owner, hands), secret in zip(self._people, secrets, strict=True):
            assert hands.me()["owner"]["id"] == owner["id"]
            self._lets_through(secret)

    def _everybody_makes_keys_with_every_preset(self) -> None:
        self._keys: dict[str, list[Json]] = {}
        for owner, hands in self._people:
            made = self._keys[owner["id"]] = [hands.create_key(f"for {each}", expires=each) for each in PRESETS]
            for preset, key in zip(PRESETS, made, strict=True):
                self._keep(key)
                ends = expiry.parse(preset, datetime.fromisoformat(key["created_at"]))
                assert (key["expires_at"] and datetime.fromisoformat(key["expires_at"])) == ends
                assert (key["owner"]["id"], key["status"]) == (owner["id"], "active")
                self._lets_through(key["secret"], after=key)

    def _nobody_touches_what_is_another_s(self) -> None:
        """To a member another's key does not exist; what only admins may do is refused."""
        key = self._keys[self._bob["id"]][0]
        for hands in (self._people[0][1], self._people[2][1]):  # Ada's and the robot's
            for attempt in _attempts(hands, key["id"]):
                with _refused("not found"):
                    attempt()
            assert hands.find_keys(key["tail"]) == []
            with _refused("not allowed"):
                hands.add_member("eve@example.com")
        with _refused("not allowed"):  # a member's secret is theirs alone
            self._admin.rotate_key(key["id"], "0")
        with _refused("not allowed"):
            self._admin.create_key("for Bob", owner=self._bob["id"])
        assert self._admin.show_key(key["id"])["version"] == key["version"]
        self._lets_through(key["secret"])

    def _an_admin_revokes(self) -> None:
        key = self._keys[self._bob["id"]].pop(0)
        revoked = self._admin.revoke_key(key["id"], "it leaked")
        self._turns_away(key["secret"], "revoked_api_key", after=revoked)
        assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "it leaked")
        with _refused("failed"):
            self._admin.enable_key(key["id"])

    def _a_key_is_disabled_and_enabled(self) -> None:
        key = self._keys[self._ada["id"]][0]
        hands = self._people[0][1]
        disabled = hands.disable_key(key["id"])
        self._turns_away(key["secret"], "disabled_api_key", after=disabled)
        enabled = hands.enable_key(key["id"])
        self._lets_through(key["secret"], after=enabled)
        assert (disabled["status"], enabled["status"]) == ("disabled", "active")

    def _a_key_is_rotated(self) -> None:
        """Old and new work, then the new alone."""
        key = self._keys[self._ada["id"]][1]
        hands = self._people[0][1]
        rotated = hands.rotate_key(key["id"], "1h")
        new = self._keep(rotated)
        self._lets_through(new, after=rotated)
        self._lets_through(key["secret"], after=rotated)
        assert rotated["previous_secret"]["tail"] == key["tail"] != rotated["tail"]
        with _refused("failed"):
            hands.rotate_key(key["id"], "1h")
        finished = hands.finish_rotation(key["id"])
        self._turns_away(key["secret"], None, after=finished)
        self._lets_through(new, after=finished)
        self._keys[self._ada["id"]][1] = rotated

    def _a_key_is_found_and_deleted(self) -> None:
        key = self._keys[self._robot["id"]].pop(0)
        hands = self._people[2][1]
        assert [found["id"] for found in hands.find_keys(key["tail"])] == [key["id"]]
        assert [found["id"] for found in hands.find_keys("For 1H")] == [key["id"]]
        deleted = hands.delete_key(key["id"])
        self._turns_away(key["secret"], "invalid_api_key", after=deleted)
        assert hands.find_keys(key["tail"]) == []
        with _refused("not found"):
            hands.show_key(key["id"])
        self._gone = key

    def _permissions_of_an_owner_change(self) -> None:
        """It counts at once for every key of theirs, those that inherit and the route's permission alike."""
        keys = self._keys[self._bob["id"]]
        self._lets_through(keys[0]["secret"], "/orders")
        limited = self._admin.allow_member(self._bob, ("invoices:read",))
        for key in keys:
            self._answers(key["secret"], 403, "insufficient_permissions", "/orders", after=limited)
        self._lets_through(keys[0]["secret"], "/elsewhere")
        restored = self._admin.allow_member(self._bob, PERMISSIONS)
        self._lets_through(keys[0]["secret"], "/orders", after=restored)

    def _people_go(self) -> None:
        """One leaves their keys to the robot, the other's end; one who is gone can do nothing any more."""
        with _refused("failed"):
            self._admin.remove_member(self._bob, "", None)
        moved = self._admin.remove_member(self._bob, "move", self._robot)
        for key in self._keys[self._bob["id"]]:
            self._lets_through(key["secret"], after=moved)
            assert self._admin.show_key(key["id"])["owner"]["id"] == self._robot["id"]
        removed = self._admin.remove_member(self._ada, "revoke", None)
        for key in self._keys[self._ada["id"]]:
            self._turns_away(key["secret"], "revoked_api_key", after=removed)
        with _refused("not allowed"):
            self._people[0][1].me()

    def _the_trail_tells_it_all(self) -> None:
        actions = {event["action"] for event in self._admin.events()}
        assert actions >= {
            *("member.create", "service_account.create", "key.create", "key.revoke", "key.disable", "key.enable"),
            *("key.rotate", "key.finish_rotation", "key.delete", "member.update"),
        }
        deleted, *_ = self._admin.events(key=self._gone["id"])
        assert deleted["action"] == "key.delete"
        assert (deleted["target"]["name"], deleted["actor"]["text"]) == (
            self._gone["name"],
            "API Key: Robot's first",
        )

    def _keep(self, issued: Json) -> str:
        """Remember a secret, for the search; returns it."""
        secret = issued["secret"]
        assert isinstance(secret, str)
        assert secret.endswith(issued["tail"])
        self._secrets.append(secret)
        return secret

    def _lets_through(self, secret: str, path: str = "/", *, after: Json | None = None) -> None:
        self._answers(secret, 200, None, path, after=after)

    def _turns_away(self, secret: str, code: str | None, *, after: Json) -> None:
        self._answers(secret, 401, code, "/", after=after)

    def _answers(self, secret: str, status: int, code: str | None, path: str, *, after: Json | None) -> None:
        """The proxy agrees: at once, where every worker follows the change already; else soon."""
        propagation = None if after is None else after["propagation"]
        at_once = propagation is None or propagation["applied"] == propagation["of"] > 0
        attempts = 1 if at_once else 100
        for left in reversed(range(attempts)):
            seen = len(self._upstream.requests)
            answer = self._site.get(path, secret)
            told = answer.json()["code"] if status >= 400 and answer.status == status else None
            if answer.status == status and (code is None or told == code):
                assert len(self._upstream.requests) - seen == (status == 200)
                return
            if not left:
                raise AssertionError(
                    f"{path}: {answer.status} {answer.body!r}, not {status} {code}, after {propagation}"
                )

    def search(self, directory: Path) -> None:
        """Byte by byte: no secret in any file of the gateway, log or store, nor in an answer that is not to give it."""
        assert len(self._secrets) == len(set(self._secrets)) >= 3 * len(PRESETS) + 5
        files = [path for path in directory.rglob("*") if path.is_file()]
        assert {"gateway.db", "gateway-0.log"} <= {path.name for path in files}
        places = {str(path): path.read_bytes() for path in files}
        places |= {
            f"{number}. {each.what}": each.text for number, each in enumerate(self._told) if not each.may_hold_a_secret
        }
        places |= {f"upstream {number}": each.raw for number, each in enumerate(self._upstream.requests)}
        giving = b"".join(each.text for each in self._told if each.may_hold_a_secret)
        for secret in self._secrets:
            assert secret == self._site.secret or giving.count(secret.encode()) == 1
            for place, text in places.items():
                for written in _writings(secret):
                    assert written not in text, place


def _writings(secret: str) -> tuple[bytes, ...]:
    """The secret, what identifies it without its tail, and its digest as logs and documents would write that."""
    digest = hashlib.sha256(secret.encode()).digest()
    escaped = repr(digest)[2:-1]
    texts = (secret, secret[:-6], digest.hex(), digest.hex().upper(), escaped, json.dumps(escaped)[1:-1])
    return (*(text.encode() for text in texts), base64.b64encode(digest), base64.urlsafe_b64encode(digest).rstrip(b"="))


def _attempts(hands: Hands, key_id: str) -> tuple[Callable[[], Json], ...]:
    """Everything that one may try with a key."""
    return (
        lambda: hands.show_key(key_id),
        lambda: hands.rename_key(key_id, "mine"),
        lambda: hands.disable_key(key_id),
        lambda: hands.enable_key(key_id),
        lambda: hands.revoke_key(key_id, "not mine"),
        lambda: hands.rotate_key(key_id, "0"),
        lambda: hands.finish_rotation(key_id),
        lambda: hands.delete_key(key_id),
    )


@contextmanager
def _refused(how: How) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.how == how
