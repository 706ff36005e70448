"""Whatever a name holds, it is the value of one field, and can be read back."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policies.identity import identity_fields
from tests.proxy.harness import record
from tests.proxy.profiles import scaled

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(" \t\r\n%\0\x7f:a", max_size=8)


@settings(max_examples=scaled(300), deadline=None)
@given(NAMES, NAMES, st.none() | NAMES, NAMES, NAMES)
def test_any_names_become_fields_that_read_back(
    owner: str, name: str, external: str | None, organization: str, key: str
) -> None:
    found = record(
        owner_id=owner, owner_name=name, owner_external_id=external, organization_id=organization, key_id=key
    )
    lines = b"\r\n".join(identity_fields(found)).split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    expected = {
        b"X-Consumer-ID": owner,
        b"X-Consumer-Username": name,
        b"X-Credential-Identifier": key,
        b"X-Organization-ID": organization,
    }
    if external is not None:
        expected[b"X-Consumer-Custom-ID"] = external
    assert set(fields) == set(expected)
    for field, value in fields.items():
        assert all(0x20 <= byte < 0x7F for byte in value), field
        assert value == value.strip(b" ")
        assert unquote(value.decode()) == expected[field]


def test_a_plain_name_stays_readable() -> None:
    line = identity_fields(record(owner_name="Ann O'Neil <ann@example.com>, sales", owner_external_id="crm/42?x=1"))[0]
    assert b"X-Consumer-Username: Ann O'Neil %3Cann@example.com%3E, sales" in line
    assert b"X-Consumer-Custom-ID: crm/42?x=1" in line
