"""The order of the policies, per kind of route. This list is the whole of it."""

from typing import Literal

from gateway.cache.key_cache import KeyCache
from gateway.policies.challenges import Challenges
from gateway.policies.contract import Policy
from gateway.policies.credentials import Credentials, StrippedCredentials
from gateway.policies.key_auth import KeyAuth
from gateway.policies.permissions import Permissions


class Pipeline:
    """Builds each policy once; routes share them."""

    __slots__ = ("_credentials", "_key_auth", "_permissions", "_stripped")

    def __init__(
        self, cache: KeyCache, *, key_prefix: str, realm: str, generic_errors: bool, bare_authorization: bool
    ) -> None:
        challenges = Challenges(realm, generic=generic_errors)
        self._credentials = Credentials(key_prefix, bare_authorization=bare_authorization)
        self._stripped = StrippedCredentials(self._credentials)
        self._key_auth = KeyAuth(cache, challenges, key_prefix)
        self._permissions = Permissions(challenges)

    def for_route(
        self, auth: Literal["required", "optional", "none"], permissions: tuple[str, ...]
    ) -> tuple[Policy, ...]:
        """The checks of a route, in their order."""
        if auth == "none":
            return (self._stripped,)
        policies: tuple[Policy, ...] = (self._credentials, self._key_auth)
        return (*policies, self._permissions) if permissions else policies
