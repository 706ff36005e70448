"""No secret gets out of the gateway, in whatever place and form a client sent it.

A gateway of real processes at log level debug gets a canary in every place of `canary_places`; then everything that it
said and wrote is searched: each byte of its answers, the logs of all processes, metrics, status, the record of requests
on its way and in its files, exports, and what a worker says when it crashes. `test_audit_secrets` is about keys that
work; this is about those that are no good, and about what is no request at all.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from gateway.errors import ConfigurationError
from gateway.settings.loading import load
from tests.e2e import canary_places
from tests.e2e.canary import Canaries
from tests.e2e.recording_upstream import RecordingUpstream, response
from tests.e2e.site import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.canary_places import Place
    from tests.e2e.conftest import Command
    from tests.e2e.site import Site
    from tests.e2e.wire import Message

_STORE: Final = "gateway.db"
_READ_SECONDS: Final = 30.0
_GATEWAYS_OWN: Final = (
    *("X-API-KEY", "X-Request-ID", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Consumer-ID", "X-Consumer-Username", "X-Consumer-Custom-ID", "X-Credential-Identifier", "X-Organization-ID"),
)


def _answer(request: Message) -> bytes:
    """Fine, or what is no response, with the target in it as a careless upstream would have it."""
    if "/nonsense" in request.target:
        return f"HTTP/1.1 200 OK\r\nX {request.target}\r\n\r\n".encode("latin-1")
    return response(b"fine")


def _exchanged(address: tuple[str, int], sent: bytes, *, ends: bool = False) -> bytes:
    """All that comes back until the gateway closes. `ends`: what is sent has no end but that of the connection."""
    received = b""
    with socket.create_connection(address, timeout=_READ_SECONDS) as connection:
        with suppress(ConnectionError):  # refused before all of it was sent
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while block := connection.recv(1 << 16):
                received += block
    return received


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    with RecordingUpstream(_answer) as running:
        yield running


@pytest.fixture(params=["json", "text"])
def site(request: pytest.FixtureRequest, serve: Callable[..., Site], upstream: RecordingUpstream) -> Site:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    tables = [{"name": "default", "targets": [upstream.url]}, {"name": "dead", "targets": [dead]}]
    routes = [
        {"name": "all"},
        {"name": "dead", "path": "/dead", "upstream": "dead"},
        {"name": "forbidden", "path": "/forbidden", "permissions": ["orders:read"]},
        {"name": "pages", "path": "/pages", "cors": {"allow_origins": ["https://page.test"]}},
    ]
    settings = {"LOG__LEVEL": "debug", "LOG__FORMAT": request.param, "AUDIT__NDJSON": "requests.ndjson"}
    return serve(tables, routes, AUTH__TENANT_HEADER="X-Tenant", SERVER__ME_PATH="/me", **settings)


def _asked(site: Site, canaries: Canaries) -> dict[str, bytes]:
    """Send everything; returns what came back, by the place of the canary."""
    proxy, control = site.address, _address(site.running.control)
    good = site.issue("good").secret
    canaries.watch("the good key", good)
    canaries.watch("the admin's key", site.secret)
    key, admin = f"X-API-KEY: {good}", f"X-API-KEY: {site.secret}"
    new, answers = canaries.new, {}

    def send(address: tuple[str, int], prefix: str, places: Iterator[Place], *, end: bool = False) -> None:
        for place, sent in places:
            answers[f"{prefix}{place}"] = _exchanged(address, sent, ends=end)

    def at_admin(place: str) -> str:
        return new(f"admin: {place}")

    send(proxy, "", canary_places.credentials(new))
    send(proxy, "", iter([canary_places.basic(canaries)]))
    send(proxy, "", canary_places.request_lines(new, key))
    send(proxy, "", canary_places.fields(new, key))
    send(proxy, "", canary_places.bodies(new, key))
    send(proxy, "", canary_places.other_protocols(new))
    send(proxy, "", canary_places.unended(new), end=True)
    send(control, "admin: ", canary_places.credentials(at_admin, "/v1/keys"))
    send(control, "admin: ", canary_places.other_protocols(at_admin))
    send(control, "admin: ", canary_places.unended(at_admin), end=True)
    send(control, "", canary_places.admin_calls(new, admin))
    return answers


def _told(site: Site, directory: Path) -> None:
    """Put into files what an operator can read of it, so that it is searched like them."""
    told = {}
    for words in (("status",), ("audit", "export", "--format", "csv")):
        done = site.command.run(*words)
        assert done.returncode == 0, done
        told[" ".join(words)] = (done.stdout + done.stderr).encode()
    head = f"Host: x\r\nConnection: close\r\nX-API-KEY: {site.secret}\r\n\r\n"
    for path in ("/metrics", "/readyz", "/healthz", "/v1/status", "/v1/audit?limit=100", "/v1/audit/counts"):
        told[path] = _exchanged(_address(site.running.control), f"GET {path} HTTP/1.1\r\n{head}".encode())
        assert told[path].startswith(b"HTTP/1.1 200 "), told[path]
    for name, said in told.items():
        (directory / f"told {name.replace('/', ' ')}").write_bytes(said)


def _files(directory: Path) -> list[Path]:
    return [each for each in directory.rglob("*") if each.is_file()]


@pytest.mark.timeout(300)  # some hundred requests and a few commands, on a machine that may be busy
def test_no_canary_is_in_anything_that_the_gateway_says_or_writes(
    site: Site, upstream: RecordingUpstream, tmp_path: Path
) -> None:
    canaries = Canaries()
    answers = _asked(site, canaries)
    assert len(answers) > 300
    silent = {place for place, answer in answers.items() if not answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))}
    assert silent <= {f"{where}{place}" for where in ("", "admin: ") for place, _ in canary_places.unended(str)}
    leaked = {place: found for place, answer in answers.items() if (found := canaries.found(answer))}
    assert not leaked

    _told(site, tmp_path)
    os.kill(site.processes(WORKER)[0], signal.SIGABRT)  # what does a crash say?
    site.running.logged("a child died")
    while site.get().status != 200:
        pass
    assert site.running.stop() == 0
    files = _files(tmp_path)
    assert {"gateway.db", "requests.ndjson", "gateway-0.log"} <= {each.name for each in files}
    assert canaries.found_in(file for file in files if not file.name.startswith(_STORE)) == {}
    # Of keys that work the store has the digests, by which it finds them.
    stored = canaries.found_in(file for file in files if file.name.startswith(_STORE))
    assert {place for places in stored.values() for place in places} <= {"the good key", "the admin's key"}
    in_full = Canaries()
    in_full.watch_text("the admin's key", site.secret.encode())
    assert in_full.found_in(files) == {}
    _assert_upstream_saw_none(upstream, canaries)


def _assert_upstream_saw_none(upstream: RecordingUpstream, canaries: Canaries) -> None:
    """Where the gateway speaks; paths, queries, cookies and bodies are the client's own business."""
    assert upstream.requests
    for request in upstream.requests:
        said = "\n".join(value for name in _GATEWAYS_OWN for value in request.all(name))
        # X-Forwarded-Host says which Host was asked for; that it was no host of anybody's is not for us to know.
        assert canaries.found(said.encode("latin-1")) <= {"the field Host"}, request.raw
        assert not canaries.found(request.raw) & {"the good key", "the admin's key"}, request.raw
        spelt = [name for name, _ in request.fields if name.lower().replace("_", "-") in {"x-api-key", "x-consumer-id"}]
        assert set(spelt) <= {"X-Consumer-ID"}


