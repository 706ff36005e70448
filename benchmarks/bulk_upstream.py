"""An upstream for huge bodies: sends as many bytes as asked for, reads as many as come. A thread per connection.

    GET /<count>    `count` zero bytes, with a Content-Length
    POST /anything  reads the whole body, then answers with its length

nginx was turned down here: without a module that keeps bodies it answers a POST before having read it.

    python -m benchmarks.bulk_upstream PORT
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = bytes(262_144)


class BulkHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the number of bytes that the path names."""
        left = int(self.path.strip("/") or 0)
        self._head(left)
        while left > 0:
            left -= self.wfile.write(BLOCK[:left])

    def do_POST(self) -> None:
        """Read the body and tell its length."""
        expected = int(self.headers["Content-Length"])
        left, buffer = expected, memoryview(bytearray(262_144))
        while left > 0:
            count = self.rfile.readinto(buffer[: min(left, len(buffer))])
            if not count:
                return
            left -= count
        told = str(expected).encode()
        self._head(len(told))
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Keep quiet."""

    def _head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()


def main() -> None:
    """Serve until killed."""
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), BulkHandler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
