"""`gateway audit list|tail|export|counts|verify`: requests beside changes, for people and for programs."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
import stat
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli import audit_tail
from gateway.cli.audit import Filters
from gateway.cli.audit_export import COLUMNS
from gateway.client import APIError, Client, ConnectionFailed
from gateway.keys.request_entry import Outcome
from tests.memory_audit_store import SPOOL, entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.admin_api import AdminApi
    from tests.cli.conftest import Gateway

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ANY = Filters(kind=None, actor=None, action=None, key=None, target=None, status=None, code=None, request_id=None)


def ask(api: AdminApi, *, age: float = 0, **given: Any) -> None:  # noqa: ANN401 - whatever an entry has
    """A request with the admin's key comes on record, made `age` seconds ago."""
    number = given.pop("number", len(api.requests.entries))
    key = api.made.key
    given = {
        "at": (datetime.now(UTC) - timedelta(seconds=age) - EPOCH) // timedelta(microseconds=1),
        "key_id": key.id,
        "key_name": key.name,
        "organization_id": key.organization_id,
        "owner_id": key.owner.id,
        "request_id": f"r{number}",
        "address": "192.0.2.9",
        **given,
    }
    asyncio.run(api.requests.write(SPOOL, [entry(number=number, **given)]))


def test_a_request_is_a_line_with_what_was_asked_and_what_came_of_it(gateway: Gateway, api: AdminApi) -> None:
    ask(api, method="POST", path="/orders", status=201)
    ask(api, path="/bad", status=403, outcome=Outcome.REFUSED, code="insufficient_permissions")
    ask(api, path="/cut", outcome=Outcome.ABORTED)
    ask(api, method="", path="", status=0, outcome=Outcome.INTERRUPTED, key_id="", key_name="")
    lines = gateway("audit", "list", "--kind", "request").out.splitlines()
    assert [line.split("  ")[0] for line in lines[:1]] == ["AT"]
    assert [" ".join(line.split()[1:]) for line in lines[1:]] == [
        "Anonymous request ? ? interrupted 192.0.2.9",
        "API Key: Admin key request GET /cut 200 aborted 192.0.2.9",
        "API Key: Admin key request GET /bad 403 insufficient_permissions 192.0.2.9",
        "API Key: Admin key request POST /orders 201 192.0.2.9",
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--kind", "request"], 2),
        (["--kind", "change"], 3),
        (["--status", "4xx"], 1),
        (["--status", "answered"], 1),
        (["--code", "x"], 0),
        (["--request-id", "r1"], 1),
        (["--action", "request"], 2),
        (["--actor", "admin@example.com", "--kind", "request"], 2),
        (["--actor", "system"], 3),
        (["--from", "2099-01-01T00:00:00Z"], 0),
        (["--from", "2099-01-01"], 0),
        (["--from", "2000-01-01", "--to", "2099-01-01", "--kind", "request"], 2),
        (["--to", "2000-01-01"], 0),
    ],
)
def test_list_export_and_tail_take_the_same_filters(
    gateway: Gateway, api: AdminApi, options: list[str], found: int
) -> None:
    ask(api)
    ask(api, status=404, outcome=Outcome.REFUSED, code="route_not_found")
    assert len(gateway("audit", "list", *options, "--json").json["items"]) == found
    assert len(gateway("audit", "export", *options).out.splitlines()) == found
    if not {"--from", "--to"} & {*options}:
        assert len(gateway("audit", "tail", *options).out.splitlines()) == found


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("command", ["list", "export", "tail"])
def test_a_bad_filter_is_named(gateway: Gateway, command: str) -> None:
    outcome = gateway("audit", command, "--status", "teapot")
    assert (outcome.status, outcome.out) == (2, "")
    assert "status: must be a status such as 404" in outcome.err
    outcome = gateway("audit", command, "--key", "CI/CD")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("gateway: --key: must be key_ and 26 characters")
    outcome = gateway("audit", command, "--kind", "changes")
    assert (outcome.status, outcome.out) == (2, "")
    assert "'--kind': 'changes' is not one of" in outcome.err


def test_an_export_is_a_line_of_json_for_each_entry_as_the_api_has_it(gateway: Gateway, api: AdminApi) -> None:
    for number in range(5):
        ask(api, path=f"/{number}", user_agent="é\x9b")
    out = gateway("audit", "export").out
    assert out.isascii()
    listed = gateway("audit", "list", "--limit", "1000", "--json").json["items"]
    assert [json.loads(line) for line in out.splitlines()] == listed
    assert gateway("audit", "export", "--json").out == out


@pytest.mark.usefixtures("few_on_a_page")
def test_an_export_goes_through_all_pages(gateway: Gateway, api: AdminApi) -> None:
    for _ in range(20):
        ask(api)
    lines = gateway("audit", "export", "--kind", "request").out.splitlines()
    exported = [json.loads(line)["request_id"] for line in lines]
    assert exported == [f"r{number}" for number in reversed(range(20))]


