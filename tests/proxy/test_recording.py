"""What is on record of a request: each once, whole before the client has the whole answer, and never a secret."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import pytest

from gateway.keys.request_entry import Outcome, RequestEntry
from gateway.recording import records
from gateway.recording.spool import Spool, SpoolFull
from gateway.recording.spool_directory import SpoolDirectory
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Client, Gate, get, post
from tests.proxy.test_tunnel import ASKING, SWITCHING
from tests.recording.reading import entries, read_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEGMENT = 1 << 16


class Site:
    """A spool, and what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = Spool(
            SpoolDirectory(path),
            limit_bytes=1 << 30,
            when_full="refuse",
            sync_interval_seconds=60,
            segment_bytes=SEGMENT,
        )
        self.spool.start()

    def gate(self, **tables: Any) -> Gate:  # noqa: ANN401  tables of the settings
        """A worker that puts its requests on record here."""
        return Gate(spool=self.spool, **tables)

    @property
    def entries(self) -> list[RequestEntry]:
        """In the order in which they were written."""
        return entries(self.path)

    @property
    def entry(self) -> RequestEntry:
        """The one entry."""
        [only] = self.entries
        return only

    @property
    def counted(self) -> list[records.UnrecordedRefusals]:
        """What is on record by its number alone."""
        return [each for each in read_spool(self.path) if isinstance(each, records.UnrecordedRefusals)]

    def fill(self) -> Callable[[], None]:
        """Leave no room, nor any to be had, until what this returns is called."""

        def none(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        directory = self.spool._directory
        create = directory.create
        directory.create = none  # type: ignore[method-assign]
        with contextlib.suppress(SpoolFull):
            while True:
                self.spool.write(records.dropped_segment(0, 0))

        def room() -> None:
            directory.create = create  # type: ignore[method-assign]
            self.spool.blocked = self.spool._exhausted = False

        return room


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place where requests are on record."""
    made = Site(tmp_path / "spool")
    yield made
    made.spool.close()


# --- what it says -----------------------------------------------------------------------------------------------------


def test_an_answered_request_is_on_record_with_all_that_is_known(site: Site) -> None:
    gate = site.gate(routes=[{"path": "/v1"}])
    client = gate.ask(get(b"/v1/orders?token=x", KEY_FIELD + b"User-Agent: curl/8.5\r\n"))
    gate.loop.advance(0.5)
    gate.upstream.send(OK)
    [request_id] = [client.answer.one("x-request-id")]
    found = site.entry
    assert found._replace(at=0) == RequestEntry(
        position=found.position,
        at=0,
        duration=500_000,
        outcome=Outcome.ANSWERED,
        status=200,
        bytes_in=0,
        bytes_out=2,
        request_id=str(request_id),
        method="GET",
        path="/v1/orders",
        route="r0",
        upstream="default",
        address="192.0.2.7",
        user_agent="curl/8.5",
        code="",
        key_id="key_1",
        key_name="a key",
        secret_id="sec_1",
        organization_id="org_1",
        owner_id="mem_1",
        run=site.spool.run,
    )
    assert abs(found.at - (gate.wall_clock() - 0.5) * 1e6) < 2


def test_bodies_are_counted_both_ways_and_framing_is_not(site: Site) -> None:
    gate = site.gate()
    client = gate.client()
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + KEY_FIELD + b"\r\n"
    client.send(chunked, b"5\r\nhello\r\n", b"3\r\nyou\r\n0\r\n\r\n")
    gate.upstream.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nbody\r\n", b"2\r\nof\r\n0\r\n\r\n"
    )
    client.send(post(b"at once"))
    gate.upstream.send(OK)
    client.send(post(b"")[:-2] + b"\r\n")
    gate.upstream.send(b"HTTP/1.1 200 OK\r\n\r\n", b"until the end")
    gate.upstream.end()
    assert [(each.bytes_in, each.bytes_out) for each in site.entries] == [(8, 6), (7, 2), (0, 13)]


def test_the_answer_to_head_has_no_body(site: Site) -> None:
    gate = site.gate()
    gate.ask(b"HEAD / HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD + b"\r\n")
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    gate.ask(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [(each.method, each.status, each.bytes_out) for each in site.entries] == [("HEAD", 200, 0), ("HEAD", 401, 0)]


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (get(b"/v1", b""), 401, "missing_api_key"),
        (get(b"/other"), 404, "no_route"),
        (get(b"/v1%2Fb"), 404, "no_route"),
        (get(b"/v1/a%2Fb"), 400, "ambiguous_target"),
        (post(bytes(20), b"/v1"), 413, "body_too_large"),
        (get(b"/v1", b"X-API-KEY: " + OTHER_SECRET + b"\r\n"), 401, "invalid_api_key"),
    ],
)
def test_a_refusal_is_on_record_with_its_code(site: Site, request_: bytes, status: int, code: str) -> None:
    gate = site.gate(routes=[{"path": "/v1", "max_body_bytes": 10}])
    client = gate.ask(request_)
    found = site.entry
    assert (found.outcome, found.status, found.code) == (Outcome.REFUSED, status, code)
    assert (client.answer.status, client.code) == (status, code)
    assert found.bytes_out == len(client.answer.body)


def test_the_refusal_of_a_key_that_was_good_once_says_whose_it_is(site: Site) -> None:
    """Who looks for uses of a revoked key finds them."""
    gate = site.gate()
    gate.ask(get(b"/v1"))
    gate.upstream.send(OK)
    gate.revoke()
    gate.ask(get(b"/v1"))
    _, refused = site.entries
    assert (refused.outcome, refused.code, refused.key_id) == (Outcome.REFUSED, "revoked_api_key", "key_1")
    assert refused.organization_id == "org_1"


def test_what_is_no_request_is_on_record_without_one(site: Site) -> None:
    gate = site.gate()
    client = gate.ask(b"nonsense\r\n\r\n")
    found = site.entry
    assert (found.outcome, found.status, found.method, found.path) == (Outcome.REFUSED, 400, "", "")
    assert found.request_id == client.answer.one("x-request-id")
    assert found.address == "192.0.2.7"


def test_the_holder_s_own_page_is_on_record_whatever_the_rate(site: Site) -> None:
    gate = site.gate(server={"me_path": "/me"}, refusals_per_second=0)
    gate.ask(get(b"/me"))
    gate.ask(post(b"", b"/me"))
    assert [(each.status, each.route, each.upstream, each.key_id) for each in site.entries] == [
        (200, "me", "", "key_1"),
        (405, "me", "", "key_1"),
    ]


def test_behind_trusted_proxies_the_client_is_who_they_say(site: Site) -> None:
    gate = site.gate(server={"trusted_proxies": ["192.0.2.0/24"]})
    for chain in (
        b"6.6.6.6, 203.0.113.9, 192.0.2.8",
        b"[2001:db8::1]:80",
        b"203.0.113.4:80",
        b"unknown, 192.0.2.9",
        b"",
    ):
        gate.ask(get(fields=KEY_FIELD + b"X-Forwarded-For: " + chain + b"\r\n"))
        gate.upstreams[-1].send(OK)
    client = gate.client("198.51.100.1")
    client.send(get(fields=KEY_FIELD + b"X-Forwarded-For: 6.6.6.6\r\n"))
    gate.upstreams[-1].send(OK)
    addresses = [each.address for each in site.entries]
    assert addresses == ["203.0.113.9", "2001:db8::1", "203.0.113.4", "192.0.2.9", "192.0.2.7", "198.51.100.1"]


def test_a_failure_of_the_upstream_is_on_record_whatever_the_rate(site: Site) -> None:
    gate = site.gate(refusals_per_second=0, routes=[{"auth": "none"}])
    gate.ask(get(fields=b""))
    gate.upstream.send(b"nonsense\r\n\r\n")
    found = site.entry
    assert (found.outcome, found.status, found.code) == (Outcome.REFUSED, 502, "upstream_invalid_response")


def test_a_retry_is_one_request(site: Site) -> None:
    gate = site.gate()
    client = gate.ask(get())
    gate.upstream.send(OK)
    client.send(get(b"/again"))
    gate.upstreams[0].end()
    gate.upstreams[1].send(OK)
    assert [each.path for each in site.entries] == ["/", "/again"]


def test_interim_responses_are_no_answers(site: Site) -> None:
    gate = site.gate()
    gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert not site.entries
    gate.upstream.send(OK)
    assert site.entry.status == 200


def test_each_of_several_requests_sent_ahead_is_on_record(site: Site) -> None:
    gate = site.gate()
    client = gate.client()
    client.send(b"".join(get(b"/%d" % number) for number in range(5)))
    for number in range(5):
        assert len(site.entries) == number
        gate.upstream.send(OK)
    assert [each.path for each in site.entries] == [f"/{number}" for number in range(5)]


def watched(client: Client, look: Callable[[], int]) -> list[tuple[bytes, int]]:
    """What the client has and what is seen, at each moment at which bytes go out to it."""
    write, seen = client.transport.write, []

    def written(data: bytes | bytearray | memoryview) -> None:
        write(data)
        seen.append((client.received, look()))

    client.transport.write = written  # type: ignore[method-assign]
    return seen


# --- before the client has it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000),
    ],
)
def test_nobody_holds_a_whole_answer_that_is_not_on_record(site: Site, response: bytes) -> None:
    """Looked at whenever bytes go out to the client, wherever the upstream's bytes are cut."""
    cuts = [len(response) // 3, len(response) // 2, response.find(b"\r\n\r\n") + 4, len(response) - 1]
    for cut in cuts:
        gate = site.gate()
        client = gate.ask(get())
        before = len(site.entries)
        seen = watched(client, lambda: len(site.entries))
        gate.upstream.send(response[:cut], response[cut:])
        whole = client.received
        assert seen
        assert all(on_record == before + 1 for received, on_record in seen if received == whole)
        assert len(site.entries) == before + 1


def test_an_answer_that_cannot_be_put_on_record_does_not_go_out(site: Site) -> None:
    gate = site.gate()
    clients = [gate.ask(get()) for _ in range(3)]
    gate.upstreams[1].send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
    site.fill()
    gate.upstreams[0].send(OK)
    gate.upstreams[1].send(b"0\r\n\r\n")
    gate.upstreams[2].send(b"HTTP/1.1 200 OK\r\n\r\nbody")
    gate.upstreams[2].end()
    assert clients[0].received == b""
    assert not clients[1].received.endswith(b"0\r\n\r\n")
    assert all(each.aborted for each in clients)
    gate.check_counts()


def test_a_tunnel_that_cannot_be_put_on_record_does_not_open(site: Site) -> None:
    gate = site.gate()
    client = gate.ask(ASKING)
    site.fill()
    gate.upstream.send(SWITCHING)
    assert client.received == b""
    assert client.aborted


def test_while_there_is_no_room_new_requests_are_refused_and_counted(site: Site) -> None:
    gate = site.gate()
    waiting = gate.ask(get())
    site.spool.blocked = True
    refused = gate.ask(get())
    assert (refused.answer.status, refused.code) == (503, "audit_log_full")
    assert refused.answer.one("retry-after") == "1"
    refused.send(get(b"/again"))
    gate.upstream.send(OK)
    assert waiting.answer.status == 200
    assert [each.outcome for each in site.entries] == [Outcome.ANSWERED]
    gate.advance(1.5)
    assert [(each.code, each.count) for each in site.counted] == [("audit_log_full", 2)]
    site.spool.blocked = False
    served = gate.ask(get())
    gate.upstream.send(OK)
    assert served.answer.status == 200


# --- what lasts -------------------------------------------------------------------------------------------------------


def test_a_request_that_lasts_is_on_record_before_its_end_and_once(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/slow"))
    gate.advance(0.75)
    assert not site.entries
    gate.advance(0.75)
    begun = site.entry
    assert (begun.outcome, begun.status, begun.path) == (Outcome.OPEN, 0, "/slow")
    gate.advance(5)
    gate.upstream.send(OK)
    found = site.entries
    assert [(each.outcome, each.position, each.at) for each in found] == [
        (Outcome.OPEN, begun.position, begun.at),
        (Outcome.ANSWERED, begun.position, begun.at),
    ]
    assert found[1].duration == 6_500_000


def test_an_entry_is_of_one_moment_though_the_wall_clock_is_put_right_meanwhile(site: Site) -> None:
    """The store knows an entry by its place and its day: at another moment, its end would be another entry."""
    gate = site.gate()
    gate.ask(get(b"/slow"))
    gate.advance(2)
    recording = gate.worker.recording
    assert recording is not None
    clock = recording._wall_clock
    recording._wall_clock = lambda: clock() - 0.25
    gate.advance(2)
    gate.upstream.send(OK)
    begun, ended = site.entries
    assert (begun.outcome, ended.outcome, ended.at) == (Outcome.OPEN, Outcome.ANSWERED, begun.at)


def test_a_request_that_waits_for_the_key_store_is_not_let_in_yet(site: Site) -> None:
    gate = site.gate(refusals_per_second=0)
    gate.store.waits = True
    gate.ask(get())
    gate.advance(5)
    assert not site.entries


def test_a_tunnel_is_on_record_before_it_opens_and_counts_what_passes(site: Site) -> None:
    gate = site.gate()
    client = gate.ask(ASKING + b"early")
    gate.upstream.send(SWITCHING + b"first")
    assert (site.entry.outcome, site.entry.status) == (Outcome.OPEN, 101)
    client.send(b"question")
    gate.upstream.send(b"answer")
    client.end()
    gate.upstream.end()
    begun, ended = site.entries
    assert (ended.outcome, ended.status, ended.position) == (Outcome.ANSWERED, 101, begun.position)
    assert (ended.bytes_in, ended.bytes_out) == (len(b"early" + b"question"), len(b"first" + b"answer"))


def test_a_tunnel_that_took_its_time_to_open_is_one_entry(site: Site) -> None:
    gate = site.gate()
    client = gate.ask(ASKING)
    gate.advance(2)
    gate.upstream.send(SWITCHING)
    client.end()
    gate.upstream.end()
    begun, ended = site.entries
    assert (begun.outcome, ended.outcome) == (Outcome.OPEN, Outcome.ANSWERED)
    assert (ended.status, ended.position) == (101, begun.position)


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_tunnel_ends_when_one_of_the_two_goes(site: Site, who: str) -> None:
    gate = site.gate()
    client = gate.ask(ASKING)
    gate.upstream.send(SWITCHING)
    (client if who == "client" else gate.upstream).reset()
    assert [each.outcome for each in site.entries] == [Outcome.OPEN, Outcome.ANSWERED]


def test_a_stream_whose_key_is_revoked_says_so(site: Site) -> None:
    gate = site.gate()
    gate.ask(ASKING)
    gate.upstream.send(SWITCHING)
    gate.revoke()
    begun, ended = site.entries
    assert (ended.outcome, ended.code, ended.position) == (Outcome.ABORTED, "revoked_api_key", begun.position)


# --- what is cut off --------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_early_is_on_record(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/before")).reset()
    client = gate.ask(get(b"/within"))
    gate.upstreams[-1].send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    client.reset()
    assert [(each.path, each.outcome, each.status, each.bytes_out) for each in site.entries] == [
        ("/before", Outcome.ABORTED, 0, 0),
        ("/within", Outcome.ABORTED, 200, 4),
    ]


def test_a_response_that_breaks_off_is_on_record_with_the_reason(site: Site) -> None:
    gate = site.gate()
    gate.ask(get())
    gate.upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    gate.upstream.end()
    found = site.entry
    assert (found.outcome, found.status, found.code) == (Outcome.ABORTED, 200, "upstream_unreachable")


def test_what_a_drain_cuts_off_is_on_record(site: Site) -> None:
    gate = site.gate()
    gate.ask(get())
    gate.drain()
    gate.happens(gate.loop.create_task, gate.worker.shutdown(0))
    gate.loop.advance(1)
    assert site.entry.outcome == Outcome.ABORTED


# --- refusals in masses -----------------------------------------------------------------------------------------------


def test_above_the_rate_refusals_are_counted_by_reason(site: Site) -> None:
    gate = site.gate(refusals_per_second=3)
    for _ in range(5):
        gate.ask(get(fields=b""))
    gate.ask(b"nonsense\r\n\r\n")
    assert [each.code for each in site.entries] == ["missing_api_key"] * 3
    assert not site.counted
    gate.advance(1.25)
    assert sorted((each.code, each.count) for each in site.counted) == [
        ("malformed_request", 1),
        ("missing_api_key", 2),
    ]
    assert gate.recording is not None
    assert gate.recording.unrecorded == 3
    for _ in range(4):
        gate.ask(get(fields=b""))
    assert len(site.entries) == 6
    gate.recording.write_counts()
    assert len(site.counted) == 3
    assert all(abs(each.at / 1e6 - gate.wall_clock()) < 4 for each in site.counted)


def test_requests_that_pass_are_on_record_whatever_the_rate(site: Site) -> None:
    gate = site.gate(refusals_per_second=0)
    client = gate.client()
    for _ in range(50):
        client.send(get())
        gate.upstream.send(OK)
    assert len(site.entries) == 50
    assert not site.counted


def test_preflights_are_no_requests_of_a_key(site: Site) -> None:
    gate = site.gate(routes=[{"cors": {"allow_origins": ["https://app.test"]}}], refusals_per_second=1)
    preflight = (
        b"OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
    )
    for _ in range(3):
        gate.ask(preflight)
    found = site.entry
    assert (found.outcome, found.status, found.method, found.route) == (Outcome.ANSWERED, 204, "OPTIONS", "r0")
    gate.advance(2)
    assert [(each.code, each.count) for each in site.counted] == [("preflight", 2)]


def test_counts_without_room_are_not_forgotten(site: Site) -> None:
    gate = site.gate(refusals_per_second=0)
    gate.ask(get(fields=b""))
    assert gate.recording is not None
    room = site.fill()
    gate.recording.write_counts()
    gate.ask(b"nonsense\r\n\r\n")
    room()
    gate.recording.write_counts()
    assert sorted((each.code, each.count) for each in site.counted) == [
        ("malformed_request", 1),
        ("missing_api_key", 1),
    ]


# --- no secret --------------------------------------------------------------------------------------------------------

FOREIGN = b"a-key-of-another-system"


def nothing_of(secret: bytes, site: Site) -> bool:
    """Whether no file of the spool has it."""
    return all(secret not in each.path.read_bytes() for each in SpoolDirectory(site.path).segments())


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET, FOREIGN])
def test_a_key_is_not_on_record_wherever_a_client_puts_it(site: Site, secret: bytes) -> None:
    gate = site.gate()
    gate.store.put(FOREIGN)
    field = b"X-API-KEY: " + secret + b"\r\nUser-Agent: me/" + secret + b"\r\n"
    gate.ask(get(b"/a/" + secret + b"/b?key=" + secret, field))
    gate.ask(secret + b" / HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n")
    for each in gate.upstreams:
        each.send(OK)
    one, other = site.entries
    assert (one.path, one.user_agent, other.method) == ("/a/[secret]/b", "me/[secret]", "[secret]")
    assert nothing_of(secret, site)


def test_a_key_of_ours_is_not_on_record_though_another_was_presented(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/" + OTHER_SECRET))
    gate.upstream.send(OK)
    assert site.entry.path == "/[secret]"
    gate.ask(get(b"/" + SECRET, b""))
    assert nothing_of(SECRET, site)
    assert nothing_of(OTHER_SECRET, site)


@pytest.mark.parametrize("secret", [SECRET, FOREIGN])
def test_nor_is_its_beginning_where_a_text_is_cut(site: Site, secret: bytes) -> None:
    gate = site.gate()
    gate.store.put(FOREIGN)
    agent = b"User-Agent: " + b"y" * (512 - 9) + secret + b"\r\n"
    gate.ask(get(b"/" + b"x" * (2047 - 9) + secret, b"X-API-KEY: " + secret + b"\r\n" + agent))
    gate.upstream.send(OK)
    assert (site.entry.path[-9:], site.entry.user_agent[-9:]) == ("x[secret]", "y[secret]")
    assert nothing_of(secret[:9], site)


@pytest.mark.parametrize(
    ("path", "routes"),
    [
        (b"/a%2Fb/" + FOREIGN, {}),
        (b"/nowhere/" + FOREIGN, {"path": "/v1"}),
        (b"/open/" + FOREIGN, {"auth": "none"}),
    ],
)
@pytest.mark.parametrize("field", [b"X-API-KEY: ", b"Authorization: Bearer ", b"Authorization: Token token="])
def test_nor_is_a_key_that_nobody_has_judged(site: Site, path: bytes, routes: dict[str, Any], field: bytes) -> None:
    """Refused before the policies, or on a route that asks for none: whatever was presented as a credential."""
    gate = site.gate(routes=[{"path": "/", **routes}])
    for _ in range(2):  # the second one of a connection goes a shorter way
        client = gate.ask(get(path, field + FOREIGN + b"\r\n"))
        if client.answers:
            assert client.answer.status in {400, 404}
        else:
            gate.upstream.send(OK)
    assert nothing_of(FOREIGN, site)


@pytest.mark.parametrize("secret", [b"imported+secret=1", SECRET])
def test_nor_is_a_key_in_another_spelling(site: Site, secret: bytes) -> None:
    gate = site.gate()
    gate.store.put(secret)
    spelled = b"".join(b"%%%02x" % each for each in secret)
    for escaped in (spelled, quote_from_bytes(secret, safe="").encode()):
        gate.ask(get(b"/hook/" + escaped, b"X-API-KEY: " + secret + b"\r\n"))
        gate.upstreams[-1].send(OK)
        assert nothing_of(escaped, site)
    assert len(site.entries) == 2


def test_requests_of_several_keys_on_one_connection_are_told_apart(site: Site) -> None:
    """What is kept of a connection is of no key, and is not kept where it has the next one's secret in it."""
    gate = site.gate()
    gate.store.put(FOREIGN, key_id="key_2", key_name="another")
    client = gate.client()
    agent = b"User-Agent: " + FOREIGN + b"\r\n"
    for key in (SECRET, SECRET, FOREIGN, SECRET):
        client.send(get(fields=b"X-API-KEY: " + key + b"\r\n" + agent))
        gate.upstream.send(OK)
    found = [(each.key_id, each.key_name, each.user_agent) for each in site.entries]
    own, other = ("key_1", "a key", FOREIGN.decode()), ("key_2", "another", "[secret]")
    assert found == [own, own, other, own]


def test_what_is_too_short_to_be_a_key_hides_nothing(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/delete/all", b"X-API-KEY: delete\r\n"))
    assert site.entry.path == "/delete/all"


def test_no_query_is_on_record(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/a?private=1"))
    gate.upstream.send(OK)
    gate.ask(get(b"/a?private=2", b""))
    assert nothing_of(b"private", site)


def test_long_texts_are_cut(site: Site) -> None:
    gate = site.gate()
    gate.ask(get(b"/" + b"x" * 4000, KEY_FIELD + b"User-Agent: " + b"y" * 4000 + b"\r\n"))
    gate.upstream.send(OK)
    gate.ask(b"M" * 4000 + b" / HTTP/1.1\r\nHost: h\r\n" + KEY_FIELD + b"\r\n")
    one, other = site.entries[0], site.spool
    assert (len(one.path), len(one.user_agent)) == (2048, 512)
    assert other.entries == 1
