"""Whatever is sent, by whomever: no answer is a failure, and every answer is one that the document tells of.

schemathesis makes the calls from the document itself, well-formed ones and others; statuses, codes, media types, header
fields and bodies of the answers are held against it. What was made up hardly ever succeeds, so some of the calls are
made to; each operation must have. `make test` tries 50 calls of each operation, `make fuzz-api` 1,000.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from gateway.control.api import openapi
from gateway.control.api.operations import OPERATIONS
from tests.control.api.conftest import Api, Clock, Populated, running
from tests.proxy.profiles import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case

    from gateway.control.api.operation import Operation

STORES: Final = ("sqlite", "postgres")
EXAMPLES: Final = 50
LEAST_SUCCESSES: Final = 2
CALLERS: Final = ("admin", "admin", "admin", "member", "limited", "robot", "stranger", None)
TARGETS: Final = ("generated", "kept", "fresh", "fresh", "used", "stranger's")
CONFIG: Final = schemathesis.Config()
CONFIG.projects.default.generation.with_security_parameters = False
# What breaks a rule is refused, by whichever of these comes first; never with a success.
CONFIG.projects.default.checks.negative_data_rejection.expected_statuses = ["400", "401", "403", "404", "409", "412"]
SCHEMA: Final = schemathesis.openapi.from_dict(openapi.document(), config=CONFIG)
MODES: Final = (GenerationMode.POSITIVE, GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
# Bodies and parameters that succeed, where `{}` would not; `#` becomes a number that is new.
SOUND_BODIES: Final[dict[str, dict[str, Any]]] = {  # Any: JSON
    "create_key": {"name": "sound"},
    "update_key": {"name": "sound-#", "permissions": ["orders:read"]},
    "create_member": {"email": "sound-#@example.com"},
    "update_member": {"permissions": ["orders:read"]},
    "create_service_account": {"name": "sound-#"},
    "update_service_account": {"name": "sound-#", "permissions": ["orders:read"]},
    "create_organization": {"name": "sound-#", "admin": "sound@example.com"},
    "update_organization": {"name": "sound-#"},
    "verify_key": {"key": "sk_#"},
}
SOUND_PARAMETERS: Final = {"remove_member": {"keys": "revoke"}, "remove_service_account": {"keys": "revoke"}}
# Which of `Api.ids` are addressed, as long as nobody who calls here could lose their key by it.
KEPT: Final = {"keys": "limited key", "members": "member", "service-accounts": "service account"}
STRANGERS: Final = {"keys": "stranger's key", "members": "stranger", "organizations": "other organization"}


class Site:
    """An API in a thread of its own, on a copy of the store with people in it, called from here."""

    def __init__(self, store_url: str) -> None:
        self.session = requests.Session()
        self.api: Api
        self._store_url = store_url
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._made: dict[str, list[str]] = {}
        self._sound = 0

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()
        self.session.close()

    async def _serve(self) -> None:
        async with running(self._store_url, Clock()) as (self.api, _):
            self._ready.set()
            await self._ended.wait()

    def fresh(self, collection: str) -> str:
        """A new thing, which a call may end."""
        made = self._made.setdefault(collection, [])
        name = f"fresh-{len(made)}"
        body = {
            "keys": {"name": name, "owner": self.api.ids["service account"], "permissions": ["orders:read"]},
            "members": {"email": f"{name}@example.com", "first_key": True},
            "service-accounts": {"name": name},
            "organizations": {"name": name, "admin": "x@example.com"},
        }[collection]
        headers = {"X-API-KEY": self.api.keys["admin"]}
        answer = self.session.post(f"{self.api.url}/v1/{collection}", json=body, headers=headers, timeout=60)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
        return made[-1]

    def sound(self, operation: Operation, case: Case[Any]) -> None:  # Any: as below
        """Make a call one that an admin succeeds with."""
        self._sound += 1
        if operation.takes_body:
            body = SOUND_BODIES.get(operation.name, {})
            if operation.name == "import_key":
                digest = hashlib.sha256(b"%d" % self._sound).hexdigest()
                body = {"name": "sound", "sha256": digest, "entropy_bits": 128}
            case.body = json.loads(json.dumps(body).replace("#", str(self._sound)))
            case.media_type = "application/json"
        case.query = dict(SOUND_PARAMETERS.get(operation.name, {}))
        case.headers.clear()
        if "{id}" in operation.path:
            case.path_parameters["id"] = self.fresh(operation.path.split("/")[1])

    def target(self, operation: Operation, wanted: str, caller: str | None) -> str | None:
        """An id for the path, or None for the one that was generated."""
        collection = operation.path.split("/")[1]
        if wanted in {"fresh", "used"}:
            made = self._made.get(collection)
            return made[-1] if wanted == "used" and made else self.fresh(collection)
        names = {"kept": KEPT, "stranger's": STRANGERS}.get(wanted, {})
        foreign = wanted == "stranger's" and caller != "stranger" and collection != "organizations"
        if collection not in names or not (operation.method == "GET" or foreign):
            return None
        return self.api.ids[names[collection]]


@pytest.fixture(scope="session")
def site(populated: Populated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    started = Site(populated.copied(tmp_path_factory.mktemp("conformance")))
    started.start()
    started.api.keys, started.api.ids = populated.keys, populated.ids
    yield started
    started.end()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_no_answer_is_a_failure_and_every_one_is_documented(operation: Operation, site: Site) -> None:
    load_all_checks()
    described = SCHEMA.find_operation_by_id(operation.name)

    calls = st.tuples(
        st.one_of([described.as_strategy(mode) for mode in MODES]), st.sampled_from(CALLERS), st.sampled_from(TARGETS)
    )
    sound_calls = st.tuples(described.as_strategy(GenerationMode.POSITIVE), st.just("admin"), st.just("sound"))
    successes = 0

    @settings(max_examples=scaled(EXAMPLES), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(call=st.sampled_from([calls, calls, calls, sound_calls]).flatmap(lambda kind: kind))
    # Any: what the framework under a schema adds to a case; none is used here.
    def judge(call: tuple[Case[Any], str | None, str]) -> None:
        nonlocal successes
        case, caller, target = call
        if target == "sound":
            site.sound(operation, case)
        elif "{id}" in operation.path and (thing := site.target(operation, target, caller)) is not None:
            case.path_parameters["id"] = thing
        headers = {} if caller is None else {"X-API-KEY": site.api.keys[caller]}
        response = case.call(base_url=site.api.url, session=site.session, headers=headers)
        case.validate_response(response, checks=CHECKS)
        assert target != "sound" or response.status_code < 300, response.text
        successes += response.status_code < 300

    judge()
    assert successes >= scaled(LEAST_SUCCESSES)
