"""What TLS in front costs: processor time per request and per handshake, and memory of an idle connection.

    python -m benchmarks.tls_cost

A gateway with one worker and without a key asked for, nginx behind it, wrk and sockets in front; the same with plain
HTTP and with TLS. What is read is the worker's own time and private memory, which other work on the machine disturbs
least. Certificates are made by `openssl`, of the curve P-256.
"""

import contextlib
import functools
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.crowds import Misserved

SECONDS = 8
IDLE = 400
HANDSHAKES = 400
_TICKS = os.sysconf("SC_CLK_TCK")
_UPSTREAM = """daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}; proxy_temp_path {0};
fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
server {{ listen 127.0.0.1:{1};
location / {{ return 200 '{{"id":"itm_000001","name":"benchmark","price":1299}}'; }} }} }}
"""


def main() -> None:
    """Measure both and print the table."""
    print("| | plain HTTP | TLS 1.3 |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with _upstream(directory) as port:
            rows = [_measured(directory, port, tls=tls) for tls in (False, True)]
    for label, form in (
        ("processor time per request, small GET, kept connections", "{:.1f} µs"),
        ("processor time per connection with one handshake and no request", "{:.0f} µs"),
        ("private memory per idle connection", "{:.1f} KiB"),
    ):
        print(f"| {label} | {' | '.join(form.format(row.pop(0)) for row in rows)} |")


def _measured(directory: Path, upstream: int, *, tls: bool) -> list[float]:
    environ = {
        "GATEWAY__SERVER__LISTEN": "127.0.0.1:0",
        "GATEWAY__CONTROL__LISTEN": "127.0.0.1:0",
        "GATEWAY__LOG__FORMAT": "json",
        "GATEWAY__AUDIT__RECORD": "changes",
        "GATEWAY__UPSTREAMS": json.dumps([{"name": "api", "targets": [f"http://127.0.0.1:{upstream}"]}]),
        "GATEWAY__ROUTES": json.dumps([{"name": "all", "upstream": "api", "auth": "none"}]),
    }
    if tls:
        files = directory / "cert.pem", directory / "key.pem"
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        made += ["-subj", "/CN=localhost", "-out", str(files[0]), "-keyout", str(files[1])]
        subprocess.run(made, check=True, capture_output=True)
        environ["GATEWAY__SERVER__TLS__CERTIFICATE_FILE"] = str(files[0])
        environ["GATEWAY__SERVER__TLS__PRIVATE_KEY_FILE"] = str(files[1])
    with _gateway(directory, environ) as (worker, url):
        return [_per_request(worker, url), _per_connection(worker, url, tls=tls), _idle_kibibytes(worker, url, tls=tls)]


def _per_request(worker: int, url: str) -> float:
    command = ["wrk", "-t1", "-c32", f"-d{SECONDS}s", url]
    subprocess.run([*command[:3], "-d2s", url], check=True, capture_output=True)
    before = _seconds(worker)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in", said)
    if found is None or "Non-2xx" in said:
        raise Misserved(said)
    return (_seconds(worker) - before) / int(found[1]) * 1e6


def _per_connection(worker: int, url: str, *, tls: bool) -> float:
    before = _seconds(worker)
    for _ in range(HANDSHAKES):
        _connect(url, tls=tls).close()
    time.sleep(1)
    return (_seconds(worker) - before) / HANDSHAKES * 1e6


def _idle_kibibytes(worker: int, url: str, *, tls: bool) -> float:
    """The first ones make room that is used again; each has had one request."""
    sizes = []
    connections: list[socket.socket] = []
    for _ in range(2):
        for _ in range(IDLE):
            connection = _connect(url, tls=tls)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise Misserved(repr(answer[:80]))
            connections.append(connection)
        time.sleep(1)
        sizes.append(_private_kibibytes(worker))
    for each in connections:
        each.close()
    return (sizes[1] - sizes[0]) / IDLE


def _connect(url: str, *, tls: bool) -> socket.socket:
    host, _, port = url.partition("://")[2].rpartition(":")
    plain = socket.create_connection((host, int(port)))
    if not tls:
        return plain
    return _client_context().wrap_socket(plain)


@functools.cache
def _client_context() -> ssl.SSLContext:
    """Made once, and without the system's authorities, which take longer to load than a handshake does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _private_kibibytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE))


@contextlib.contextmanager
def _upstream(directory: Path) -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    file = directory / "nginx.conf"
    file.write_text(_UPSTREAM.format(directory, port))
    with subprocess.Popen(["nginx", "-e", "stderr", "-c", str(file)]) as process:
        time.sleep(0.5)
        try:
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def _gateway(directory: Path, environ: dict[str, str]) -> Iterator[tuple[int, str]]:
    """The worker's process and the address."""
    command = [sys.executable, "-P", "-m", "gateway", "run"]
    with subprocess.Popen(
        command, cwd=directory, env=os.environ | environ, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None  # noqa: S101  asked for
        try:
            ready = next(record for record in map(json.loads, process.stderr) if record["message"] == "ready")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            [worker] = [int(pid) for pid in children if b"proxy.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            yield worker, str(ready["proxy"])
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
