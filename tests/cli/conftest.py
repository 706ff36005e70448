"""The command line, run inside the test's process: the same entry point, argument for argument."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli.main import main
from tests.admin_api import AdminApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What was printed, where the command succeeded."""
        assert self.status == 0, self.err
        printed: dict[str, Any] = json.loads(self.out)
        return printed


class _Terminal(io.StringIO):
    """Somebody at a terminal who types this."""

    def isatty(self) -> bool:
        return True


class Gateway:
    """`gateway …` in an empty directory, without any settings of the shell that runs the tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, typing: str | None = None, piped: str = "") -> Outcome:
        """Run a command. `typing`: there is a terminal, and this is what is typed there; else `piped` is the input."""
        self._monkeypatch.setattr(sys, "argv", ["gateway", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(piped) if typing is None else _Terminal(typing))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        status = ended.value.code
        return Outcome(status if isinstance(status, int) else 0, printed.out, printed.err)

    def use(self, url: str, secret: str) -> None:
        """Call this admin API with this key from now on."""
        self._monkeypatch.setenv("GATEWAY_ADMIN_URL", url)
        self._monkeypatch.setenv("GATEWAY_API_KEY", secret)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Gateway:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY")]:
        monkeypatch.delenv(name)
    return Gateway(monkeypatch, capsys)


@pytest.fixture
def api(gateway: Gateway, tmp_path: Path) -> Iterator[AdminApi]:
    """A running admin API, which the command line calls as the admin of its organization."""
    with AdminApi(tmp_path) as running:
        gateway.use(running.url, running.secret)
        yield running


@pytest.fixture
def key(gateway: Gateway, api: AdminApi) -> dict[str, Any]:
    """A key beside the admin's."""
    return gateway("keys", "create", "CI", "--admin-url", api.url, "--json").json
