"""`gateway run` as a user meets it: first start, first key, changes that are seen at once, and a clean end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Command, Running

    Start = Callable[..., Running]
    Eventually = Callable[[Callable[[], object]], None]


class _Echo(BaseHTTPRequestHandler):
    """Answers every GET with the request's fields."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _status(url: str, secret: str = "") -> int:
    return requests.get(url, headers={"X-API-KEY": secret} if secret else {}, timeout=30).status_code


def _processes_of(run: Running) -> set[int]:
    children = f"/proc/{run.process.pid}/task/{run.process.pid}/children"
    with open(children, encoding="ascii") as listed:  # noqa: PTH123 - a pseudo file
        return {int(pid) for pid in listed.read().split()}


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123 - a pseudo file
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_upstream_alone_is_enough_and_the_first_start_says_how_to_get_a_key(
    start: Start, command: Command, upstream: str
) -> None:
    run = start("--upstream", upstream)
    hint = run.logged("there is no key yet")["message"]
    assert hint.endswith("gateway init --org NAME --admin EMAIL")
    assert (command.directory / "data" / "gateway.db").exists()
    assert _status(f"{run.proxy}/hello") == 401

    secret = command.json("init", "--org", "Acme", "--admin", "a@example.com")["key"]["secret"]
    answer = requests.get(f"{run.proxy}/hello", headers={"X-API-KEY": secret}, timeout=30)
    assert answer.status_code == 200
    assert secret not in answer.text
    bearer = {"Authorization": f"Bearer {secret}"}
    assert requests.get(f"{run.proxy}/hello", headers=bearer, timeout=30).status_code == 200
    assert run.stop() == 0


def test_a_second_start_finds_the_key_and_does_not_ask_for_one(start: Start, command: Command, upstream: str) -> None:
    secret = command.json("init", "--org", "Acme", "--admin", "a@example.com")["key"]["secret"]
    for _ in range(2):
        run = start("--upstream", upstream)
        assert _status(run.proxy, secret) == 200
        assert run.stop() == 0
        assert not [record for record in run.records() if "no key yet" in record["message"]]


def test_the_command_line_s_changes_reach_a_running_worker(
    start: Start, command: Command, upstream: str, eventually: Eventually
) -> None:
    admin = command.json("init", "--org", "Acme", "--admin", "a@example.com")["key"]
    run = start("--upstream", upstream)
    command.environ |= {"GATEWAY_ADMIN_URL": run.control, "GATEWAY_API_KEY": admin["secret"]}
    made = command.json("keys", "create", "CI")
    assert _status(run.proxy, made["secret"]) == 200
    command.json("keys", "disable", made["id"])
    eventually(lambda: _status(run.proxy, made["secret"]) == 401)
    command.json("keys", "enable", made["id"])
    eventually(lambda: _status(run.proxy, made["secret"]) == 200)
    command.json("keys", "revoke", made["id"], "--yes")
    eventually(lambda: _status(run.proxy, made["secret"]) == 401)
    command.json("keys", "delete", made["id"], "--yes")
    assert _status(run.proxy, made["secret"]) == 401
    assert _status(run.proxy, admin["secret"]) == 200


