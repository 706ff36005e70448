"""The clients that people use: each gets its answers, its refusals and its bodies, on connections that it keeps."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import httpx
import pytest
import requests

from tests.e2e.browser import browsing
from tests.e2e.recording_upstream import RecordingUpstream, echo, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.e2e.site import Site
    from tests.e2e.wire import Message

BODY: Final = random.Random(4).randbytes(1 << 20)  # noqa: S311 - reproducible, no secret
_HERE: Final = Path(__file__).parent


def _answer(request: Message) -> bytes:
    """/same gives back the body; everything else the request as JSON."""
    if request.target == "/same":
        return response(request.body)
    if request.target == "/chunked":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    if request.target == "/redirected":
        return response(status="307 Temporary Redirect").replace(b"\r\n\r\n", b"\r\nLocation: /same\r\n\r\n")
    return echo(request)


@pytest.fixture(scope="module")
def upstream(upstream_module: RecordingUpstream) -> RecordingUpstream:
    upstream_module.answer = _answer
    return upstream_module


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], upstream: RecordingUpstream) -> Site:
    routes = [{"name": "default"}, {"name": "open", "path": "/open", "auth": "none"}]
    return serve_module(upstream.url, routes)


def test_curl(site: Site, system_program: Callable[[str], str], tmp_path: Path) -> None:
    """GET, HEAD, an upload of a file (with Expect), a chunked one from a pipe; one connection for several URLs."""
    (tmp_path / "body").write_bytes(BODY)
    key = ("-H", f"X-API-KEY: {site.secret}")

    def curl(*arguments: str, given: bytes = b"") -> bytes:
        command = [system_program("curl"), "-sS", "--max-time", "60", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout

    assert json.loads(curl(*key, f"{site.url}/hello"))["target"] == "/hello"
    assert b"401 Unauthorized" in curl("-i", f"{site.url}/hello")
    assert curl(*key, "-I", f"{site.url}/hello").startswith(b"HTTP/1.1 200 OK")
    assert curl(*key, f"{site.url}/chunked") == BODY
    expecting = ("-H", "Expect: 100-continue", "--expect100-timeout", "0.01")
    assert curl(*key, *expecting, "--data-binary", f"@{tmp_path}/body", f"{site.url}/same") == BODY
    assert curl(*key, "-T", f"{tmp_path}/body", "-X", "POST", f"{site.url}/same") == BODY
    assert curl(*key, "-T", "-", "-X", "POST", f"{site.url}/same", given=BODY) == BODY
    assert curl(*key, "-L", "--data-binary", "@-", f"{site.url}/redirected", given=BODY) == BODY
    connects = curl(*key, "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", *[f"{site.url}/x"] * 2)
    assert connects == b"1 0 "
    with_bearer = curl("--oauth2-bearer", site.secret, f"{site.url}/hello")
    assert site.secret.encode() not in with_bearer
    assert curl("--http2", *key, f"{site.url}/same", "-d", "x") == b"x"  # offers h2c
    assert curl("--http1.0", *key, f"{site.url}/chunked") == BODY


def test_requests(site: Site) -> None:
    with requests.Session() as session:
        assert session.get(f"{site.url}/x").json()["code"] == "missing_api_key"
        session.headers["X-API-KEY"] = site.secret
        for _ in range(20):
            assert session.get(f"{site.url}/x?a=b").json()["target"] == "/x?a=b"
        assert session.post(f"{site.url}/same", data=BODY).content == BODY
        assert session.post(f"{site.url}/same", data=iter((BODY[:9], BODY[9:]))).content == BODY
        assert session.post(f"{site.url}/redirected", data=BODY).content == BODY
        assert session.get(f"{site.url}/chunked").content == BODY
        assert session.head(f"{site.url}/x").status_code == 200
        assert session.delete(f"{site.url}/x").json()["method"] == "DELETE"


def test_httpx(site: Site) -> None:
    def parts() -> Iterator[bytes]:
        yield BODY[:9]
        yield BODY[9:]

    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {site.secret}"}) as client:
        for _ in range(20):
            assert client.get("/x").json()["target"] == "/x"
        assert client.post("/same", content=BODY).content == BODY
        assert client.post("/same", content=parts()).content == BODY
        assert client.get("/chunked").content == BODY
        assert client.get("/x", headers={"Authorization": "Bearer sk_wrong"}).json()["code"] == "invalid_api_key"


async def test_aiohttp(site: Site) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield BODY[:9]
        yield BODY[9:]

    headers = {"X-API-KEY": site.secret}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def target(number: int) -> str:
            async with session.get(f"{site.url}/{number}") as answer:
                return str((await answer.json())["target"])

        assert await asyncio.gather(*map(target, range(50))) == [f"/{number}" for number in range(50)]
        for data in (BODY, parts()):
            async with session.post(f"{site.url}/same", data=data) as answer:
                assert await answer.read() == BODY
        async with session.get(f"{site.url}/chunked") as answer:
            assert await answer.read() == BODY
        async with session.get(f"{site.url}/x", headers={"X-API-KEY": ""}) as answer:
            assert (await answer.json(content_type="application/problem+json"))["code"] == "missing_api_key"


def test_urllib(site: Site) -> None:
    """It closes after each request."""
    request = urllib.request.Request(f"{site.url}/same", data=BODY, headers={"X-Api-Key": site.secret})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own address
        assert answer.read() == BODY
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{site.url}/x")  # noqa: S310
    with refused.value as error:
        assert error.code == 401
        assert json.loads(error.read())["code"] == "missing_api_key"


def test_node(site: Site, system_program: Callable[[str], str]) -> None:
    """Its `fetch` (undici) and its `http` with a keep-alive agent."""
    done = subprocess.run(
        [system_program("node"), _HERE / "client.mjs"],
        env=os.environ | {"GATEWAY_URL": site.url, "SECRET": site.secret},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "fetch": {
            "gets": 20,
            "refused": [401, "missing_api_key"],
            "challenged": True,
            "same": True,
            "streamed": True,
            "redirected": True,
        },
        "http": {"gets": 20, "sockets": 1, "refused": 401, "same": True, "expected": "continue"},
    }


_PAGE: Final = b"""<!doctype html><script type="module">
const key = new URLSearchParams(location.hash.slice(1)).get('key');
const report = {};
try {
    report.bare = await (await fetch('/x')).json();
    report.header = await (await fetch('/x', {headers: {'X-API-KEY': key}})).json();
    report.bearer = await (await fetch('/x', {headers: {Authorization: `Bearer ${key}`}})).json();
    report.many = await Promise.all(Array.from({length: 30}, async (_, number) => {
        const answer = await fetch(`/n${number}`, {headers: {'X-API-KEY': key}});
        return (await answer.json()).target;
    }));
    const sent = crypto.getRandomValues(new Uint8Array(50000));
    const answer = await fetch('/same', {method: 'POST', body: sent, headers: {'X-API-KEY': key}});
    const got = new Uint8Array(await answer.arrayBuffer());
    report.same = got.length === sent.length && got.every((byte, at) => byte === sent[at]);
    report.id = answer.headers.get('X-Request-ID');
    report.chunked = (await (await fetch('/chunked', {headers: {'X-API-KEY': key}})).arrayBuffer()).byteLength;
} catch (error) {
    report.error = String(error);
}
await fetch('/open/report', {method: 'POST', body: JSON.stringify(report)});
</script>"""


def test_a_browser_s_same_origin_fetch(
    site: Site,
    upstream: RecordingUpstream,
    system_program: Callable[[str], str],
    tmp_path: Path,
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    """A page that the gateway serves without a key calls the API beside it with one, and reports through it."""

    def answer(request: Message) -> bytes:
        return response(_PAGE, "Content-Type: text/html") if request.target == "/open/page" else _answer(request)

    def reports() -> list[bytes]:
        return [seen.body for seen in upstream.requests if seen.target == "/open/report"]

    upstream.answer = answer
    page = f"{site.url}/open/page#key={site.secret}"
    with browsing(system_program("chromium"), page, tmp_path) as browser:
        eventually(lambda: reports() or browser.poll() is not None)
    upstream.answer = _answer
    assert reports(), (tmp_path / "log").read_text()
    report = json.loads(reports()[0])
    assert "error" not in report, report
    assert report["bare"]["code"] == "missing_api_key"
    assert report["header"]["target"] == report["bearer"]["target"] == "/x"
    assert site.secret not in json.dumps(report)
    assert report["many"] == [f"/n{number}" for number in range(30)]
    assert (report["same"], report["chunked"]) == (True, len(BODY))
    assert report["id"]
