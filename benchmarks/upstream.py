"""The API that stands behind every peer: nginx with a small answer, two files, and an echo for the probe."""

import json
import os
from pathlib import Path

from benchmarks.peers.peer import render
from benchmarks.processes import find_program

ANSWER = '{"id":"itm_000001","name":"benchmark","price":1299,"tags":["a","b"],"n":12}'

FILES = {"10k": 10 * 1024, "1m": 1024 * 1024}

# What the upstream reports of a request, so that a probe can see what a peer passed on: the name nginx has for it.
ECHOED = {
    "x-api-key": "$http_x_api_key",
    "authorization": "$http_authorization",
    "x-consumer-id": "$http_x_consumer_id",
    "x-consumer-username": "$http_x_consumer_username",
    "x-consumer-custom-id": "$http_x_consumer_custom_id",
    "x-credential-identifier": "$http_x_credential_identifier",
    "x-organization-id": "$http_x_organization_id",
    "x-anonymous-consumer": "$http_x_anonymous_consumer",
    "x-forwarded-for": "$http_x_forwarded_for",
    "x-forwarded-proto": "$http_x_forwarded_proto",
    "x-forwarded-host": "$http_x_forwarded_host",
    "x-request-id": "$http_x_request_id",
}


def upstream_command(directory: Path, port: int) -> list[str]:
    """Write the upstream's files and configuration, and return the command that runs it."""
    files = directory / "files"
    files.mkdir(exist_ok=True)
    for name, size in FILES.items():
        (files / name).write_bytes(os.urandom(size))
    echo = json.dumps(ECHOED, separators=(",", ":"))
    configuration = render(
        Path(__file__).with_name("upstream.conf"),
        DIRECTORY=str(directory),
        PORT=str(port),
        ANSWER=ANSWER,
        ECHO=echo,
        USER=nginx_user_line(),
    )
    path = directory / "upstream.conf"
    path.write_text(configuration)
    return [find_program("nginx") or "nginx", "-p", str(directory), "-c", str(path), "-e", "stderr"]


def nginx_user_line() -> str:
    """Keep nginx's workers able to read the temporary directory when the run is root's."""
    return "user root;" if os.geteuid() == 0 else ""