_URLS: Final = (
    *("postgresql://u:{}@h:port/db", "postgresql://u:{}@[h/db", "postgresql//u:{}@h/db", "u:{}@h/db", "{}"),
    *("postgresql://u@h/db?password={}&sslmode=never", "postgresql://u:{}@h:99999/db", "mysql://u:{}@h/db"),
    *("postgresql://u:a@{}@h:x/db", "postgresql://u:{}/@h/db", "postgresql://u:{}#@h:x/db", "postgresql://u:{} @h/db"),
    *("postgresql://u:{}\n@h/db", "postgresql://u@h:x/db?sslpassword={}", "postgresql://u:{}@h/db?sslmode=never"),
)
_REDIS: Final = (
    *("redis://:{}@h:x/0", "redis://u:{}@h:99999/0", "rediss//u:{}@h", "redis://u@h/0?password={}", "http://:{}@h"),
    *("redis+sentinel://h/s?sentinel_password={}&x=1", "redis://u:a@{}@h:x", "redis+cluster://:{}@h:x,i"),
)
_TARGETS: Final = (
    "{}",
    "http://{}@h",
    "http://h/?key={}",
    "http://u:{}@h",
    "https://u:{}@h:x",
    "u:{}@h",
    "http://u:{}@",
    "ftp://u:{}@h",
)


