"""What reading a request's head costs: our strict reader beside llhttp (httptools).

    python -m benchmarks.read_heads

Each reads the same three heads to the same result: method, target, version, the fields that travel on as bytes, and the
credential taken out. llhttp leaves more to be judged afterwards (duplicates, the host, framing beside
framing, nominated fields), which is not counted here. Two credentials take turns, so that a remembered line does not
make the whole head a known one.
"""

import itertools
import timeit
from collections.abc import Callable
from typing import Final

import httptools

from gateway.proxy.request_head import read_request_head

_SECRETS: Final = (b"sk_" + b"A1b2C3" * 8 + b"x", b"sk_" + b"Z9y8X7" * 8 + b"w")
_FIELDS: Final = {
    "no more than needed": b"Host: 127.0.0.1:8080\r\n",
    "curl": b"Host: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n",
    "browser": b"Host: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: application/json\r\nAccept-Language: en-GB,en;q=0.7\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://app.example.com/items\r\nOrigin: https://app.example.com\r\nConnection: keep-alive\r\n"
    b"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\nPriority: u=4\r\n",
}
_ROUNDS: Final = 7
_READS: Final = 10_000


class _Llhttp:
    """Collects what the callbacks report, keeping the parser from request to request as a server would."""

    def __init__(self) -> None:
        self.fields: list[bytes] = []
        self.secret = b""
        self.target = b""
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, target: bytes) -> None:
        self.target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-api-key":
            self.secret = value
        else:
            self.fields += (name, b": ", value, b"\r\n")

    def read(self, head: bytes) -> None:
        self.fields = []
        self.parser.feed_data(head)
        self.parser.get_method()
        self.parser.get_http_version()
        b"".join(self.fields)


def _ours(head: bytes) -> None:
    read = read_request_head(head[:-4], 100)
    b"\r\n".join(read.forwarded)


def _microseconds(read: Callable[[bytes], None], heads: tuple[bytes, ...]) -> float:
    turns = itertools.cycle(heads)
    return min(timeit.repeat(lambda: read(next(turns)), number=_READS, repeat=_ROUNDS)) / _READS * 1e6


def main() -> None:
    """Print a table."""
    compiled = not hasattr(read_request_head, "__code__")
    print(f"µs per head, best of {_ROUNDS}; our reader is {'compiled' if compiled else 'plain Python'}")
    for name, fields in _FIELDS.items():
        heads = tuple(
            b"GET /v1/items/42?page=2 HTTP/1.1\r\n" + fields + b"X-API-KEY: " + secret + b"\r\n\r\n"
            for secret in _SECRETS
        )
        ours, llhttp = _microseconds(_ours, heads), _microseconds(_Llhttp().read, heads)
        print(f"{name:22} ours {ours:5.2f}   llhttp {llhttp:5.2f}   ratio {ours / llhttp:4.2f}")


if __name__ == "__main__":
    main()
