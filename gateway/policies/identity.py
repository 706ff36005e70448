"""The fields by which an upstream learns whose key a request came with.

Invariant: values are visible ASCII whatever a name holds (percent-encoded UTF-8, RFC 3986 section 2.1), so no name can
end a field or start another one. Names of the fields follow Kong, whose plugins' users expect them.
"""

from urllib.parse import quote

from gateway.keys.record import CredentialRecord

_READABLE = "!#$&'()*+,/:;=?@[]^`{|}~ "


def identity_fields(record: CredentialRecord) -> bytes:
    """The fields of one key as lines, joined with CRLF."""
    fields = {
        "X-Consumer-ID": record.owner_id,
        "X-Consumer-Username": record.owner_name,
        "X-Consumer-Custom-ID": record.owner_external_id,
        "X-Credential-Identifier": record.key_id,
        "X-Organization-ID": record.organization_id,
    }
    return b"\r\n".join(f"{name}: {_visible(value)}".encode() for name, value in fields.items() if value is not None)


ANONYMOUS_FIELDS = b"X-Anonymous-Consumer: true"
"""For a request without a key on a route where a key is optional."""


def _visible(value: str) -> str:
    """Percent-encode what is not visible ASCII, the percent sign itself, and spaces at the ends."""
    encoded = quote(value, safe=_READABLE)
    kept = encoded.strip(" ")
    return encoded if kept == encoded else quote(value, safe=_READABLE[:-1])
