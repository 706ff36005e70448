"""What one client or upstream sends without end holds up nobody else, and is not remembered."""

import pytest

from tests.proxy.harness import KEY_FIELD, Gate, get


def test_a_host_longer_than_any_name_is_refused() -> None:
    gate = Gate(routes=[{"hosts": ["*.example.com"]}])
    client = gate.ask(b"GET / HTTP/1.1\r\nHost: " + b"." * 300 + b"\r\n\r\n")
    assert client.answer.status == 400


def test_a_pipeline_without_end_is_answered_in_turns_and_held_within_bounds() -> None:
    gate = Gate()
    client = gate.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4000)
    assert len(client.answers) == 4000
    assert {answer.status for answer in client.answers} == {401}
    assert client.open


@pytest.mark.parametrize("form", [b'Token token="%b"', b"ApiKey key=%b", b'Bearer "%b"', b"Bearer %b,"])
def test_a_key_in_authorization_stays_here_however_it_is_put(form: bytes) -> None:
    secret = KEY_FIELD.split()[1]
    gate = Gate(routes=[{"auth": "none"}])
    gate.ask(get(fields=b"Authorization: " + form % secret + b"\r\n"))
    assert secret not in gate.upstream.received