@pytest.fixture
def few_on_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.audit_export._LARGEST_PAGE", 3)
    monkeypatch.setattr("gateway.cli.audit_tail._LARGEST_PAGE", 3)


EVIL = {
    "formula": ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
    "plus": ("+1", "'+1"),
    "minus": ("-1", "'-1"),
    "at": ("@SUM(1)", "'@SUM(1)"),
    "behind a space": ("  =1", "'  =1"),
    "full width": ("＝1", "'＝1"),  # noqa: RUF001 - that is the point
    "tab": ("\t=1", "\\t=1"),
    "line feed": ("a\r\n=1", "a\\r\\n=1"),
    "escape": ("\x1b[2J", "\\u001b[2J"),
    "quotes": ('a","b', 'a","b'),
    "plain": ("curl/8.0 (+x)", "curl/8.0 (+x)"),
}


@pytest.mark.parametrize(("sent", "cell"), EVIL.values(), ids=EVIL.keys())
def test_no_cell_of_a_csv_is_a_formula_or_a_second_line(gateway: Gateway, api: AdminApi, sent: str, cell: str) -> None:
    ask(api, user_agent=sent)
    out = gateway("audit", "export", "--format", "csv", "--kind", "request").out
    assert out.count("\n") == 2
    heads, row = csv.reader(io.StringIO(out))
    assert dict(zip(heads, row, strict=True))["user_agent"] == cell


def test_a_csv_has_a_row_of_heads_and_all_of_an_entry(gateway: Gateway, api: AdminApi) -> None:
    ask(api, path="/a", status=404, duration=1234, secret_id="sec_1")
    gateway("members", "add", "bob@example.com")
    rows = list(csv.DictReader(io.StringIO(gateway("audit", "export", "--format", "csv").out)))
    assert tuple(rows[0]) == COLUMNS
    change, request = rows[0], rows[1]
    assert (change["action"], change["target"], change["status"]) == ("member.create", "bob@example.com", "")
    assert json.loads(change["after"])["role"] == "member"
    assert [request[name] for name in ("kind", "actor", "target_kind", "path", "status", "outcome")] == [
        "request", "API Key: Admin key", "key", "/a", "404", "answered",
    ]  # fmt: skip
    assert (request["duration_milliseconds"], request["secret_id"], request["before"]) == ("1.234", "sec_1", "")
    assert gateway("audit", "export", "--format", "csv", "--json").status == 2


def test_a_file_is_whole_and_its_owners_alone(gateway: Gateway, api: AdminApi, tmp_path: Path) -> None:
    ask(api)
    file = tmp_path / "out.ndjson"
    outcome = gateway("audit", "export", "--output", str(file))
    assert (outcome.status, outcome.out, outcome.err) == (0, "", f"gateway: {file}: 4 entries\n")
    assert file.read_text() == gateway("audit", "export").out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_export_that_breaks_off_leaves_the_file_as_it_was(
    gateway: Gateway, api: AdminApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_on_a_page: None
) -> None:
    del few_on_a_page
    file = tmp_path / "out.csv"
    file.write_text("before")
    for _ in range(4):
        ask(api)
    page, calls = type(Client("k").events).page, []

    def broken(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - as it is
        calls.append(named)
        if len(calls) > 1:
            raise APIError("The key store cannot be used just now.", code="key_store_unavailable", status=503)
        return page(*given, **named)

    monkeypatch.setattr(type(Client("k").events), "page", broken)
    assert gateway("audit", "export", "--format", "csv", "--output", str(file)).status == 5
    assert len(calls) == 2
    assert file.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir() if "out" in each.name] == ["out.csv"]


@pytest.mark.usefixtures("api")
def test_a_file_that_cannot_be_written_is_named_and_a_device_stays_one(gateway: Gateway, tmp_path: Path) -> None:
    outcome = gateway("audit", "export", "--output", str(tmp_path / "none" / "out"))
    assert outcome.status == 1
    assert "No such file" in outcome.err
    device = tmp_path / "device"
    device.symlink_to("/dev/null")
    assert gateway("audit", "export", "--output", str(device)).status == 0
    assert device.is_char_device()


def test_the_tail_ends_with_the_newest(gateway: Gateway, api: AdminApi) -> None:
    for number in range(5):
        ask(api, path=f"/{number}")
    lines = gateway("audit", "tail", "--lines", "2").out.splitlines()
    assert [line.split("  ")[3] for line in lines] == ["GET /3", "GET /4"]
    (told,) = gateway("audit", "tail", "-n", "1", "--json").out.splitlines()
    assert json.loads(told)["request"]["path"] == "/4"


