"""The fields by which an upstream learns whose key a request came with.

Invariant: values are visible ASCII whatever a name holds (percent-encoded UTF-8, RFC 3986 section 2.1), so no name can
end a field or start another one. Names of the fields follow Kong, whose plugins' users expect them.
"""

from functools import lru_cache
from urllib.parse import quote

from gateway.keys.record import CredentialRecord

_READABLE = "!#$&'()*+,/:;=?@[]^`{|}~ "


def identity_fields(record: CredentialRecord) -> tuple[bytes, bytes]:
    """The fields of the key's owner as lines joined with CRLF, and the field of the key itself."""
    owner = _owner_fields(record.owner_id, record.owner_name, record.owner_external_id, record.organization_id)
    return owner, _line("X-Credential-Identifier", record.key_id)


@lru_cache(maxsize=4096)
def _owner_fields(owner_id: str, name: str, external_id: str | None, organization_id: str) -> bytes:
    """One object for all keys of an owner, since each cached key holds on to it."""
    lines = [_line("X-Consumer-ID", owner_id), _line("X-Consumer-Username", name)]
    if external_id is not None:
        lines.append(_line("X-Consumer-Custom-ID", external_id))
    lines.append(_line("X-Organization-ID", organization_id))
    return b"\r\n".join(lines)


def _line(name: str, value: str) -> bytes:
    return f"{name}: {_visible(value)}".encode()


ANONYMOUS_FIELDS = b"X-Anonymous-Consumer: true"
"""For a request without a key on a route where a key is optional."""


def _visible(value: str) -> str:
    """Percent-encode what is not visible ASCII, the percent sign itself, and spaces at the ends."""
    encoded = quote(value, safe=_READABLE)
    kept = encoded.strip(" ")
    return encoded if kept == encoded else quote(value, safe=_READABLE[:-1])
