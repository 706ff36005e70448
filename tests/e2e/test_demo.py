"""`gateway demo`: what it prints works as pasted, and nothing is left of it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.e2e.conftest import GATEWAY, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Demo:
    """A running demo and what it printed."""

    def __init__(self, process: subprocess.Popen[str], temporary: Path) -> None:
        self.process = process
        self.temporary = temporary
        self.text = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.text += line
            if "Ctrl-C ends the demo" in line:
                return
        pytest.fail(f"the demo ended early:\n{self.text}")

    def lines(self, beginning: str) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip().startswith(beginning)]


@pytest.fixture
def demo(command: Command, tmp_path: Path) -> Iterator[Demo]:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [*GATEWAY, "demo"],
        cwd=command.directory,
        env=command.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield Demo(process, temporary)
        if process.poll() is None:
            process.terminate()


def test_the_curl_lines_work_as_pasted(demo: Demo, system_program: Callable[[str], str]) -> None:
    system_program("curl")
    with_key, with_bearer, without = [shlex.split(line) for line in demo.lines("curl ")]
    for pasted in (with_key, with_bearer):
        answer = subprocess.run([*pasted, "-sS"], capture_output=True, text=True, check=True).stdout
        seen = json.loads(answer)
        assert (seen["method"], seen["path"]) == ("GET", "/hello")
        assert unquote(seen["headers"]["X-Consumer-Username"]) == "admin@example.com"
        assert "sk_" not in answer  # the API behind the gateway never sees the key
    refused = subprocess.run([*without, "-sS"], capture_output=True, text=True, check=True).stdout
    assert refused.startswith("HTTP/1.1 401 ")
    assert json.loads(refused.rpartition("\n")[2])["code"] == "missing_api_key"


def test_the_printed_commands_list_the_demo_s_keys(demo: Demo, tmp_path: Path) -> None:
    (export,) = demo.lines("export GATEWAY_ADMIN_URL=")
    (line,) = [line for line in demo.text.splitlines() if line.endswith(" keys list")]
    script = f"{export}\n{line} --json"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [key["name"] for key in json.loads(done.stdout)["items"]] == ["Admin key"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_the_end(demo: Demo, number: signal.Signals) -> None:
    api = re.search(r"demo API at http://127\.0\.0\.1:(\d+)", demo.text)
    assert api is not None
    assert [*demo.temporary.iterdir()]
    demo.process.send_signal(number)
    assert demo.process.wait() == 0
    assert not [*demo.temporary.iterdir()]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", int(api[1]))):
        pass


def test_two_demos_run_beside_each_other(demo: Demo, command: Command) -> None:
    """Only one of them can have the usual ports; the other takes free ones, and says so."""
    with subprocess.Popen(
        [*GATEWAY, "demo"], env=command.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        other = Demo(process, demo.temporary)
        assert {*demo.lines("curl ")}.isdisjoint(other.lines("curl "))
        for usual in ("127.0.0.1:8080", "127.0.0.1:8081"):
            (line,) = other.lines(f"(Another process listens on {usual}")
            (taken,) = re.findall(r"this one took (\S+)\.\)", line)
            assert f"http://{taken}" in other.text
        process.terminate()
