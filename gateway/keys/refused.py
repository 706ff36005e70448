"""Why a credential is refused, in public words: the same ones for the same code, at the proxy and at the admin API.

Invariant: none of them repeats what was presented. Each side writing its own was turned down, since their readers are
the same people, who would look for a difference that is not there.
"""

from typing import Final

from gateway.keys.record import Status

MISSING: Final = "This API needs a key: send it as `X-API-KEY: <key>` or `Authorization: Bearer <key>`."
MALFORMED: Final = "The API key is not one that this gateway could have issued; check that it was copied whole."
UNKNOWN: Final = "The API key is well-formed but unknown here: rotated out, deleted, or of another gateway."
WRONG_ORIGIN: Final = "The API key is made for certain web pages, and this request comes from none of them."
INACTIVE: Final = {
    Status.REVOKED: ("revoked_api_key", "The API key has been revoked; use another one."),
    Status.EXPIRED: ("expired_api_key", "The API key, or this secret of it, has expired; use a newer one."),
    Status.DISABLED: ("disabled_api_key", "The API key is disabled; an administrator can enable it again."),
}
"""Code and sentence of a key that is known. A secret that was rotated out, and outlived its grace, is expired."""
