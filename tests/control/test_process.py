"""The control process, under a supervisor that speaks bytes: store first, then ready, and one line when it cannot."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gateway.recording.spool_directory import SpoolDirectory
from gateway.services.organizations import OrganizationService
from gateway.settings.model import AuditSettings, AuthSettings, RouteSettings, Settings, StoreSettings
from gateway.store.engine import create_engine
from gateway.store.migrate import migrate
from gateway.store.sqlite_reader import SqliteReader
from tests.recording.spool_writer import Worker, entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Control:
    """A running control process, and what it reports."""

    def __init__(self, settings: Settings) -> None:
        self._socket, theirs = socket.socketpair()
        self._reports = self._socket.makefile("rb")
        with theirs, socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            fds = (theirs.fileno(), listening.fileno())
            argv = [sys.executable, "-P", "-m", "gateway.control.process", str(fds[0])]
            self.process = subprocess.Popen(argv, pass_fds=fds)
            self.send(
                command="start", settings=settings.model_dump(mode="json"), slot=0, listen_fds=[fds[1]], node="n1"
            )

    def send(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def report(self) -> dict[str, Any]:
        """The next report; empty at the end of the process."""
        line = self._reports.readline()
        parsed: dict[str, Any] = json.loads(line) if line else {}
        return parsed

    def end(self) -> None:
        """Let go of the channel, as a supervisor that died would, and see it exit."""
        self._reports.close()
        self._socket.close()
        self.process.wait()


@pytest.fixture
def control() -> Iterator[Callable[..., Control]]:
    started: list[Control] = []

    def start(url: str, **settings: Any) -> Control:  # noqa: ANN401 - sections of the settings
        started.append(Control(Settings(store=StoreSettings(url=url), **settings)))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_the_store_is_ready_before_anything_else_and_a_first_start_is_told(
    control: Callable[..., Control], tmp_path: Path
) -> None:
    process = control(f"sqlite:///{tmp_path}/d/gateway.db")
    assert process.report() == {"event": "store_ready"}
    reader = SqliteReader(tmp_path / "d" / "gateway.db")  # migrated: a worker may open it now
    reader.close()
    assert process.report() == {"event": "ready", "first_start": True}


def test_readiness_follows_what_the_supervisor_says(
    control: Callable[..., Control], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    process = control(f"sqlite:///{tmp_path}/gateway.db")
    process.report()
    process.report()
    assert requests.get(f"{process.url}/healthz", timeout=30).status_code == 200
    assert requests.get(f"{process.url}/readyz", timeout=30).status_code == 503
    process.send(command="workers", ready=1, of=1, draining=False)
    eventually(lambda: requests.get(f"{process.url}/readyz", timeout=30).status_code == 200)
    (tmp_path / "gateway.db").rename(tmp_path / "moved.db")
    reasons = requests.get(f"{process.url}/readyz", timeout=30).json()["reasons"]
    assert [reason["code"] for reason in reasons] == ["key_store_unavailable"]


def test_a_drain_ends_it_with_status_0(control: Callable[..., Control], tmp_path: Path) -> None:
    process = control(f"sqlite:///{tmp_path}/gateway.db")
    process.report()
    process.report()
    process.send(command="drain")
    assert process.process.wait() == 0


def test_a_store_that_cannot_be_opened_is_reported_as_one_sentence(
    control: Callable[..., Control], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    process = control(f"sqlite:///{tmp_path}/file/gateway.db")
    report = process.report()
    assert report["event"] == "failed"
    assert report["reason"].startswith(f"The key store {tmp_path}/file/gateway.db cannot be opened")
    assert process.process.wait() == 1
    assert capfd.readouterr().err == ""  # the supervisor says it, once


def test_without_the_compiled_parser_of_http_it_serves_nobody(
    control: Callable[..., Control], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    process = control(f"sqlite:///{tmp_path}/d/gateway.db")
    assert process.report() == {"event": "store_ready"}
    report = process.report()
    assert report["event"] == "failed"
    assert report["reason"].startswith("aiohttp runs without its C extension")
    assert process.process.wait() == 1


async def test_the_admin_api_is_served_on_the_store_by_the_settings(
    control: Callable[..., Control], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    migrate(url)
    engine = create_engine(url)
    made = await OrganizationService(engine, key_prefix="sk_test_").initialise("Acme", "ada@example.com")
    await engine.dispose()
    auth = AuthSettings(key_prefix="sk_test_", realm="here", error_detail="generic", bare_authorization=True)
    route = RouteSettings(name="r", upstream="u", permissions=("orders:read",))
    process = control(url, auth=auth, routes=(route,))
    process.report()
    process.report()
    process.send(command="workers", ready=0, of=0, draining=False, following=[])
    headers = {"X-API-KEY": made.key.secret or ""}

    def call(method: str, path: str, **body: object) -> requests.Response:
        return requests.request(method, f"{process.url}/v1{path}", headers=headers, json=body, timeout=30)

    assert call("GET", "/me").json()["organization"]["name"] == "Acme"
    headers["Authorization"] = headers.pop("X-API-KEY")  # without a scheme
    assert call("GET", "/me").status_code == 200
    headers["X-API-KEY"] = headers.pop("Authorization")
    assert "orders:read" in [each["permission"] for each in call("GET", "/permissions").json()["items"]]
    created = call("POST", "/keys", name="New").json()
    assert created["secret"].startswith("sk_test_")
    assert created["propagation"]["of"] == 0  # the supervisor has told of no worker
    headers["X-API-KEY"] = created["secret"]
    call("POST", f"/keys/{created['id']}/disable")
    refused = call("GET", "/me")
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")
    assert 'realm="here"' in refused.headers["WWW-Authenticate"]


async def test_what_workers_wrote_is_recorded_shown_and_taken_up_to_the_last_at_the_end(
    control: Callable[..., Control], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    migrate(url)
    engine = create_engine(url)
    made = await OrganizationService(engine).initialise("Acme", "ada@example.com")
    await engine.dispose()
    spool = SpoolDirectory(tmp_path / "spool")
    spool.open()
    worker = Worker(spool)
    process = control(url)
    process.report()
    process.report()
    process.send(command="workers", ready=1, of=1, draining=False, following=[])
    headers = {"X-API-KEY": made.key.secret or ""}
    whose = {"key_id": made.key.id, "organization_id": made.organization.id, "owner_id": made.key.owner.id}

    def get(path: str) -> requests.Response:
        return requests.get(f"{process.url}{path}", headers=headers, timeout=30)

    def recorded() -> list[str]:
        return [each["request_id"] for each in get("/v1/audit?kind=request").json()["items"]]

    assert recorded() == []
    worker.write(entry(1, **whose))
    eventually(lambda: recorded() == ["r1"])
    eventually(lambda: "gateway_audit_entries_total 1.0" in get("/metrics").text)
    status = get("/v1/status").json()["recording"]
    assert (status["active"], status["entries"], status["store_reachable"]) == (True, 1, True)
    assert status["spool_limit_bytes"] == 1 << 30
    key = get(f"/v1/keys/{made.key.id}").json()
    assert key["last_used"]["address"] == "192.0.2.7"
    worker.write(entry(2, **whose))
    worker.drain()
    process.send(command="drain")
    assert process.process.wait() == 0
    assert spool.segments() == []


def test_what_is_older_than_requests_are_kept_goes_also_where_none_are_recorded(
    control: Callable[..., Control], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    old = tmp_path / "audit" / "2020-01-01.db"
    old.parent.mkdir()
    old.touch()
    process = control(f"sqlite:///{tmp_path}/gateway.db", audit=AuditSettings(record="changes"))
    process.report()
    process.report()
    eventually(lambda: not old.exists())
    assert not (tmp_path / "spool").exists()
    process.send(command="drain")
    assert process.process.wait() == 0


def test_what_was_left_to_be_recorded_is_also_where_nothing_is_any_more(
    control: Callable[..., Control], tmp_path: Path, eventually: Callable[[Callable[[], object]], None]
) -> None:
    spool = SpoolDirectory(tmp_path / "spool")
    spool.open()
    worker = Worker(spool)
    worker.write(entry(1))
    worker.die()
    process = control(f"sqlite:///{tmp_path}/gateway.db", audit=AuditSettings(record="none"))
    process.report()
    process.report()
    eventually(lambda: not spool.segments())


def test_nothing_is_made_where_requests_are_not_recorded(control: Callable[..., Control], tmp_path: Path) -> None:
    process = control(f"sqlite:///{tmp_path}/gateway.db", audit=AuditSettings(record="changes"))
    process.report()
    process.report()
    assert "\ngateway_audit_entries_total " not in requests.get(f"{process.url}/metrics", timeout=30).text
    assert {each.name for each in tmp_path.iterdir()} <= {"gateway.db", "gateway.db-wal", "gateway.db-shm"}
