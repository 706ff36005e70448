"""The correctness probe: a peer is measured only after each of its promises was seen to hold.

Invariant: every peer, whatever it promises, lets a good key through, refuses an unknown and an absent one, passes
bodies of every measured size intact, and does so over one kept-alive connection.
"""

import hashlib
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.peer import Peer, Promise, Site
from benchmarks.upstream import ANSWER, FILES

FORGED = {
    "X-Consumer-ID": "forged",
    "x-consumer-username": "forged",
    "X-CONSUMER-CUSTOM-ID": "forged",
    "X-Credential-Identifier": "forged",
    "X-Organization-ID": "forged",
    "X-Anonymous-Consumer": "forged",
    "X_Consumer_ID": "forged",
    "X-Request-ID": "forged",
    "X-Forwarded-For": "forged",
    "X-Forwarded-Proto": "forged",
    "X-Forwarded-Host": "forged",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: fields with lower-case names."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def echoed(self) -> Mapping[str, str]:
        """What the upstream's echo says it received; empty for anything else."""
        try:
            told: dict[str, str] = json.loads(self.body)
        except ValueError:
            return {}
        return told


class ProbeClient:
    """One kept-alive connection to a peer."""

    def __init__(self, site: Site, files: Path) -> None:
        self.site = site
        self.files = files
        self._connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)

    @property
    def key(self) -> str:
        """A key that must be let through."""
        return self.site.keys.good[0].secret

    def get(self, path: str, fields: Mapping[str, str]) -> Answer:
        """Ask once on the kept-alive connection, and read the whole answer."""
        return self._ask(self._connection, "GET", path, fields, None)

    def post_alone(self, path: str, fields: Mapping[str, str], body: bytes) -> Answer:
        """Post on a connection of its own.

        The upstream answers without waiting for a body, and a peer that streams may then close, rightly.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=15)
        try:
            return self._ask(connection, "POST", path, fields, body)
        finally:
            connection.close()

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        fields: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        connection.request(method, path, body=body, headers=dict(fields))
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())

    def with_key(self, path: str, key: str | None = None, **more: str) -> Answer:
        """Ask with a key in X-API-KEY, the good one unless another is named."""
        return self.get(path, {"X-API-KEY": key or self.key, **more})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def problems(peer: Peer, site: Site, files: Path) -> list[str]:
    """Return everything in which the running peer falls short of its promises; empty when it may be measured."""
    client = ProbeClient(site, files)
    checks = (_basics, *(check for promise, check in CHECKS.items() if promise in peer.promises))
    try:
        return [problem for check in checks for problem in check(client)]
    except (OSError, http.client.HTTPException) as error:
        return [f"broke the connection: {error!r}"]
    finally:
        client.close()


def _basics(client: ProbeClient) -> Iterator[str]:
    """Good key in, others out, bodies intact."""
    if client.with_key("/json").body != ANSWER.encode():
        yield "a good key did not get the upstream's answer"
    if client.post_alone("/json", {"X-API-KEY": client.key}, b"x" * 1024).status != 200:
        yield "a POST with a good key did not get through"
    if client.get("/json", {}).status != 401:
        yield "a request without a key was not refused with 401"
    if client.with_key("/json", client.site.keys.unknown[0]).status != 401:
        yield "an unknown key was not refused with 401"
    for name in FILES:
        sent = hashlib.sha256((client.files / name).read_bytes()).digest()
        if hashlib.sha256(client.with_key(f"/{name}").body).digest() != sent:
            yield f"the body of /{name} did not arrive intact"


def _consumer_header(client: ProbeClient) -> Iterator[str]:
    told = client.get("/echo", {"X-API-KEY": client.key, "X-Consumer-ID": "forged"}).echoed
    if told.get("x-consumer-id") != client.site.keys.good[0].record.owner_id:
        yield f"the upstream was told X-Consumer-ID {told.get('x-consumer-id')!r}"


def _hides_credential(client: ProbeClient) -> Iterator[str]:
    if client.key.encode() in client.with_key("/echo").body:
        yield "the upstream saw the key"


def _identity_headers(client: ProbeClient) -> Iterator[str]:
    record = client.site.keys.good[0].record
    told = client.get("/echo", {"X-API-KEY": client.key, **FORGED}).echoed
    wanted = {
        "x-consumer-id": record.owner_id,
        "x-consumer-username": record.owner_name,
        "x-consumer-custom-id": record.owner_external_id,
        "x-credential-identifier": record.key_id,
        "x-organization-id": record.organization_id,
        "x-anonymous-consumer": "",
    }
    for name, value in wanted.items():
        if told.get(name) != value:
            yield f"the upstream was told {name} {told.get(name)!r}, not {value!r}"


def _bearer(client: ProbeClient) -> Iterator[str]:
    answer = client.get("/echo", {"Authorization": f"Bearer {client.key}"})
    if answer.status != 200 or answer.echoed.get("authorization"):
        yield f"a Bearer key got {answer.status}, or reached the upstream"


def _status(client: ProbeClient) -> Iterator[str]:
    keys = client.site.keys
    for kind, key in (("expired", keys.expired), ("disabled", keys.disabled), ("revoked", keys.revoked)):
        if client.with_key("/json", key.secret).status != 401:
            yield f"an {kind} key was not refused with 401"


def _permissions(client: ProbeClient) -> Iterator[str]:
    if client.with_key("/json", client.site.keys.unpermitted.secret).status != 403:
        yield "a key without the route's permission was not refused with 403"


def _request_id(client: ProbeClient) -> Iterator[str]:
    answer = client.get("/echo", {"X-API-KEY": client.key, **FORGED})
    told = answer.echoed.get("x-request-id")
    if not told or told == "forged" or answer.fields.get("x-request-id") != told:
        yield f"X-Request-ID upstream {told!r}, in the answer {answer.fields.get('x-request-id')!r}"


def _forwarded(client: ProbeClient) -> Iterator[str]:
    told = client.get("/echo", {"X-API-KEY": client.key, **FORGED}).echoed
    wanted = {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": f"127.0.0.1:{client.site.port}",
    }
    for name, value in wanted.items():
        if told.get(name) != value:
            yield f"the upstream was told {name} {told.get(name)!r}, not {value!r}"


def _problem_json(client: ProbeClient) -> Iterator[str]:
    for key in ("", client.site.keys.unknown[1]):
        answer = client.get("/json", {"X-API-KEY": key} if key else {})
        if not answer.fields.get("content-type", "").startswith("application/problem+json"):
            yield "a refusal was not application/problem+json"
        elif not answer.echoed.get("code") or "www-authenticate" not in answer.fields:
            yield "a refusal lacks its code or its challenge"


CHECKS: Mapping[Promise, Callable[[ProbeClient], Iterator[str]]] = {
    Promise.CONSUMER_HEADER: _consumer_header,
    Promise.HIDES_CREDENTIAL: _hides_credential,
    Promise.IDENTITY_HEADERS: _identity_headers,
    Promise.BEARER: _bearer,
    Promise.STATUS: _status,
    Promise.PERMISSIONS: _permissions,
    Promise.REQUEST_ID: _request_id,
    Promise.FORWARDED: _forwarded,
    Promise.PROBLEM_JSON: _problem_json,
}
