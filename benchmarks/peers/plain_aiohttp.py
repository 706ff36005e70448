"""The plain aiohttp proxy as a peer: the alternative that needs no gateway, only an afternoon."""

import sys

from benchmarks.known_keys import as_json
from benchmarks.peers.peer import Peer, Promise, Site


def _command(site: Site) -> list[str]:
    keys = site.directory / "keys.json"
    keys.write_text(as_json(site.keys))
    upstream = f"http://127.0.0.1:{site.upstream_port}"
    return [sys.executable, "-m", "benchmarks.peers.plain_aiohttp_proxy", str(site.port), upstream, str(keys)]


PLAIN_AIOHTTP = Peer(
    "plain-aiohttp",
    "plain aiohttp proxy",
    frozenset({Promise.CONSUMER_HEADER, Promise.HIDES_CREDENTIAL}),
    lambda: None,
    _command,
)