def test_health_is_answered_on_the_control_listener_alone(start: Start, upstream: str) -> None:
    run = start("--upstream", upstream)
    assert requests.get(f"{run.control}/healthz", timeout=30).json() == {"status": "ok"}
    ready = requests.get(f"{run.control}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["workers"]) == (200, {"ready": 1, "of": 1})
    assert _status(f"{run.proxy}/healthz") == 401


def test_a_killed_worker_and_a_killed_control_process_are_replaced(
    start: Start, upstream: str, eventually: Eventually
) -> None:
    run = start("--upstream", upstream)
    before = _processes_of(run)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert _status(run.proxy) == 401  # waits in the backlog until the next worker accepts it
    assert requests.get(f"{run.control}/healthz", timeout=30).status_code == 200
    eventually(lambda: requests.get(f"{run.control}/readyz", timeout=30).status_code == 200)
    assert not before & _processes_of(run)


def test_the_gateway_serves_on_while_the_control_process_is_gone(start: Start, command: Command, upstream: str) -> None:
    secret = command.json("init", "--org", "Acme", "--admin", "a@example.com")["key"]["secret"]
    run = start("--upstream", upstream)
    control = _control_of(run)
    os.kill(control, signal.SIGSTOP)  # there, and of no use
    try:
        assert _status(run.proxy, secret) == 200
    finally:
        os.kill(control, signal.SIGCONT)


def _control_of(run: Running) -> int:
    for pid in _processes_of(run):
        with open(f"/proc/{pid}/cmdline", "rb") as words:  # noqa: PTH123 - a pseudo file
            if b"gateway.control.process" in words.read():
                return pid
    raise AssertionError("no control process")


def test_no_child_outlives_a_supervisor_that_was_killed(start: Start, upstream: str, eventually: Eventually) -> None:
    run = start("--upstream", upstream)
    children = _processes_of(run)
    assert len(children) == 2
    assert run.stop(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(_alive(pid) for pid in children))


def test_several_workers_share_the_port(start: Start, upstream: str) -> None:
    run = start("--upstream", upstream, environ={"GATEWAY__SERVER__WORKERS": "2"})
    assert requests.get(f"{run.control}/readyz", timeout=30).json()["workers"] == {"ready": 2, "of": 2}
    assert {_status(run.proxy) for _ in range(10)} == {401}
    assert run.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_frees_the_port(start: Start, upstream: str, number: signal.Signals) -> None:
    run = start("--upstream", upstream)
    children = _processes_of(run)
    assert run.stop(number) == 0
    assert not any(_alive(pid) for pid in children)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = run.proxy.removeprefix("http://").split(":")
        again.bind((host, int(port)))


def test_a_request_in_flight_is_answered_before_the_end(start: Start, command: Command) -> None:
    secret = command.json("init", "--org", "Acme", "--admin", "a@example.com")["key"]["secret"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run = start("--upstream", f"http://127.0.0.1:{listening.getsockname()[1]}")
        host, port = run.proxy.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nX-API-KEY: {secret}\r\n\r\n".encode())
            upstream, _ = listening.accept()
            with upstream:
                assert upstream.recv(65_536).startswith(b"GET / HTTP/1.1\r\n")
                run.process.send_signal(signal.SIGTERM)
                run.logged("stopping")
                upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                answer = b""
                while part := client.recv(65_536):
                    answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\ndone")
        assert run.process.wait() == 0


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_port_in_use_is_one_clear_line_and_status_1(command: Command, taken_port: str) -> None:
    done = command.run("run", "--upstream", "http://127.0.0.1:9", "--listen", taken_port)
    assert done.returncode == 1
    expected = "the port is in use by another process; stop that one, or choose another port."
    cure = "Another one is set with --listen, GATEWAY__SERVER__LISTEN or server.listen in the configuration file."
    assert done.stderr == f"gateway: server.listen = {taken_port}: {expected} {cure}\n"
    assert not (command.directory / "data").exists()  # nothing was started


def test_an_unwritable_data_directory_is_one_clear_line_and_status_1(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command.run(
        *("run", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0"),
        GATEWAY__STORE__URL=f"sqlite:///{tmp_path}/file/gateway.db",
        GATEWAY__CONTROL__LISTEN="127.0.0.1:0",
        GATEWAY__LOG__LEVEL="error",
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"gateway: The key store {tmp_path}/file/gateway.db cannot be opened for writing")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_no_store_is_one_clear_line_and_stays_as_it_was(command: Command, tmp_path: Path) -> None:
    precious = b"these are somebody's notes, " * 100
    (tmp_path / "notes.db").write_bytes(precious)
    done = command.run(
        *("run", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0"),
        GATEWAY__STORE__URL="sqlite:///notes.db",
        GATEWAY__CONTROL__LISTEN="127.0.0.1:0",
        GATEWAY__LOG__LEVEL="error",
    )
    assert done.returncode == 1
    assert "damaged or no SQLite database" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "notes.db").read_bytes() == precious


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "ftp://127.0.0.1", "http://", "http://user:pw@host", "http://h/p"])
def test_a_wrong_upstream_url_is_one_clear_line_and_status_78(command: Command, url: str) -> None:
    done = command.run("run", "--upstream", url)
    assert done.returncode == 78
    assert done.stderr.startswith("gateway: --upstream: ")
    assert len(done.stderr.splitlines()) == 1


def test_every_mistake_of_a_configuration_is_named_at_once(command: Command) -> None:
    (command.directory / "bad.toml").write_text('[server]\nworkers = 0\nlisen = "x"\n[cache]\nmax_entries = "many"\n')
    for command_name in ("run", "check"):
        done = command.run(command_name, "--config", "bad.toml")
        assert done.returncode == 78
        assert "Traceback" not in done.stderr
        for mistake in ("server.workers", "server.lisen", "cache.max_entries", "upstreams"):
            assert mistake in done.stderr


def test_a_missing_configuration_file_is_status_78(command: Command) -> None:
    done = command.run("run", "--config", "nowhere.toml")
    assert done.returncode == 78
    assert "nowhere.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_directory_that_it_is_started_in_cannot_replace_its_code(start: Start, command: Command) -> None:
    """Somebody's own `gateway/` or `json.py` beside the data is not imported."""
    (command.directory / "gateway").mkdir()
    (command.directory / "gateway" / "__init__.py").write_text("raise SystemExit('wrong gateway')")
    (command.directory / "json.py").write_text("raise SystemExit('wrong json')")
    assert start("--upstream", "http://127.0.0.1:9").stop() == 0