@pytest.mark.parametrize(
    ("name", "forms"),
    [("store.url", _URLS), ("redis.url", _REDIS), ("upstream", _TARGETS)],
    ids=["store", "redis", "upstream"],
)
def test_bad_settings_are_told_of_without_the_secret_in_them(
    command: Command, tmp_path: Path, name: str, forms: tuple[str, ...]
) -> None:
    """From a variable, from the file that one names, from a flag, and from the configuration file."""
    canaries = Canaries()
    variable = f"GATEWAY__{name.upper().replace('.', '__')}"
    other = {} if name == "upstream" else {"GATEWAY__UPSTREAM": "http://127.0.0.1:9"}
    file = tmp_path / "settings.toml"
    for form in forms:
        values = [form.format(canaries.new(f"{form!r}, {place}")) for place in ("variable", "file", "flag", "toml")]
        (tmp_path / "secret").write_text(values[1])
        table, _, key = name.rpartition(".")
        header = f"[{table}]\n{key}" if table else '[[upstreams]]\nname = "x"\ntargets'
        value = json.dumps(values[3])
        file.write_text(f"{header} = {value if table else f'[{value}]'}\n")
        for said in (
            _complaint(environ={**other, variable: values[0]}),
            _complaint(environ={**other, f"{variable}_FILE": str(tmp_path / "secret")}),
            _complaint(overrides={name: values[2]}, environ=other),
            _complaint(file, environ=other if table else {}),
        ):
            assert not canaries.found(said.encode()), said
    done = command.run("run", **other, **{variable: forms[0].format(canaries.new("a command"))})
    assert done.returncode == 78
    assert not canaries.found((done.stdout + done.stderr).encode())


def _complaint(config: Path | None = None, **given: dict[str, str]) -> str:
    """Everything that is said of settings that are no good, inside and outside."""
    with pytest.raises(ConfigurationError) as raised:
        load(config, given.get("overrides"), given["environ"], require_upstream=True)
    return f"{raised.value.detail}\n{raised.value.internal}\n{raised.value.problems}"


@pytest.mark.timeout(300)  # a command takes a second of its own
def test_commands_do_not_repeat_the_secrets_that_they_are_given(
    serve: Callable[..., Site], upstream: RecordingUpstream
) -> None:
    site = serve(upstream.url, LOG__LEVEL="debug")
    canaries = Canaries()
    new = canaries.new
    commands: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("keys", "list", "--api-key", new("a key that is no good")), {}),
        (("keys", "list", "--api-key", f"Bearer {new('with a scheme')}"), {}),
        (("keys", "list"), {"GATEWAY_API_KEY": f"{new('two lines')}\nx"}),
        (("keys", "list", "--admin-url", f"http://u:{new('a password')}@127.0.0.1:1"), {}),
        (("keys", "list"), {"GATEWAY_ADMIN_URL": f"u:{new('no scheme')}@h"}),
        (("keys", "show", new("in the place of an id")), {}),
        (("keys", "create", new("as a name")), {}),
        (("keys", "import", "x", "--sha256", new("as a hash"), "--entropy-bits", "256"), {}),
        (("audit", "list", "--key", new("in the record")), {}),
    ]
    for words, environ in commands:
        done = site.command.run(*words, **environ)
        assert done.returncode != 0 or words[1] == "list", done
        assert not canaries.found((done.stdout + done.stderr).encode()), (words, done.stdout, done.stderr)
    assert site.running.stop() == 0
    assert canaries.found_in(_files(site.command.directory)) == {}


def test_the_search_finds_what_it_is_to_find() -> None:
    """Parts of a secret, in any case, and its digest in every form; and nothing else."""
    canaries = Canaries()
    secret = canaries.new("here")
    for leak in (secret, secret.lower(), secret[5:17], f"a{secret[20:32]}b"):
        assert canaries.found(leak.encode()) == {"here"}
    assert not canaries.found(secret[5:16].encode())
    assert not canaries.found(Canaries().new("here").encode())
