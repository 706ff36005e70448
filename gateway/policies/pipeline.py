"""The order of the policies, per kind of route. This list is the whole of it."""

from typing import Literal

from gateway.cache.key_cache import KeyCache
from gateway.policies.challenges import Challenges
from gateway.policies.contract import Policy
from gateway.policies.credentials import Credentials, StrippedCredentials
from gateway.policies.key_auth import KeyAuth
from gateway.policies.onward import Onward
from gateway.policies.origins import Origins
from gateway.policies.permissions import Permissions
from gateway.policies.tenant import Tenant


class Pipeline:
    """Builds each policy once; routes share them."""

    __slots__ = ("_admission", "_permissions", "_stripping")

    def __init__(
        self,
        cache: KeyCache,
        *,
        key_prefix: str,
        realm: str,
        generic_errors: bool,
        bare_authorization: bool,
        tenant_header: str | None,
    ) -> None:
        challenges = Challenges(realm, generic=generic_errors)
        credentials = Credentials(key_prefix, bare_authorization=bare_authorization)
        onward = Onward(cache)
        self._stripping: tuple[Policy, ...] = (StrippedCredentials(credentials), onward)
        self._admission: tuple[Policy, ...] = (
            credentials,
            KeyAuth(cache, challenges, key_prefix),
            Origins(challenges),
            *((Tenant(challenges, tenant_header),) if tenant_header else ()),
            onward,
        )
        self._permissions = Permissions(challenges)

    def for_route(
        self, auth: Literal["required", "optional", "none"], permissions: tuple[str, ...]
    ) -> tuple[Policy, ...]:
        """The checks of a route, in their order."""
        if auth == "none":
            return self._stripping
        return (*self._admission, self._permissions) if permissions else self._admission
