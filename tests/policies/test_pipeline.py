"""Which checks a route has, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.policies.credentials import Credentials, StrippedCredentials
from gateway.policies.key_auth import KeyAuth
from gateway.policies.onward import Onward
from gateway.policies.origins import Origins
from gateway.policies.permissions import Permissions
from gateway.policies.tenant import Tenant
from gateway.proxy.routes import Route
from tests.proxy.harness import Gate


@pytest.mark.parametrize(
    ("route", "kinds"),
    [
        ({"auth": "required"}, [Credentials, KeyAuth, Origins, Onward]),
        ({"auth": "optional"}, [Credentials, KeyAuth, Origins, Onward]),
        ({"auth": "required", "permissions": ["a:b"]}, [Credentials, KeyAuth, Origins, Onward, Permissions]),
        ({"auth": "optional", "permissions": ["a:b"]}, [Credentials, KeyAuth, Origins, Onward, Permissions]),
        ({"auth": "none"}, [StrippedCredentials, Onward]),
    ],
)
def test_the_policies_of_a_route(route: dict[str, Any], kinds: list[type]) -> None:
    found = Gate(routes=[route]).worker.routes.match(b"h", b"GET", b"/")
    assert isinstance(found, Route)
    assert [type(each) for each in found.policies] == kinds


def test_a_tenant_header_adds_a_check() -> None:
    found = Gate(auth={"tenant_header": "customer-id"}).worker.routes.match(b"h", b"GET", b"/")
    assert isinstance(found, Route)
    assert [type(each) for each in found.policies] == [Credentials, KeyAuth, Origins, Tenant, Onward]


def test_policies_are_shared_between_routes() -> None:
    routes = Gate(routes=[{}, {"path": "/a"}]).worker.routes
    first, second = routes.match(b"h", b"GET", b"/"), routes.match(b"h", b"GET", b"/a")
    assert isinstance(first, Route)
    assert isinstance(second, Route)
    assert first.policies == second.policies
