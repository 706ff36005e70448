"""A secret that is sent in the place of something else is not in the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.control.api.conftest import Api

SECRET = "{secret}"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/keys/" + SECRET, None),
        ("POST", f"/v1/keys/{SECRET}/revoke", {}),
        ("PATCH", "/v1/members/" + SECRET, {"role": "admin"}),
        ("DELETE", f"/v1/members/{SECRET}?keys=revoke", None),
        ("GET", "/v1/service-accounts/" + SECRET, None),
        ("GET", "/v1/organizations/" + SECRET, None),
        ("GET", "/v1/nothing/" + SECRET, None),
        ("POST", "/v1/keys/key_x/disable", {SECRET: 1}),
        ("GET", "/v1/keys?owner=" + SECRET, None),
        ("GET", "/v1/keys?status=" + SECRET, None),
        ("GET", "/v1/keys?limit=" + SECRET, None),
        ("GET", "/v1/keys?cursor=" + SECRET, None),
        ("GET", f"/v1/keys?{SECRET}=1", None),
        ("GET", "/v1/audit?from=" + SECRET, None),
        ("POST", "/v1/keys", {"name": "x", "owner": SECRET}),
        ("POST", "/v1/keys", {"name": "x", "expires": SECRET}),
        ("POST", "/v1/keys", {"name": "x", "permissions": [SECRET]}),
        ("POST", "/v1/keys", {"name": "x", "permissions": [SECRET + ":read"]}),
        ("POST", "/v1/keys", {"name": "x", "allowed_origins": [SECRET]}),
        ("POST", "/v1/keys", {"name": "x", SECRET: 1}),
        ("POST", "/v1/members", {"email": SECRET}),
        ("POST", "/v1/keys/import", {"name": "x", "sha256": SECRET, "entropy_bits": 256}),
        ("POST", "/v1/keys/verify", {"key": SECRET}),
        ("POST", "/v1/keys/verify", {"key": SECRET, "permissions": [SECRET]}),
    ],
)
async def test_no_answer_repeats_a_secret(api: Api, method: str, path: str, body: object) -> None:
    secret = api.keys["member"]

    def filled(value: object) -> object:
        if isinstance(value, str):
            return value.replace(SECRET, secret)
        if isinstance(value, dict):
            return {filled(name): filled(each) for name, each in value.items()}
        return [filled(each) for each in value] if isinstance(value, list) else value

    answer = await api.call(method, path.replace(SECRET, secret), filled(body))
    text = repr(answer) + repr(dict(answer.headers)) + answer.content.decode()
    assert not any(secret[at : at + 10] in text for at in range(3, len(secret) - 10)), text
