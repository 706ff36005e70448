"""Refuses to serve where a parser of HTTP has fallen back to plain Python without a word.

aiohttp reads the control listener's requests and the answers to health checks. Where its C extension cannot be imported
(no wheel for this Python, a library that is missing, AIOHTTP_NO_EXTENSIONS) it takes a parser of its own in Python,
which is lenient in other places, has had advisories of its own, and which none of our tests has read with. Invariant:
each process that lets aiohttp parse asks here before it says that it is ready, so such an installation does not start.

What was imported is looked at, not what is installed: a file that is there and cannot be loaded falls back all the
same. Of the others none falls back in silence: without their extensions the imports of hiredis, uvloop, orjson and
pydantic fail; what else has a plain half (multidict, yarl, SQLAlchemy) reads no message of a stranger. Our own readers
are the same files compiled or not (docs/compilation.md), so `gateway run` says which it is and goes on.
"""

from gateway.errors import GatewayError

_LOST = (
    "aiohttp runs without its C extension, and its parser in Python reads HTTP in another way. "
    "Unset AIOHTTP_NO_EXTENSIONS if it is set; else install aiohttp's wheel for this Python and platform: "
    "pip install --force-reinstall --only-binary aiohttp aiohttp"
)


def require_http_parsers() -> None:
    """Raise GatewayError with what to do, unless aiohttp's compiled parsers are the ones in use."""
    from aiohttp import http_parser  # noqa: PLC0415 - who asks has loaded it by then, at a moment of its own choice

    requests = http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    responses = http_parser.HttpResponseParser is not http_parser.HttpResponseParserPy
    if not (requests and responses):
        raise GatewayError(_LOST, code="parser_not_compiled")
