"""Finds ordinary fields of a request by their name.

Invariant: a name is found in every spelling that some server behind the gateway may take for it: in any case, and with
`_` for `-`, which WSGI and CGI cannot tell apart. Only what some routes or keys ask for is looked up like this; what
every request needs is sorted out while its head is read.
"""


def values(lines: list[bytes], name: bytes) -> list[bytes]:
    """The values of the field `name` (lower-case, with hyphens) in lines written as `name: value`."""
    size = len(name)
    return [
        line[size + 2 :]
        for line in lines
        if line[size : size + 1] == b":" and line[:size].lower().replace(b"_", b"-") == name
    ]
