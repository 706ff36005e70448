"""A request that names an organization goes on only if every such field names the one that its key belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cache.key_cache import Entry
from gateway.policies.challenges import Challenges
from gateway.policies.identity import identity_fields
from gateway.policies.tenant import Tenant
from tests.policies.subject import Subject
from tests.proxy.harness import KEY_FIELD, OK, OTHER_SECRET, SECRET, Gate, error_of, get, record

CHALLENGES = Challenges("gateway", generic=False)
HEADER = {"tenant_header": "customer-id"}


def judge(*lines: bytes, header: str = "customer-id", anonymous: bool = False, **key: Any) -> bool:  # noqa: ANN401
    """Whether a request with these fields goes on; the refusal is always the same."""
    subject = Subject(forwarded=[b"Accept: */*", *lines])
    if not anonymous:
        found = record(**key)
        subject.entry = Entry(found, identity_fields(found), 0.0, 0.0, 60.0)
    refusal = Tenant(CHALLENGES, header).check(subject)
    assert refusal is None or refusal is CHALLENGES.wrong_organization
    return refusal is None


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        ([], True),
        ([b"customer-id: org_1"], True),
        ([b"customer-id: acme"], True),
        ([b"customer-id: org_1", b"Customer-ID: acme"], True),
        ([b"customer-id: org_2"], False),
        ([b"customer-id: "], False),
        ([b"customer-id: ACME"], False),
        ([b"customer-id: acm"], False),
        ([b"customer-id: acme, acme"], False),
        ([b"customer-id: org_1, org_2"], False),
        ([b"customer-id: org_1", b"customer-id: org_2"], False),
        ([b"customer-id: org_2", b"customer-id: org_1"], False),
        ([b"CUSTOMER-ID: org_2"], False),
        ([b"customer_id: org_2"], False),
        ([b"customer-id: org_1", b"customer_id: org_2"], False),
        ([b"customer_id: org_1"], True),
        ([b"customer-id2: org_2"], True),
        ([b"x-customer-id: org_2"], True),
    ],
)
def test_every_field_of_that_name_agrees(lines: list[bytes], *, good: bool) -> None:
    assert judge(*lines, organization_external_id="acme") is good


def test_an_organization_without_an_external_id_has_its_id_alone() -> None:
    assert judge(b"customer-id: org_1")
    assert not judge(b"customer-id: None")
    assert not judge(b"customer-id: ")


@pytest.mark.parametrize(("spelt", "good"), [("utf-8", True), ("latin-1", False)])
def test_an_external_id_of_any_language_is_compared_as_utf_8(spelt: str, *, good: bool) -> None:
    """One spelling, byte for byte: of two, one could be that of another organization."""
    assert judge(b"customer-id: " + "Zürich".encode(spelt), organization_external_id="Zürich") is good
    assert not judge(b"customer-id: Z%C3%BCrich", organization_external_id="Zürich")
    assert judge("customer-id: 株式会社".encode(), organization_external_id="株式会社")


@pytest.mark.parametrize("header", ["customer-id", "Customer_ID", "CUSTOMER-ID"])
def test_the_setting_may_be_spelt_as_people_like(header: str) -> None:
    assert judge(b"Customer-Id: org_1", header=header)
    assert not judge(b"customer_id: org_2", header=header)


def test_a_request_without_a_key_names_what_it_likes() -> None:
    assert judge(b"customer-id: org_2", anonymous=True)


# --- through the gateway ----------------------------------------------------------------------------------------------


def test_the_wrong_organization_is_a_403_and_goes_no_further() -> None:
    gate = Gate(auth=HEADER)
    client = gate.ask(get(fields=KEY_FIELD + b"Customer_Id: org_2\r\n"))
    assert error_of(client.answer) == (403, "wrong_organization")
    assert client.answer.all("www-authenticate") == [
        'Bearer realm="gateway", error="insufficient_scope"',
        'ApiKey realm="gateway"',
    ]
    assert b"org_" not in client.received
    assert not gate.upstreams
    assert client.open


def test_the_right_one_travels_on_as_it_was_sent() -> None:
    gate = Gate(auth=HEADER)
    gate.store.put(SECRET, organization_external_id="Zürich")
    client = gate.ask(get(fields=KEY_FIELD + "Customer-ID:  Zürich \r\n".encode()))
    gate.upstream.send(OK)
    assert client.answer.status == 200
    assert (b"Customer-ID", "Zürich".encode()) in gate.upstream.request.fields


def test_a_field_that_connection_takes_away_says_nothing_to_anybody() -> None:
    gate = Gate(auth=HEADER)
    gate.ask(get(fields=KEY_FIELD + b"Connection: customer-id\r\ncustomer-id: org_2\r\n"))
    assert b"org_2" not in gate.upstream.received


def test_a_key_that_is_no_good_is_told_that_first() -> None:
    gate = Gate(auth=HEADER)
    client = gate.ask(get(fields=b"X-API-KEY: " + OTHER_SECRET + b"\r\ncustomer-id: org_2\r\n"))
    assert error_of(client.answer) == (401, "invalid_api_key")


@pytest.mark.parametrize("auth", ["optional", "none"])
def test_without_a_key_there_is_nothing_to_compare_with(auth: str) -> None:
    gate = Gate(routes=[{"auth": auth}], auth=HEADER)
    gate.ask(get(fields=b"customer-id: org_2\r\n"))
    assert gate.upstream.request.all("customer-id") == ["org_2"]


def test_where_no_header_is_set_the_field_is_like_any_other() -> None:
    gate = Gate()
    gate.ask(get(fields=KEY_FIELD + b"customer-id: org_2\r\n"))
    assert gate.upstream.request.all("customer-id") == ["org_2"]