class TestFollowing:
    """What `--follow` looks for, look by look."""

    @pytest.fixture
    def tail(self, api: AdminApi) -> Any:  # noqa: ANN401 - a generator
        with Client(api.secret, base_url=api.url) as client:
            yield audit_tail.Tail(client, ANY)

    @staticmethod
    def paths(found: list[audit_tail.Entry]) -> list[str]:
        return [each.event.request.path or "" if each.event.request else each.event.action for each in found]

    def test_each_entry_is_shown_once_the_oldest_first(self, api: AdminApi, tail: audit_tail.Tail) -> None:
        for number in range(3):
            ask(api, path=f"/{number}")
        assert self.paths(tail.first(2)) == ["/1", "/2"]
        assert tail.more() == []
        ask(api, path="/3")
        ask(api, path="/4")
        assert self.paths(tail.more()) == ["/3", "/4"]
        assert tail.more() == []

    def test_what_comes_a_little_late_is_shown(self, api: AdminApi, tail: audit_tail.Tail) -> None:
        ask(api, path="/new")
        tail.first(1)
        ask(api, path="/late", age=3)
        assert self.paths(tail.more()) == ["/late"]
        ask(api, path="/newer")
        ask(api, path="/later", age=2)
        assert self.paths(tail.more()) == ["/later", "/newer"]
        assert tail.more() == []

    def test_a_request_that_lasts_is_shown_again_when_it_ends(self, api: AdminApi, tail: audit_tail.Tail) -> None:
        tail.first(1)
        ask(api, path="/stream", number=7, outcome=Outcome.OPEN)
        assert self.paths(tail.more()) == ["/stream"]
        ask(api, path="/stream", number=7)
        (ended,) = tail.more()
        assert ended.event.request is not None
        assert ended.event.request.outcome == "answered"
        assert tail.more() == []

    @pytest.mark.usefixtures("few_on_a_page")
    def test_more_than_a_page_at_once_is_shown_whole(self, api: AdminApi, tail: audit_tail.Tail) -> None:
        tail.first(1)
        for number in range(10):
            ask(api, path=f"/{number}")
        assert self.paths(tail.more()) == [f"/{number}" for number in range(10)]

    def test_a_filter_that_seldom_fits_looks_no_further_back(self, api: AdminApi) -> None:
        """Else each look would read more than the one before."""
        with Client(api.secret, base_url=api.url) as client:
            tail = audit_tail.Tail(client, Filters(**{**ANY, "code": "expired_api_key"}))
            tail.first(1)
            ask(api, age=-3600)
            tail.more()
            tail.more()
        floors = [each.since for each in api.requests.asked if each.since is not None]
        assert floors[-1] - floors[0] > 3000 * 1_000_000


def test_following_goes_on_after_the_gateway_was_away_and_says_so_once(
    gateway: Gateway, api: AdminApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def more(tail: audit_tail.Tail) -> list[audit_tail.Entry]:
        looks.append(1)
        if len(looks) in {2, 3}:
            raise ConnectionFailed("The admin API cannot be reached.", may_have_happened=False)
        if len(looks) == 5:
            raise KeyboardInterrupt
        ask(api, path=f"/{len(looks)}")
        return real(tail)

    real = audit_tail.Tail.more
    monkeypatch.setattr(audit_tail.Tail, "more", more)
    monkeypatch.setattr(audit_tail, "POLL_SECONDS", 0)
    outcome = gateway("audit", "tail", "-f", "-n", "1", "--json")
    paths = [json.loads(line)["request"]["path"] for line in outcome.out.splitlines()[1:]]
    assert paths == ["/1", "/4"]
    assert outcome.err.count("Trying on.") == 1


def test_counts_are_by_hour_and_outcome(gateway: Gateway, api: AdminApi) -> None:
    hour = int(time.time()) // 3600 * 3600
    with closing(sqlite3.connect(api.store, timeout=5)) as store, store:
        row = (api.made.key.id, hour * 1_000_000, "2xx", api.made.organization.id, 12)
        store.execute("INSERT INTO audit_counts VALUES (?, ?, ?, ?, ?)", row)
    heads, line = gateway("audit", "counts").out.splitlines()
    at = datetime.fromtimestamp(hour, UTC).isoformat().replace("+00:00", "Z")
    assert (heads.split(), line.split()) == (["HOUR", "OUTCOME", "REQUESTS"], [at, "2xx", "12"])
    assert gateway("audit", "counts", "--key", api.made.key.id, "--json").json["items"][0]["requests"] == 12
    assert gateway("audit", "counts", "--from", "2020-01-01T00:00:00Z").status == 2


def test_verify_says_what_is_missing_and_ends_with_1(gateway: Gateway, api: AdminApi) -> None:
    well = gateway("audit", "verify")
    assert (well.status, well.err) == (0, "")
    assert dict(line.split() for line in well.out.splitlines() if "damaged" not in line)["missing"] == "0"
    api.verification.missing = 1
    bad = gateway("audit", "verify")
    assert bad.status == 1
    assert SPOOL in bad.out.splitlines()[-1]
    assert "docs/audit.md" in bad.err
    assert json.loads(gateway("audit", "verify", "--json").out)["differences"][0]["missing"] == 1
