"""Nothing that is on record, or logged about it, holds a secret, the digest of one, or the query of a request.

It is looked for in the bytes of every file that a gateway writes, wherever clients may have put it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from gateway.keys.secret import digest, generate
from tests.e2e.audit_load import AuditUpstream
from tests.e2e.audit_site import RecordedSite, recorded_site
from tests.e2e.site import Issued

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.audit

_QUERY: Final = "canaryinthequery7261"
_STORE: Final = "gateway.db"
"""Of what it holds, the digests of keys are there by right; who can read it needs no record of requests."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RecordedSite]:
    with AuditUpstream() as upstream, recorded_site(tmp_path, upstream.url, LOG__LEVEL="debug") as running:
        yield running


def _requests(secret: str) -> list[list[str]]:
    """The same secret, or part of it, in every place that is on record, beside the one where it belongs."""
    token = "0000000000000000"
    key = f"X-API-KEY: {secret}"
    bearer = f"Authorization: Bearer {secret}"
    query = f"q={_QUERY}&api_key={secret}"
    return [
        [f"GET /l/{token}?{query} HTTP/1.1", key],
        [f"GET /l/{token}?{query} HTTP/1.1", bearer],
        [f"GET /l/{token}/{secret}/x?{query} HTTP/1.1", key],
        [f"GET /l/{token}/{secret}{secret} HTTP/1.1", bearer],
        [f"GET /l/{token}/{secret.replace('_', '%5F')} HTTP/1.1", key],
        [f"GET /l/{token}/{secret[:9]}%{ord(secret[9]):02x}{secret[10:]} HTTP/1.1", key],
        [f"GET /l/{token} HTTP/1.1", key, f"User-Agent: agent/{secret} ({secret})"],
        [f"GET /l/{token}/{'x' * 2010}/{secret} HTTP/1.1", key],  # where a path is cut in the middle of it
        [f"GET /l/{token} HTTP/1.1", key, f"User-Agent: {'a' * 480}{secret}"],
        [f"GET /l/{token} HTTP/1.1", key, f"X-Request-ID: {secret}"],
        [f"GET /l/{token} HTTP/1.1", key, f"Referer: http://x/?{query}"],
        [f"GET /l/{token} HTTP/1.1", key, bearer],
        [f"GET /me?{query} HTTP/1.1", key],
        [f"GET http://x/l/{token}?{query} HTTP/1.1", key],
        [f"POST /p/{token}?{query} HTTP/1.1", key, "Content-Length: 0"],
    ]


def _refused(secret: str, wrong: str) -> list[list[str]]:
    """Keys that are no good, and requests."""
    return [
        [f"GET /l/0?q={_QUERY} HTTP/1.1", f"X-API-KEY: {wrong}"],
        [f"GET /l/0?q={_QUERY} HTTP/1.1", f"Authorization: Bearer {wrong}"],
        [f"GET /l/{wrong}?q={_QUERY} HTTP/1.1", f"X-API-KEY: {wrong}", f"User-Agent: {wrong}"],
        [f"GET /l/0?q={_QUERY} HTTP/1.1", f"X-API-KEY: {secret}", f"Authorization: Bearer {wrong}"],
        [f"GET /l/{secret}?q={_QUERY} HTTP/1.1", f"X-API-KEY: {secret}"],
        [f"GET /l/../{secret}?q={_QUERY} HTTP/1.1", f"X-API-KEY: {secret}"],
        [f"TRACE /l/0?q={_QUERY} HTTP/1.1", f"X-API-KEY: {secret}"],
    ]


def _shapes(secret: str) -> dict[str, bytes]:
    """What must not be found: the secret, what identifies its random part, and its digest, however written."""
    made = digest(secret.encode())
    body = secret.removeprefix("sk_")
    return {
        "the secret": secret.encode(),
        "its beginning": body[:20].encode(),
        "its middle": body[15:35].encode(),
        "its end": body[-20:].encode(),
        "the secret in base 64": base64.b64encode(secret.encode())[:24],
        "the secret, quoted": quote(secret, safe="").encode(),
        "the digest": made,
        "the digest in hexadecimal": made.hex().encode(),
        "the digest in base 64": base64.b64encode(made)[:40],
    }


def _assert_nowhere(files: list[Path], needles: dict[str, bytes]) -> None:
    for file in files:
        data = file.read_bytes()
        found = [name for name, needle in needles.items() if needle in data]
        assert not found, (file, found)


def _written(site: RecordedSite) -> list[Path]:
    """Every file but the store's."""
    return [each for each in site.directory.rglob("*") if each.is_file() and not each.name.startswith(_STORE)]


def test_no_secret_no_digest_and_no_query_is_anywhere(site: RecordedSite) -> None:
    """Of good keys, revoked ones and invented ones; in the spool before it is read, and in all that is made of it."""
    good, revoked = site.seeded.keys[:2]
    invented = Issued("nobody", generate("sk_"))
    with site.site.client() as client:
        client.keys.revoke(revoked.id)
    forbidden = {"the query": _QUERY.encode()}
    for key in (good, revoked, invented):
        for name, shape in _shapes(key.secret).items():
            forbidden[f"{name} of {key.id}"] = shape
    with site.recorder_asleep():
        requests = [*_requests(good.secret), *_refused(good.secret, invented.secret), *_requests(revoked.secret)]
        for lines in requests:
            site.site.ask(*lines)
        segments = list(site.spool.glob("*.segment"))
        assert any(good.id.encode() in each.read_bytes() for each in segments)
        _assert_nowhere(_written(site), forbidden)
    site.drain()
    assert len(site.records.kept()) >= len(requests)
    exported = site.site.command.run("audit", "export", "--format", "ndjson")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.count('"request"') >= len(requests)
    table = site.site.command.run("audit", "export", "--format", "csv")
    assert table.returncode == 0, table.stderr
    for name, printed in (("export.ndjson", exported.stdout), ("export.csv", table.stdout)):
        (site.directory / name).write_text(printed)
    listed = site.site.command.run("audit", "list", "--json")
    (site.directory / "list.json").write_text(listed.stdout)
    files = _written(site)
    assert site.shipped in files
    assert {"audit", "spool"} <= {each.parent.name for each in files}
    _assert_nowhere(files, forbidden)
    assert site.site.running.stop() == 0
    _assert_nowhere(_written(site), forbidden)
    in_store = {name: shape for name, shape in forbidden.items() if not name.startswith("the digest of")}
    _assert_nowhere([each for each in site.directory.rglob(f"{_STORE}*") if each.is_file()], in_store)
