"""In front of servers that nobody here wrote: nginx and Python's http.server, serving files."""

from __future__ import annotations

import grp
import gzip
import os
import pwd
import random
import socket
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.site import Site

BIG: Final = random.Random(1).randbytes(8 << 20)  # noqa: S311 - reproducible, no secret
TEXT: Final = b"all work and no play\n" * 5000
_NGINX: Final = """
daemon off; user {user}; worker_processes 1; pid {directory}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off; default_type application/octet-stream; types {{ text/plain txt; }}
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    gzip on; gzip_types text/plain;
    server {{ listen {address}; root {directory}/files; }}
}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("server")
    (directory / "files" / "inside").mkdir(parents=True)
    (directory / "files" / "big.bin").write_bytes(BIG)
    (directory / "files" / "text.txt").write_bytes(TEXT)
    (directory / "files" / "empty.txt").touch()
    (directory / "files" / "inside" / "index.html").write_bytes(b"inside")
    return directory


@pytest.fixture(scope="module")
def nginx(files: Path, system_program: Callable[[str], str]) -> Iterator[str]:
    """Its address. The listening socket is handed to it, as an upgrade of nginx does, so that the port is its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        (files / "nginx.conf").write_text(_NGINX.format(directory=files, address=address, user=_user()))
        with subprocess.Popen(
            [system_program("nginx"), "-p", files, "-c", files / "nginx.conf"],
            env=os.environ | {"NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        ) as process:
            yield f"http://{address}"
            process.terminate()


def _user() -> str:
    """Who runs the tests: nginx's own user could not read their files."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


@pytest.fixture(scope="module")
def http_server(files: Path) -> Iterator[str]:
    """Python's own file server; it speaks HTTP/1.0."""
    handler = partial(_Quiet, directory=str(files / "files"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        """As SimpleHTTPRequestHandler; below /stream/ a file without its length, which the connection's end tells."""
        if not self.path.startswith("/stream/"):
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BIG)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], nginx: str, http_server: str) -> Site:
    return serve_module(
        [{"name": "nginx", "targets": [nginx]}, {"name": "old", "targets": [http_server]}],
        [{"name": "nginx"}, {"name": "old", "path": "/old", "upstream": "old", "strip_prefix": True}],
    )


@pytest.fixture
def session(site: Site) -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.headers.update({"X-API-KEY": site.secret, "Accept-Encoding": "identity"})
        yield made


@pytest.mark.parametrize("base", ["", "/old"])
def test_files_arrive_as_they_are(site: Site, session: requests.Session, base: str) -> None:
    for name, content in (("big.bin", BIG), ("text.txt", TEXT), ("empty.txt", b""), ("inside/", b"inside")):
        answer = session.get(f"{site.url}{base}/{name}")
        assert (answer.status_code, answer.content == content) == (200, True)
        assert answer.headers["Content-Length"] == str(len(content))
    assert session.get(f"{site.url}{base}/nothing").status_code == 404


def test_a_body_that_ends_with_its_connection_arrives_whole(site: Site, session: requests.Session) -> None:
    """HTTP/1.0 upstreams send such bodies. The client gets it chunked, so that it can tell the end from an accident."""
    for _ in range(3):
        answer = session.get(f"{site.url}/old/stream/")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.content == BIG


@pytest.mark.parametrize("base", ["", "/old"])
def test_head_has_the_length_and_no_body(site: Site, base: str) -> None:
    """The connection goes on to serve the next request."""
    with site.wire() as connection:
        for _ in range(2):
            answer = connection.ask(f"HEAD {base}/big.bin HTTP/1.1", f"X-API-KEY: {site.secret}")
            assert (answer.status, answer.one("Content-Length")) == (200, str(len(BIG)))
        answer = connection.ask(f"GET {base}/text.txt HTTP/1.1", f"X-API-KEY: {site.secret}")
        assert answer.body == TEXT


def test_ranges_are_served(site: Site, session: requests.Session) -> None:
    part = session.get(f"{site.url}/big.bin", headers={"Range": "bytes=1000000-4999999"})
    assert (part.status_code, part.content == BIG[1_000_000:5_000_000]) == (206, True)
    assert part.headers["Content-Range"] == f"bytes 1000000-4999999/{len(BIG)}"
    several = session.get(f"{site.url}/big.bin", headers={"Range": "bytes=0-3,100-103"})
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    assert BIG[:4] in several.content
    assert BIG[100:104] in several.content
    assert session.get(f"{site.url}/big.bin", headers={"Range": f"bytes={len(BIG)}-"}).status_code == 416


@pytest.mark.parametrize("base", ["", "/old"])
def test_an_unchanged_file_is_not_sent_again(site: Site, session: requests.Session, base: str) -> None:
    """304 has no body, and the connection goes on."""
    first = session.get(f"{site.url}{base}/text.txt")
    known = {"If-Modified-Since": first.headers["Last-Modified"]}
    again = session.get(f"{site.url}{base}/text.txt", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert session.get(f"{site.url}{base}/text.txt").content == TEXT


def test_compression_is_between_client_and_upstream(site: Site) -> None:
    """The gateway neither compresses nor keeps nginx from it (a Via field would)."""
    asked = ("GET /text.txt HTTP/1.1", f"X-API-KEY: {site.secret}")
    plain = site.ask(*asked)
    assert (plain.one("Content-Encoding"), plain.body) == (None, TEXT)
    packed = site.ask(*asked, "Accept-Encoding: gzip")
    assert packed.one("Content-Encoding") == "gzip"
    assert packed.one("Transfer-Encoding") == "chunked"
    assert gzip.decompress(packed.body) == TEXT


@pytest.mark.parametrize("base", ["", "/old"])
def test_a_redirect_stays_on_the_gateway(site: Site, session: requests.Session, base: str) -> None:
    """A directory without its slash: nginx redirects to its own absolute address, http.server to a path."""
    answer = session.get(f"{site.url}{base}/inside", allow_redirects=False)
    assert answer.status_code == 301
    if not base:
        assert answer.headers["Location"] == "/inside/"
        assert session.get(f"{site.url}/inside").content == b"inside"


def test_one_client_connection_serves_hundreds_of_requests(site: Site) -> None:
    with site.wire() as connection:
        for number in range(300):
            path = "/text.txt" if number % 2 else "/old/text.txt"
            assert connection.ask(f"GET {path} HTTP/1.1", f"X-API-KEY: {site.secret}").body == TEXT
