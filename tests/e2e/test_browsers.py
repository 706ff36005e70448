"""docs/browsers.md, as it stands, in a browser: pages of other origins call the API behind the gateway with a key."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.browser import browsing
from tests.e2e.recording_upstream import RecordingUpstream, echo, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.site import Site
    from tests.e2e.wire import Message

DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "browsers.md").read_text()
_FOUND: Final = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
BLOCKS: Final = dict(_FOUND)
ORIGIN: Final = "https://app.example.com"
_SCRIPT: Final = """
const attempt = async (work) => {
    try {
        return await work();
    } catch (error) {
        return `${error.name}: ${error.message}`;
    }
};
const asking = (path, options) => attempt(async () => (await fetch(`${GATEWAY}/documents${path}`, options)).status);
const report = {
    got: await attempt(() => documents('/42')),
    unknown: await attempt(async () => {
        const answer = await fetch(`${GATEWAY}/documents`, {headers: {Authorization: 'Bearer sk_wrong'}});
        return [(await answer.json()).code, answer.headers.get('WWW-Authenticate')];
    }),
    bare: await asking('/1'),
    posted: await asking('/2', {
        method: 'POST', body: '{}', headers: {'X-API-KEY': KEY, 'Content-Type': 'application/json'},
    }),
    with_another_field: await asking('/3', {headers: {'X-API-KEY': KEY, 'X-Not-Allowed': '1'}}),
    with_another_method: await asking('/4', {method: 'DELETE', headers: {'X-API-KEY': KEY}}),
    elsewhere: await attempt(async () => (await fetch(`${GATEWAY}/other`, {headers: {'X-API-KEY': KEY}})).status),
};
await fetch('/report', {method: 'POST', body: JSON.stringify(report)});
"""
_BLOCKED: Final = "TypeError: Failed to fetch"


class Page:
    """A page of an origin of its own, and what its script reports."""

    def __init__(self, server: RecordingUpstream) -> None:
        self.origin = server.url
        self.html = ""
        self._server = server
        server.answer = lambda _: response(self.html.encode(), "Content-Type: text/html")

    @property
    def reports(self) -> list[Any]:
        return [json.loads(seen.body) for seen in self._server.requests if seen.target == "/report"]

    def script(self, gateway: str, key: str) -> str:
        """The page's own HTML: the documented function, and what is tried with it."""
        known = f"const GATEWAY = {json.dumps(gateway)}, KEY = {json.dumps(key)};\n"
        return f'<!doctype html><script type="module">{known}{BLOCKS["js"]}{_SCRIPT}</script>'


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, Page]]:
    with ExitStack() as opened:
        yield {name: Page(opened.enter_context(RecordingUpstream())) for name in ("own", "friendly", "foreign")}


@pytest.fixture(scope="module")
def api() -> Iterator[RecordingUpstream]:
    """It has an opinion of its own about CORS, which no page may get to hear."""

    def answer(request: Message) -> bytes:
        return echo(request).replace(b"\r\n\r\n", b"\r\nAccess-Control-Allow-Origin: https://evil.test\r\n\r\n", 1)

    with RecordingUpstream(answer) as recording:
        yield recording


@pytest.fixture(scope="module")
def site(serve_module: Callable[..., Site], api: RecordingUpstream, pages: dict[str, Page]) -> Site:
    """As the page says, but for the names of the origins: `foreign` is none of them."""
    [route] = tomllib.loads(BLOCKS["toml"])["routes"]
    assert route["cors"]["allow_origins"] == [ORIGIN]
    route["cors"]["allow_origins"] = [pages["own"].origin, pages["friendly"].origin]
    upstreams = [{"name": route["upstream"], "targets": [api.url]}]
    return serve_module(upstreams, [route, {"name": "other", "path": "/other"}])


@pytest.fixture(scope="module")
def key(site: Site, pages: dict[str, Page]) -> str:
    """Made by the documented command, for the own page."""
    program, *arguments = shlex.split(BLOCKS["shell"].replace(ORIGIN, pages["own"].origin))
    assert program == "gateway"
    return str(site.command.json(*arguments)["secret"])


@pytest.fixture(scope="module")
def reports(
    site: Site,
    key: str,
    pages: dict[str, Page],
    system_program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    eventually: Callable[[Callable[[], object]], None],
) -> dict[str, dict[str, Any]]:
    """What each page has to say: the own one shows the two others in frames."""
    for page in pages.values():
        page.html = page.script(site.url, key)
    frames = "".join(f'<iframe src="{pages[name].origin}/"></iframe>' for name in ("friendly", "foreign"))
    pages["own"].html += frames
    directory = tmp_path_factory.mktemp("browser")
    with browsing(system_program("chromium"), f"{pages['own'].origin}/", directory) as browser:
        eventually(lambda: all(page.reports for page in pages.values()) or browser.poll() is not None)
    assert all(page.reports for page in pages.values()), (directory / "log").read_text()
    return {name: page.reports[0] for name, page in pages.items()}


def test_every_block_of_the_page_is_run() -> None:
    assert sorted(language for language, _ in _FOUND) == ["js", "shell", "toml"]


def test_a_page_calls_with_its_key(reports: dict[str, dict[str, Any]], pages: dict[str, Page], key: str) -> None:
    report = reports["own"]
    assert report["got"]["target"] == "/documents/42"
    assert ["Origin", pages["own"].origin] in report["got"]["fields"]
    assert key not in json.dumps(report)
    assert report["posted"] == 200


def test_it_can_read_why_it_is_refused(reports: dict[str, dict[str, Any]]) -> None:
    code, challenge = reports["own"]["unknown"]
    assert code == "invalid_api_key"
    assert challenge.startswith("Bearer realm=")
    assert reports["own"]["bare"] == 401


def test_it_may_do_what_the_settings_say_and_nothing_else(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["own"]
    assert [report[name] for name in ("with_another_field", "with_another_method", "elsewhere")] == [_BLOCKED] * 3


def test_the_key_is_of_no_use_to_another_page_that_may_use_the_route(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["friendly"]
    assert re.fullmatch(r"Error: origin_not_allowed, request \w+", report["got"])
    assert report["posted"] == 403


def test_other_pages_can_do_nothing_at_all(reports: dict[str, dict[str, Any]]) -> None:
    assert set(map(str, reports["foreign"].values())) == {_BLOCKED}


def test_none_of_that_reached_the_api(reports: dict[str, dict[str, Any]], api: RecordingUpstream) -> None:
    """Neither a preflight nor what was refused."""
    assert reports
    assert sorted(f"{seen.method} {seen.target}" for seen in api.requests) == ["GET /documents/42", "POST /documents/2"]


def test_a_program_writes_any_origin_it_likes(site: Site, key: str, pages: dict[str, Page]) -> None:
    """What the page says about what does not stop whom is true, too."""
    asking = ("GET /documents/9 HTTP/1.1", f"X-API-KEY: {key}")
    assert site.ask(*asking).json()["code"] == "origin_not_allowed"
    assert site.ask(*asking, f"Origin: {pages['own'].origin}").status == 200
