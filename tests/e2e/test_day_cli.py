"""The scripted day, by the command line.

The commands run inside the test's process, by the entry point that users call, argument for argument: there are more
than a hundred of them, and starting Python for each would take most of the day.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli.main import main
from tests.e2e.day import ROUTES, Day, Refused, Told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.day import How
    from tests.e2e.recording_upstream import RecordingUpstream
    from tests.e2e.site import Site

    Json = dict[str, Any]

HOW: dict[object, How] = {1: "failed", 2: "failed", 3: "not found", 4: "not allowed"}


class ByCommand:
    """Hands that type commands. What is printed is recorded, as JSON and once more as people see it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: Path, told: list[Told]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._key = key
        self._told = told

    def _run(self, *arguments: str, gives: bool = False) -> tuple[object, str]:
        command = ["gateway", *arguments, "--api-key-file", str(self._key)]
        self._monkeypatch.setattr(sys, "argv", command)
        self._monkeypatch.setattr(sys, "stdin", io.StringIO())
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        status = ended.value.code or 0
        given = gives and status == 0
        self._told.append(Told(" ".join(command), printed.out.encode(), given))
        self._told.append(Told(f"{' '.join(command)} (stderr)", printed.err.encode(), may_hold_a_secret=False))
        return status, printed.out

    def _json(self, *arguments: str, gives: bool = False) -> Json:
        status, out = self._run(*arguments, "--json", gives=gives)
        if status != 0:
            assert out == ""
            raise Refused(HOW[status])
        printed: Json = json.loads(out)
        return printed

    def me(self) -> Json:
        return self._json("whoami")

    def create_key(self, name: str, **wishes: str) -> Json:
        options = [word for option, value in wishes.items() for word in (f"--{option}", value)]
        return self._json("keys", "create", name, *options, gives=True)

    def show_key(self, key_id: str) -> Json:
        shown = self._json("keys", "show", key_id)
        assert self._run("keys", "show", key_id)[0] == 0
        return shown

    def find_keys(self, search: str) -> list[Json]:
        found: list[Json] = self._json("keys", "list", "--search", search)["items"]
        _, table = self._run("keys", "list", "--search", search)
        assert [line.split()[0] for line in table.splitlines()[1:]] == [key["id"] for key in found]
        return found

    def rename_key(self, key_id: str, name: str) -> Json:
        return self._json("keys", "update", key_id, "--name", name)

    def disable_key(self, key_id: str) -> Json:
        return self._json("keys", "disable", key_id)

    def enable_key(self, key_id: str) -> Json:
        return self._json("keys", "enable", key_id)

    def revoke_key(self, key_id: str, reason: str) -> Json:
        return self._json("keys", "revoke", key_id, "--reason", reason, "--yes")

    def rotate_key(self, key_id: str, grace: str) -> Json:
        return self._json("keys", "rotate", key_id, "--grace", grace, gives=True)

    def finish_rotation(self, key_id: str) -> Json:
        return self._json("keys", "finish-rotation", key_id)

    def delete_key(self, key_id: str) -> Json:
        return self._json("keys", "delete", key_id, "--yes")

    def add_member(self, email: str) -> Json:
        return self._json("members", "add", email, "--with-key", gives=True)

    def allow_member(self, member: Json, permissions: tuple[str, ...]) -> Json:
        options = [word for permission in permissions for word in ("--permission", permission)]
        return self._json("members", "update", member["email"], *options)

    def remove_member(self, member: Json, keys: str, move_to: Json | None) -> Json:
        options = [*(["--keys", keys] if keys else []), *(["--move-to", move_to["name"]] if move_to else [])]
        return self._json("members", "remove", member["email"], *options, "--yes")

    def create_service_account(self, name: str, permissions: tuple[str, ...]) -> Json:
        options = [word for permission in permissions for word in ("--permission", permission)]
        return self._json("service-accounts", "create", name, *options)

    def events(self, **wanted: str) -> list[Json]:
        options = [word for option, value in wanted.items() for word in (f"--{option}", value)]
        assert self._run("audit", "list", *options)[0] == 0
        items: list[Json] = self._json("audit", "list", "--limit", "1000", *options)["items"]
        return items


@pytest.mark.timeout(300)
def test_the_day_by_command_line(
    serve: Callable[..., Site],
    upstreams: Callable[..., RecordingUpstream],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream, told, pockets = upstreams(), list[Told](), tmp_path_factory.mktemp("pockets")
    site = serve(upstream.url, ROUTES, SERVER__WORKERS="2", LOG__LEVEL="debug")
    monkeypatch.setenv("GATEWAY_ADMIN_URL", site.running.control)
    monkeypatch.delenv("GATEWAY_API_KEY", raising=False)

    def hands(secret: str) -> ByCommand:
        """Everybody has their key in a file of their own."""
        key = pockets / secret[-6:]
        key.write_text(f"{secret}\n")
        return ByCommand(monkeypatch, capsys, key, told)

    day = Day(site, upstream, hands, told)
    day.live()
    day.search(tmp_path)
    assert site.running.stop() == 0
    day.search(tmp_path)
