"""The scripted day, by the client library."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.client import (
    APIError,
    AuthenticationError,
    Client,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.e2e.day import ROUTES, Day, Refused, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gateway.client.shapes import Shape
    from tests.e2e.day import How
    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site

    Json = dict[str, Any]

HOW: dict[type[APIError], How] = {
    NotFoundError: "not found",
    PermissionDeniedError: "not allowed",
    AuthenticationError: "not allowed",
    ConflictError: "failed",
}


class ByClient:
    """Hands that call the client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def me(self) -> Json:
        return _told(self._client.me)

    def create_key(self, name: str, **wishes: str) -> Json:
        return _told(lambda: self._client.keys.create(name, **wishes))

    def show_key(self, key_id: str) -> Json:
        return _told(lambda: self._client.keys.get(key_id))

    def find_keys(self, search: str) -> list[Json]:
        found: list[Json] = _told(lambda: self._client.keys.page(search=search))["items"]
        return found

    def rename_key(self, key_id: str, name: str) -> Json:
        return _told(lambda: self._client.keys.update(key_id, name=name))

    def disable_key(self, key_id: str) -> Json:
        return _told(lambda: self._client.keys.disable(key_id))

    def enable_key(self, key_id: str) -> Json:
        return _told(lambda: self._client.keys.enable(key_id))

    def revoke_key(self, key_id: str, reason: str) -> Json:
        return _told(lambda: self._client.keys.revoke(key_id, reason=reason))

    def rotate_key(self, key_id: str, grace: str) -> Json:
        return _told(lambda: self._client.keys.rotate(key_id, grace=grace))  # type: ignore[arg-type]

    def finish_rotation(self, key_id: str) -> Json:
        return _told(lambda: self._client.keys.finish_rotation(key_id))

    def delete_key(self, key_id: str) -> Json:
        return _told(lambda: self._client.keys.delete(key_id))

    def add_member(self, email: str) -> Json:
        return _told(lambda: self._client.members.add(email, with_key=True))

    def allow_member(self, member: Json, permissions: tuple[str, ...]) -> Json:
        return _told(lambda: self._client.members.update(member["id"], permissions=permissions))

    def remove_member(self, member: Json, keys: str, move_to: Json | None) -> Json:
        wishes: Any = {"keys": keys or None, "move_to": move_to and move_to["id"]}
        return _told(lambda: self._client.members.remove(member["id"], **wishes))

    def create_service_account(self, name: str, permissions: tuple[str, ...]) -> Json:
        return _told(lambda: self._client.service_accounts.create(name, permissions=permissions))

    def events(self, **wanted: str) -> list[Json]:
        listed: Any = wanted
        return [event.model_dump(mode="json") for event in self._client.events.list(**listed, limit=20)]


def _told(call: Callable[[], Shape]) -> Json:
    """What the API answered, as it was sent."""
    try:
        return json.loads(json.dumps(call().raw))  # type: ignore[no-any-return]
    except APIError as error:
        raise Refused(HOW[type(error)]) from error


@contextmanager
def _hands(site: Site, told: list[Told]) -> Iterator[Callable[[str], ByClient]]:
    """Give hands whose answers are all recorded, head and body."""

    def record(response: httpx.Response) -> None:
        request = response.request
        gives = request.method == "POST" and request.url.path.endswith(("/keys", "/rotate", "/members"))
        fields = b"".join(b"%s: %s\r\n" % field for field in response.headers.raw)
        told.append(Told(f"{request.method} {request.url}", fields + response.read(), gives and response.is_success))

    with ExitStack() as opened:

        def hands(secret: str) -> ByClient:
            http = opened.enter_context(httpx.Client(event_hooks={"response": [record]}))
            return ByClient(Client(secret, base_url=site.running.control, http=http))

        yield hands


@pytest.mark.timeout(300)
def test_the_day_by_client(
    serve: Callable[..., Site], upstreams: Callable[..., RecordingUpstream], tmp_path: Path
) -> None:
    upstream, told = upstreams(), list[Told]()
    site = serve(upstream.url, ROUTES, SERVER__WORKERS="2", LOG__LEVEL="debug")
    with _hands(site, told) as hands:
        day = Day(site, upstream, hands, told)
        day.live()
        day.search(tmp_path)
        assert site.running.stop() == 0
        day.search(tmp_path)
