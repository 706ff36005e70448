"""docs/walkthrough.md: its commands run in one shell from top to bottom, against the real thing."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS: Final = Path(__file__).parents[2] / "docs"
TEXT: Final = (DOCS / "walkthrough.md").read_text()
EXEMPT: Final = "<!-- not tested here: "

_BLOCK: Final = re.compile(r"(?:^(<!-- .* -->)\n)?^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _free_ports(count: int) -> list[str]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(each.getsockname()[1]) for each in sockets]


def _script(ports: dict[str, str]) -> str:
    """The blocks in their order; at the end, whatever happened, nothing of them is left running."""
    blocks = [block for mark, block in _BLOCK.findall(TEXT) if not mark.startswith(EXEMPT)]
    assert len(blocks) == TEXT.count("```shell") - 1  # the installation needs the network
    script = "\n".join(blocks)
    for port, free in ports.items():
        assert f"127.0.0.1:{port}" in script or f" {port} " in script
        script = re.sub(rf"(?<=127\.0\.0\.1:){port}\b|(?<= ){port}(?= )", free, script)
    return f"trap 'kill $(jobs -p); wait' EXIT\n{script}"


def test_the_walk_can_be_walked(tmp_path: Path, system_program: Callable[[str], str]) -> None:
    system_program("curl")
    command = tmp_path / "bin" / "gateway"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m gateway "$@"\n')
    command.chmod(0o755)
    upstream, proxy, control = _free_ports(3)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")} | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "GATEWAY__SERVER__LISTEN": f"127.0.0.1:{proxy}",
        "GATEWAY__CONTROL__LISTEN": f"127.0.0.1:{control}",
        "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{control}",
    }
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", _script({"9000": upstream, "8080": proxy, "8081": control})],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("Hello from the API") == 5
    assert "you@example.com" in done.stdout
    assert "key.rotate" in done.stdout
    assert "leaked in a build log" in done.stdout


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT):
        assert (DOCS / target).exists(), target
